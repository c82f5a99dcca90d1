import inspect
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from fastapi_users import FastAPIUsers, schemas
from fastapi_users.authentication import Authenticator
from tests.world import SECRET, Provider, UserRead, World


def routes_of(router: APIRouter) -> list[tuple[str, str]]:
    return [(route.name, route.path) for route in router.routes if isinstance(route, APIRoute)]


async def test_every_method_makes_the_router_of_its_name(world: World) -> None:
    users = world.fastapi_users

    assert routes_of(users.get_register_router(UserRead, schemas.BaseUserCreate)) == [
        ("register:register", "/register")
    ]
    assert routes_of(users.get_verify_router(UserRead)) == [
        ("verify:request-token", "/request-verify-token"),
        ("verify:verify", "/verify"),
    ]
    assert routes_of(users.get_reset_password_router()) == [
        ("reset:forgot_password", "/forgot-password"),
        ("reset:reset_password", "/reset-password"),
    ]
    assert routes_of(users.get_auth_router(world.bearer)) == [
        ("auth:jwt.login", "/login"),
        ("auth:jwt.logout", "/logout"),
    ]
    assert routes_of(users.get_users_router(UserRead, schemas.BaseUserUpdate)) == [
        ("users:current_user", "/me"),
        ("users:patch_current_user", "/me"),
        ("users:user", "/{id}"),
        ("users:patch_user", "/{id}"),
        ("users:delete_user", "/{id}"),
    ]
    assert routes_of(users.get_oauth_router(Provider(), world.bearer, SECRET)) == [
        ("oauth:provider.jwt.authorize", "/authorize"),
        ("oauth:provider.jwt.callback", "/callback"),
    ]
    assert routes_of(users.get_oauth_associate_router(Provider(), UserRead, SECRET)) == [
        ("oauth-associate:provider.authorize", "/authorize"),
        ("oauth-associate:provider.callback", "/callback"),
    ]


def get_user_manager() -> Any:
    """Which these tests do without."""


def test_the_facade_keeps_what_it_was_given() -> None:
    users = FastAPIUsers[Any, Any](get_user_manager, [])

    assert users.get_user_manager is get_user_manager
    assert isinstance(users.authenticator, Authenticator)
    assert inspect.iscoroutinefunction(users.current_user(active=True))


@pytest.mark.parametrize("method", ["get_oauth_router", "get_oauth_associate_router"])
def test_without_httpx_oauth_the_oauth_routers_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "fastapi_users.router.oauth", raising=False)
    monkeypatch.setitem(sys.modules, "httpx_oauth.oauth2", None)
    users: Any = FastAPIUsers[Any, Any](get_user_manager, [])

    with pytest.raises(ModuleNotFoundError, match=r'pip install "fastapi-users\[oauth\]"'):
        getattr(users, method)(None, None, SECRET)
