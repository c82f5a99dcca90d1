"""The user of a request by one callable, which opens what it needs itself, and only if a token came."""

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature, unwrap
from typing import Any, Literal, TypeVar, overload

from fastapi import Request
from fastapi.security.base import SecurityBase

from fastapi_users import models
from fastapi_users.authentication.authenticator import Authenticator, name_to_variable_name
from fastapi_users.authentication.backend import AuthenticationBackend
from fastapi_users.authentication.resolution import Session
from fastapi_users.authentication.strategy import Strategy
from fastapi_users.authentication.transport.base import read_token
from fastapi_users.authentication.transport.cross_site import CROSS_SITE_TOKEN
from fastapi_users.manager import BaseUserManager

S = TypeVar("S")


@overload
def direct_user(
    backend: AuthenticationBackend[models.UP, models.ID],
    open_session: Callable[[], AbstractAsyncContextManager[S]],
    *,
    make_user_manager: Callable[[S], BaseUserManager[models.UP, models.ID]],
    make_strategy: Callable[[S], Strategy[models.UP, models.ID]] | None = None,
    optional: Literal[False] = False,
    active: bool = False,
    verified: bool = False,
    superuser: bool = False,
    fresh: float | None = None,
) -> Callable[[Request], Coroutine[Any, Any, models.UP]]: ...


@overload
def direct_user(
    backend: AuthenticationBackend[models.UP, models.ID],
    open_session: Callable[[], AbstractAsyncContextManager[S]],
    *,
    make_user_manager: Callable[[S], BaseUserManager[models.UP, models.ID]],
    make_strategy: Callable[[S], Strategy[models.UP, models.ID]] | None = None,
    optional: bool,
    active: bool = False,
    verified: bool = False,
    superuser: bool = False,
    fresh: float | None = None,
) -> Callable[[Request], Coroutine[Any, Any, models.UP | None]]: ...


def direct_user(
    backend: AuthenticationBackend[models.UP, models.ID],
    open_session: Callable[[], AbstractAsyncContextManager[S]],
    *,
    make_user_manager: Callable[[S], BaseUserManager[models.UP, models.ID]],
    make_strategy: Callable[[S], Strategy[models.UP, models.ID]] | None = None,
    optional: bool = False,
    active: bool = False,
    verified: bool = False,
    superuser: bool = False,
    fresh: float | None = None,
) -> Callable[[Request], Coroutine[Any, Any, Any]]:
    """A dependency with the answers of ``current_user``, past FastAPI's other dependencies, for two thirds of their
    instructions.

    Not for WebSockets, where a cookie has to be asked for its origin: see ``current_websocket_user``.

    It gives up what those are for: ``dependency_overrides`` know the result itself and nothing that is used inside, and
    the user is of a session that is closed again.

    :param open_session: an ``async_sessionmaker``, or anything else to be opened for a token by ``async with``.
    :param make_strategy: needed where ``get_strategy`` of the backend has parameters, or is a coroutine function or a
        generator, which only FastAPI resolves.
    :raises TypeError: it is needed, and is not there.
    """
    if make_strategy is None:
        _refuse_what_cannot_be_called(backend)
    get_backend_strategy: Callable[[], Any] = backend.get_strategy
    flags: dict[str, Any] = {"optional": optional, "active": active, "verified": verified, "superuser": superuser}
    return _DirectUser(
        backend,
        open_session,
        make_user_manager,
        make_strategy or (lambda _: get_backend_strategy()),
        flags if fresh is None else {**flags, "fresh": fresh},
    )


class _DirectUser(SecurityBase):
    """A security scheme, so that the OpenAPI document tells of the one whose tokens it reads."""

    def __init__(
        self,
        backend: AuthenticationBackend[Any, Any],
        open_session: Callable[[], AbstractAsyncContextManager[Any]],
        make_user_manager: Callable[[Any], BaseUserManager[Any, Any]],
        make_strategy: Callable[[Any], Any],
        flags: dict[str, Any],
    ) -> None:
        self.model = backend.transport.scheme.model
        self.scheme_name = backend.transport.scheme.scheme_name
        self._transport = backend.transport
        self._open_session = open_session
        self._make_user_manager = make_user_manager
        self._make_strategy = make_strategy
        self._flags = flags
        self._name = name_to_variable_name(backend.name)
        self._authenticator = Authenticator([backend], make_user_manager)  # which it never calls

    async def __call__(self, request: Request) -> Any:
        token = await read_token(self._transport, request)
        if token is None or token is CROSS_SITE_TOKEN:
            return await self._decide(None, token, None)
        async with self._open_session() as session:
            user_manager = self._make_user_manager(session)
            strategy = self._make_strategy(session)
            user = await strategy.read_token(token, user_manager)
            return await self._decide(Session(user, token, strategy) if user else None, token, user_manager)

    async def _decide(self, session: Session | None, token: str | None, user_manager: Any) -> Any:
        user, _ = await self._authenticator._decide(  # noqa: SLF001 -- the same decision in another place
            session, {self._name: token}, user_manager=user_manager, **self._flags
        )
        return user


def _refuse_what_cannot_be_called(backend: AuthenticationBackend[Any, Any]) -> None:
    get_strategy: Any = unwrap(backend.get_strategy)
    layers = (get_strategy, type(get_strategy).__call__)  # of an object that is called like a function
    kinds = (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)
    if signature(backend.get_strategy).parameters:
        reason = "has parameters"
    elif any(is_one(layer) for layer in layers for is_one in kinds):
        reason = "is a coroutine function or a generator"
    else:
        return
    raise TypeError(
        f"get_strategy of the backend {backend.name!r} {reason}, which only FastAPI resolves: give direct_user(…) a "
        "make_strategy, which gets the session."
    )
