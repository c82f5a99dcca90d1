"""Features hook in beside the application, in any order, and whatever the application overrides."""

import ast
import inspect
import re
import textwrap
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Request, Response

import fastapi_users
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend, BearerTransport
from fastapi_users.features.sessions import RefreshTokenStrategy, get_sessions_router
from fastapi_users.features.throttle import Throttle, get_throttled_router
from fastapi_users.testing import weak_password_helper
from tests.features.sessions.application import SessionRow
from tests.toy import SecondToyMixin, ToyMixin, ToyPIN, get_toy_router
from tests.world import PASSWORD, SECRET, OneTimeSecret, User, UserCreate, UserManager, UserRead, UserUpdate, World

PACKAGE = Path(fastapi_users.__file__).parent  # of the source, or installed from a wheel
EMAIL = "ann@example.org"
CREDENTIALS = {"username": EMAIL, "password": PASSWORD}
SEAMS = {
    "before credentials",
    "credentials failed",
    "before session",
    "after login",
    "credentials changed",
    "before delete",
    "event",
}


class OverridesEverything(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """Every public hook, without ``super()``: as upstream teaches."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET

    def __init__(self, user_db: Any, world: World) -> None:
        super().__init__(user_db, weak_password_helper())
        self.world = world

    def note(self, hook: str) -> None:
        self.world.hooks.append((hook,))

    async def validate_password(self, password: str, user: Any) -> None:
        self.note("validate_password")

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        self.note("on_after_register")

    async def on_after_update(self, user: User, update_dict: dict[str, Any], request: Request | None = None) -> None:
        self.note("on_after_update")

    async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None:
        self.note("on_after_request_verify")

    async def on_after_verify(self, user: User, request: Request | None = None) -> None:
        self.note("on_after_verify")

    async def on_after_forgot_password(self, user: User, token: str, request: Request | None = None) -> None:
        self.note("on_after_forgot_password")

    async def on_after_reset_password(self, user: User, request: Request | None = None) -> None:
        self.note("on_after_reset_password")

    async def on_after_password_changed(self, user: User, request: Request | None = None) -> None:
        self.note("on_after_password_changed")

    async def on_after_email_changed(self, user: User, old_email: str, request: Request | None = None) -> None:
        self.note("on_after_email_changed")

    async def on_after_duplicate_registration(self, user: User, request: Request | None = None) -> None:
        self.note("on_after_duplicate_registration")
        raise OSError

    async def on_after_failed_login(self, email: str, user: User | None, request: Request | None = None) -> None:
        self.note("on_after_failed_login")

    async def on_background_error(self, error: Exception, request: Request | None = None) -> None:
        self.note("on_background_error")

    async def on_after_login(
        self, user: User, request: Request | None = None, response: Response | None = None
    ) -> None:
        self.note("on_after_login")

    async def on_after_reauthenticate(
        self, user: User, request: Request | None = None, response: Response | None = None
    ) -> None:
        self.note("on_after_reauthenticate")

    async def on_before_delete(self, user: User, request: Request | None = None) -> None:
        self.note("on_before_delete")

    async def on_after_delete(self, user: User, request: Request | None = None) -> None:
        self.note("on_after_delete")


def manager_with(*bases: type[Any], log: list[tuple[Any, ...]]) -> type[Any]:
    settings = {"toy_model": ToyPIN, "one_time_secret_model": OneTimeSecret, "toy_log": log}
    return type("Manager", bases, settings)


@pytest.fixture
def log() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
async def world(tmp_path: Path, log: list[tuple[Any, ...]]) -> AsyncIterator[World]:
    manager_class = manager_with(ToyMixin, OverridesEverything, log=log)
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=manager_class) as world:
        for backend in (world.bearer, world.cookie):
            world.app.include_router(get_toy_router(world.fastapi_users, backend), prefix=f"/auth/{backend.name}")
        yield world


async def set_pin(world: World, user: User, pin: str = "1234") -> None:
    async with world.session_maker() as session:
        session.add(ToyPIN(user_id=user.id, pin=pin))
        await session.commit()


async def test_an_application_that_overrides_every_hook_switches_no_feature_off(
    world: World, log: list[tuple[Any, ...]]
) -> None:
    post = world.client.post
    neutral = world.fastapi_users.get_register_router(UserRead, UserCreate, neutral=True)
    world.app.include_router(neutral, prefix="/neutral")
    registered = (await post("/auth/register", json={"email": EMAIL, "password": PASSWORD})).json()
    assert (await post("/neutral/register", json={"email": EMAIL, "password": PASSWORD})).status_code == 202
    await post("/auth/request-verify-token", json={"email": EMAIL})
    await post("/auth/forgot-password", json={"email": EMAIL})
    assert (await post("/auth/jwt/login", data={**CREDENTIALS, "password": "wrong"})).status_code == 400
    headers = await world.log_in()
    await post("/auth/jwt/reauthenticate", json={"password": PASSWORD}, headers=headers)
    await world.client.patch("/users/me", json={"email": "new@example.org", "password": "new"}, headers=headers)
    await world.insert_user("root@example.org", is_superuser=True)
    headers = await world.log_in("root@example.org")
    assert (await world.client.delete(f"/users/{registered['id']}", headers=headers)).status_code == 204

    assert {entry[0] for entry in log} == SEAMS
    assert [entry[1] for entry in log if entry[0] == "event"] == [
        "registered",
        "verification_requested",
        "password_reset_requested",
        "login_failed",
        "logged_in",
        "reauthenticated",
        "password_changed",
        "email_changed",
        "logged_in",
        "deleted",
    ]
    assert ("credentials failed", "pwd", EMAIL) in log
    assert ("credentials changed", "email", "password") in log
    assert ("before delete", "new@example.org") in log
    assert {hook for (hook,) in world.hooks} == {
        "validate_password",
        "on_after_register",
        "on_after_duplicate_registration",
        "on_background_error",
        "on_after_request_verify",
        "on_after_forgot_password",
        "on_after_failed_login",
        "on_after_login",
        "on_after_reauthenticate",
        "on_after_update",
        "on_after_password_changed",
        "on_after_email_changed",
        "on_before_delete",
        "on_after_delete",
    }


async def test_the_other_hooks_fire_beside_the_seams_as_well(world: World, log: list[tuple[Any, ...]]) -> None:
    user = await world.insert_user()
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        tokens: dict[str, str] = {}

        async def keep(kind: str, token: str) -> None:
            tokens[kind] = token

        manager.on_after_request_verify = lambda user, token, request: keep("verify", token)
        manager.on_after_forgot_password = lambda user, token, request: keep("reset", token)
        user = await manager.get(user.id)
        await manager.request_verify(user)
        await manager.verify(tokens["verify"])
        await manager.forgot_password(user)
        await manager.reset_password(tokens["reset"], "another")

    assert [hook for (hook,) in world.hooks] == [
        "on_after_verify",
        "validate_password",
        "on_after_reset_password",
        "on_after_password_changed",
    ]
    assert [entry for entry in log if entry[0] != "event"] == [("credentials changed", "password")]
    assert ("event", "verified") in log
    assert ("event", "password_changed") in log


@pytest.mark.parametrize("mixins", list(permutations([ToyMixin, SecondToyMixin, UserManager])))
async def test_the_order_of_the_mixins_does_not_matter(tmp_path: Path, mixins: tuple[type[Any], ...]) -> None:
    log: list[tuple[Any, ...]] = []
    manager_class = manager_with(*mixins, log=log)
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=manager_class) as world:
        world.app.include_router(get_toy_router(world.fastapi_users, world.bearer), prefix="/auth/jwt")
        user = await world.insert_user()
        await world.log_in()
        await set_pin(world, user)
        challenged = await world.client.post("/auth/jwt/login", data=CREDENTIALS)
        assert challenged.status_code == 202
        ticket = challenged.json()["challenge"]["id"]
        finished = await world.client.post("/auth/jwt/toy", json={"ticket": ticket, "pin": "1234"})
        assert set(finished.json()) == {"access_token", "token_type"}

        await world.insert_user("banned@example.org")
        banned = await world.client.post("/auth/jwt/login", data={**CREDENTIALS, "username": "banned@example.org"})
        assert (banned.status_code, banned.json()) == (403, {"detail": "TOY_BANNED"})

    assert [entry for entry in log if entry[0] == "after login"] == [
        ("after login", ("pwd",)),
        ("after login", ("pwd", "pin")),
    ]
    assert world.hooks == [("logged in", EMAIL), ("logged in", EMAIL)]


def features() -> list[type[Any]]:
    """The mixin of every feature folder, and the toys."""
    modules = [
        import_module(f"fastapi_users.features.{path.parent.name}.manager")
        for path in sorted((PACKAGE / "features").glob("*/manager.py"))
    ]
    mixins = [value for module in modules for name, value in vars(module).items() if name.endswith("Mixin")]
    return [*mixins, ToyMixin, SecondToyMixin]


def some_orders() -> Iterator[tuple[type[Any], ...]]:
    """Each feature first, last and between, and every two of them in both orders."""
    for order in (features(), features()[::-1]):
        for start in range(len(order)):
            yield (*order[start:], *order[:start])


@asynccontextmanager
async def full_world(folder: Path, mixins: tuple[type[Any], ...]) -> AsyncIterator[World]:
    """A manager with every feature there is, and a backend with refresh tokens."""
    settings = {
        "toy_model": ToyPIN,
        "toy_log": [],
        "one_time_secret_model": OneTimeSecret,
        "sessions_model": SessionRow,
        "throttle": Throttle("memory://"),
        "trusted_proxies": (),
    }
    manager_class = type("Manager", (*mixins, UserManager), settings)
    async with World.on(f"sqlite+aiosqlite:///{folder / 'x.db'}", manager_class=manager_class) as world:

        def get_strategy(user_manager: Any = Depends(world.make_manager)) -> RefreshTokenStrategy[User, uuid.UUID]:
            return RefreshTokenStrategy(user_manager, SECRET)

        backend = AuthenticationBackend[User, uuid.UUID]("full", BearerTransport("auth/login"), get_strategy)
        users = FastAPIUsers[User, uuid.UUID](world.make_manager, [backend])
        world.app = FastAPI()
        for prefix, router in (
            ("/auth", users.get_auth_router(backend)),
            ("/auth", get_sessions_router(users, backend)),
            ("/auth", get_toy_router(users, backend)),
            ("/users", users.get_users_router(UserRead, UserUpdate)),
        ):
            world.app.include_router(get_throttled_router(users, router), prefix=prefix)
        async with world.new_client() as world.client:
            yield world


@pytest.mark.parametrize("mixins", list(some_orders()), ids=lambda mixins: " ".join(each.__name__ for each in mixins))
async def test_all_features_together_work_in_any_order(tmp_path: Path, mixins: tuple[type[Any], ...]) -> None:
    async with full_world(tmp_path, mixins) as world, world.new_client() as stranger:
        post = world.client.post
        user = await world.insert_user()
        await set_pin(world, user)

        async def log_in(password: str = PASSWORD) -> dict[str, str]:
            challenged = await post("/auth/login", data={**CREDENTIALS, "password": password})
            assert challenged.status_code == 202, challenged.text
            step = {"ticket": challenged.json()["challenge"]["id"], "pin": "1234"}
            finished = await post("/auth/toy", json=step)
            assert set(finished.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}
            tokens: dict[str, str] = finished.json()
            return tokens

        # Half a login is no failure: five of these would be too many.
        sessions = [await log_in() for _ in range(6)]
        answer = await post("/auth/refresh", json={"refresh_token": sessions[0]["refresh_token"]})
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert len((await world.client.get("/auth/sessions", headers=headers)).json()) == 6

        await world.insert_user("banned@example.org")
        banned = await stranger.post("/auth/login", data={**CREDENTIALS, "username": "banned@example.org"})
        assert (banned.status_code, banned.json()) == (403, {"detail": "TOY_BANNED"})
        blocked = await stranger.post("/auth/login", data={**CREDENTIALS, "username": "blocked@example.org"})
        assert (blocked.status_code, blocked.json()) == (429, {"detail": "TOY_BLOCKED"})

        guesses = [await stranger.post("/auth/login", data={**CREDENTIALS, "password": "wrong"}) for _ in range(6)]
        assert [guess.status_code for guess in guesses] == [400] * 5 + [429]
        assert (await stranger.post("/auth/login", data=CREDENTIALS)).status_code == 429
        await log_in()  # from a device that is known

        changed = await world.client.patch("/users/me", json={"password": "another horse battery"}, headers=headers)
        assert changed.status_code == 200, changed.text
        answer = await post("/auth/refresh", json={"refresh_token": sessions[1]["refresh_token"]})
        assert (answer.status_code, answer.json()) == (400, {"detail": "SESSIONS_BAD_REFRESH_TOKEN"})
        await log_in("another horse battery")

        async with world.session_maker() as session:
            manager = world.make_manager(session)
            await manager.delete(await manager.get(user.id))
            assert await manager.user_db.store(SessionRow).list({}) == []
            assert await manager.user_db.store(ToyPIN).list({}) == []


async def test_a_seam_refuses_before_a_password_is_looked_at(world: World, log: list[tuple[Any, ...]]) -> None:
    await world.insert_user("blocked@example.org")

    answer = await world.client.post("/auth/jwt/login", data={**CREDENTIALS, "username": "blocked@example.org"})

    assert (answer.status_code, answer.json()) == (429, {"detail": "TOY_BLOCKED"})
    assert log == [("before credentials", "pwd", "blocked@example.org")]


async def test_rows_of_features_and_one_time_secrets_go_with_the_user(world: World) -> None:
    user = await world.insert_user()
    await set_pin(world, user)
    assert (await world.client.post("/auth/jwt/login", data=CREDENTIALS)).status_code == 202

    async with world.session_maker() as session:
        manager = world.make_manager(session)
        await manager.delete(await manager.get(user.id))
        assert await manager.user_db.store(ToyPIN).list({}) == []
        assert await manager.user_db.store(OneTimeSecret).list({}) == []


async def test_a_user_that_is_not_deleted_after_all_keeps_the_rows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await world.insert_user()
    await set_pin(world, user)
    async with world.session_maker() as session:
        manager = world.make_manager(session)

        async def fail(user: User) -> None:
            raise OSError

        monkeypatch.setattr(manager.user_db, "delete", fail)
        with pytest.raises(OSError):
            await manager.delete(await manager.get(user.id))

    async with world.session_maker() as session:
        assert await session.get(ToyPIN, user.id) is not None


@pytest.mark.parametrize("missing", ["toy_model", "one_time_secret_model"])
def test_a_feature_without_its_settings_is_one_readable_error_when_the_class_is_made(missing: str) -> None:
    settings = {"toy_model": ToyPIN, "one_time_secret_model": OneTimeSecret, missing: None}

    with pytest.raises(TypeError, match=f"Manager uses ToyMixin: set {missing} in it"):
        type("Manager", (ToyMixin, UserManager), settings)


async def test_a_change_of_a_factor_is_a_change_of_credentials(world: World, log: list[tuple[Any, ...]]) -> None:
    user = await world.insert_user()
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        await manager.set_toy_pin(await manager.get(user.id), "1234")

        assert await manager._seam_factors(user) == ["pwd", "pin"]
    assert log == [("credentials changed", "pin")]


# The rules of the house for features


THE_SEAMS = {
    "_seam_before_credentials",
    "_seam_credentials_failed",
    "_seam_before_session",
    "_seam_after_login",
    "_seam_factors",
    "_seam_credentials_changed",
    "_seam_before_delete",
    "_seam_event",
}


def broken_rules(mixins: list[type[Any]]) -> Iterator[str]:
    for mixin in mixins:
        for name, function in own_functions(mixin):
            if name.startswith("_seam_") and not awaits_super(function, name):
                yield f"{mixin.__name__}.{name} does not await super()"
            if not name.startswith("_") and hasattr(BaseUserManager, name):
                yield f"{mixin.__name__}.{name} overrides a public method"
    for one, other in combinations(mixins, 2):
        shared = own_names(one) & own_names(other)
        if shared:
            yield f"{one.__name__} and {other.__name__} both define {', '.join(sorted(shared))}"


def own_functions(mixin: type[Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(mixin).items() if inspect.isfunction(value)]


def own_names(mixin: type[Any]) -> set[str]:
    """What is neither a seam nor Python's, nor declares what the application has to set."""
    names = {*vars(mixin), *mixin.__annotations__} - {"_required_settings"}
    return {name for name in names if not name.startswith(("_seam_", "__", "_abc_", "_is_protocol"))}


def awaits_super(function: Any, name: str) -> bool:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    awaited = [ast.unparse(node.value) for node in ast.walk(tree) if isinstance(node, ast.Await)]
    return any(call.startswith(f"super().{name}(") for call in awaited)


def test_the_list_of_seams_is_closed() -> None:
    """A ninth seam is a decision about architecture: see DESIGN.md."""
    assert {name for name in vars(BaseUserManager) if name.startswith("_seam_")} == THE_SEAMS
    mentioned = {name for path in PACKAGE.rglob("*.py") for name in re.findall(r"\b_seam_\w+", path.read_text("utf-8"))}
    assert mentioned - {"_seam_"} == THE_SEAMS


def test_every_feature_keeps_the_rules() -> None:
    assert list(broken_rules(features())) == []
    assert {name for mixin in features() for name, _ in own_functions(mixin)} >= THE_SEAMS


def test_a_feature_that_breaks_the_rules_is_found() -> None:
    class Careless(BaseUserManager[Any, Any]):
        careless_setting = 1

        async def _seam_event(self, event: Any) -> None: ...

        async def on_after_login(self, user: Any, request: Any = None, response: Any = None) -> None: ...

    class Alike(BaseUserManager[Any, Any]):
        careless_setting = 2

    assert list(broken_rules([Careless, Alike])) == [
        "Careless._seam_event does not await super()",
        "Careless.on_after_login overrides a public method",
        "Careless and Alike both define careless_setting",
    ]
