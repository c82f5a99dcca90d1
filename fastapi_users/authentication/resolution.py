"""What FastAPI resolves for an authenticator, at less cost than by asking for each part as upstream does.

The signature that the contract knows asks for a manager, and with it for a session, before anybody looks whether a token
came; it runs every plain ``get_strategy`` in a thread; and it gives no place where several dependencies of one request
could share a user.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache, update_wrapper
from inspect import Parameter, Signature
from typing import Any, NamedTuple, cast

from fastapi import HTTPException, Request
from fastapi.requests import HTTPConnection
from fastapi.security.base import SecurityBase

from fastapi_users.authentication.backend import AuthenticationBackend
from fastapi_users.db.base import is_adapter

_EMPTY = "fastapi_users.schemes_without_token"


class _StandIn:
    """To FastAPI it is what it wraps: the same key for ``dependency_overrides``, and one result in a request whoever asks."""

    def __init__(self, wrapped: Any) -> None:
        self.__wrapped__ = wrapped
        self._hash = hash(wrapped)  # FastAPI asks for it three times in each request

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        # Both at once: what FastAPI compares for its document is mostly two of these.
        return bool(self.__wrapped__ == (other.__wrapped__ if isinstance(other, _StandIn) else other))


class EarlyScheme(_StandIn, SecurityBase):
    """A scheme of an authenticator, also in the OpenAPI document; the last one refuses a request to which none of them
    gave a token.

    Where another asked first, or an override is in its place, nobody is refused here but later, by the authenticator.

    :param others: those before it; ``None`` where this is not the last one.
    """

    def __init__(self, scheme: Any, others: Sequence[Any] | None, refuse: Callable[[], HTTPException | None]) -> None:
        super().__init__(scheme)
        self.__signature__ = _SIGNATURES[_asks_for(cast("Any", type(scheme)))]
        self._others = others
        self._refuse = refuse

    @property
    def model(self) -> Any:  # type: ignore[override]  # of older versions of FastAPI, which do not unwrap
        return self.__wrapped__.model

    @property
    def scheme_name(self) -> Any:  # type: ignore[override]  # the same
        return self.__wrapped__.scheme_name

    async def __call__(self, *, connection: HTTPConnection) -> Any:
        token = await self.__wrapped__(connection)
        if token is None:
            empty: set[Any] = connection.scope.setdefault(_EMPTY, set())
            empty.add(self)
            is_refused = self._others is not None and empty.issuperset(self._others)
            refusal = self._refuse() if is_refused else None
            if refusal is not None:
                raise refusal
        return token


# What the scheme itself asks for: where that is a request, as in older versions of FastAPI, a WebSocket finds nobody by it.
_SIGNATURES = {
    asked_for: Signature([Parameter("connection", Parameter.KEYWORD_ONLY, annotation=asked_for)])
    for asked_for in (Request, HTTPConnection)
}


@lru_cache(maxsize=128)
def read_early(schemes: tuple[Any, ...], refuse: Callable[[], HTTPException | None]) -> Sequence[Callable[..., Any]]:
    """The schemes for a dependency that is of no use without a token; as they are, if one is not like those of FastAPI.

    The same objects for all dependencies of an authenticator: FastAPI looks closely at each that it does not know yet.
    """
    if not all(map(_asks_for, map(type, schemes))):
        return schemes
    *others, last = schemes
    return [*(EarlyScheme(scheme, None, refuse) for scheme in others), EarlyScheme(last, others, refuse)]


@lru_cache(maxsize=128)
def _asks_for(scheme: Any) -> Any:
    """``Request`` or ``HTTPConnection``; ``None`` if it is not like those of FastAPI, which ask for one of these only."""
    call = getattr(scheme, "__call__", None)  # noqa: B004 -- whether it is async
    if not issubclass(scheme, SecurityBase) or not inspect.iscoroutinefunction(call):
        return None
    annotations = [parameter.annotation for parameter in inspect.signature(call).parameters.values()]
    return annotations[1] if annotations[1:] in ([Request], [HTTPConnection]) else None


class Inlined(_StandIn):
    """A plain function as a dependency that runs on the event loop, and not in a thread, which costs many times more."""

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)  # for its parameters
        super().__init__(function)
        # Where FastAPI looks up annotations that are texts; its newer versions unwrap the function first.
        self.__globals__ = getattr(inspect.unwrap(function), "__globals__", {})

    async def __call__(self, **values: Any) -> Any:
        return self.__wrapped__(**values)


def strategy_dependency(backend: AuthenticationBackend[Any, Any]) -> Callable[..., Any]:
    """``get_strategy``, run on the event loop if it is a plain function and not said to block."""
    get_strategy: Any = backend.get_strategy
    dependency: Callable[..., Any] = get_strategy
    return dependency if getattr(backend, "get_strategy_blocks", False) else _inlined(dependency)


@lru_cache(maxsize=128)
def _inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    is_plain = all(
        (inspect.isfunction(layer) or inspect.ismethod(layer))
        and not (
            inspect.iscoroutinefunction(layer)
            or inspect.isgeneratorfunction(layer)
            or inspect.isasyncgenfunction(layer)
        )
        for layer in (function, inspect.unwrap(function))
    )
    return Inlined(function) if is_plain else function


class Session(NamedTuple):
    """Who was found, by which token of which strategy."""

    user: Any
    token: str
    strategy: Any


_SESSIONS = "fastapi_users.sessions"


class KnownSessions:
    """Of one request, so that it looks for its user once, however many dependencies ask.

    A session that was found before is found again if it is asked for in the very same way: with the same manager, the same
    strategies in the same order, the same tokens. Reading them again would tell nothing new. Whether its user may pass is
    asked by each dependency anew.

    :param candidates: the strategies and tokens among which it is found.
    """

    def __init__(self, scope: Any, user_manager: Any, candidates: Sequence[tuple[Any, str]]) -> None:
        self._known: dict[Any, Any] = scope.setdefault(_SESSIONS, {})
        self._asked = user_manager, candidates
        # Of objects that an entry keeps alive, so that no others get their ids. Tokens of FastAPI's HTTPBearer are no texts.
        self._key = (
            id(user_manager),
            *[(id(strategy), token if type(token) is str else id(token)) for strategy, token in candidates],
        )

    def get(self) -> Session | None:
        entry = self._known.get(self._key)
        if entry is None:
            return None
        session: Session = entry[0]
        user_db = getattr(self._asked[0], "user_db", None)
        return session if not is_adapter(user_db) or user_db.is_at_hand(session.user) else None

    def put(self, session: Session) -> None:
        self._known[self._key] = session, self._asked
