"""What FastAPI resolves for an authenticator, at less cost than by asking for each part as upstream does.

The signature that the contract knows asks for a manager, and with it for a session, before anybody looks whether a token
came; it runs every plain ``get_strategy`` in a thread; and it gives no place where several dependencies of one request
could share a user.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import update_wrapper
from inspect import Parameter, Signature
from typing import Any, NamedTuple

from fastapi import Depends, HTTPException
from fastapi.requests import HTTPConnection

from fastapi_users.authentication.backend import AuthenticationBackend
from fastapi_users.db.base import BaseUserDatabase


class Tokens(NamedTuple):
    """What the transports found, under the variable names of their backends, and where the request keeps things."""

    by_name: dict[str, str | None]
    scope: Any


class TokensDependency:
    """Reads the transports, which FastAPI resolves for it as ever, so that they can be overridden and are documented.

    Two for the same authenticator are one to FastAPI, which runs it once per request.

    :param refuse: gives the refusal of a request without any token; ``None`` goes on.
    """

    def __init__(
        self,
        owner: object,
        schemes: Mapping[str, Callable[..., Any]],
        refuse: Callable[[dict[str, str | None]], HTTPException | None] | None,
    ) -> None:
        self._refuse = refuse
        self._key = (id(owner), refuse is None, *schemes.items())
        self._owner = owner  # whose id stays taken as long as this lives
        connection = Parameter("connection_with_tokens", Parameter.KEYWORD_ONLY, annotation=HTTPConnection)
        self.__signature__ = Signature(
            [connection, *(Parameter(name, Parameter.KEYWORD_ONLY, default=Depends(schemes[name])) for name in schemes)]
        )

    async def __call__(self, *, connection_with_tokens: HTTPConnection, **tokens: str | None) -> Tokens:
        if self._refuse is not None and all(token is None for token in tokens.values()):
            refusal = self._refuse(tokens)
            if refusal is not None:
                raise refusal
        return Tokens(tokens, connection_with_tokens.scope)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokensDependency) and self._key == other._key


class Inlined:
    """A plain function as a dependency that runs on the event loop, and not in a thread, which costs many times more.

    To FastAPI it is the function: the same parameters, the same key for ``dependency_overrides``, and one result in a
    request whoever asks.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self._function = function
        # Where FastAPI looks up annotations that are texts; its newer versions unwrap the function first.
        self.__globals__ = getattr(inspect.unwrap(function), "__globals__", {})

    async def __call__(self, **values: Any) -> Any:
        return self._function(**values)

    def __hash__(self) -> int:
        return hash(self._function)

    def __eq__(self, other: object) -> bool:
        return bool(self._function == (other._function if isinstance(other, Inlined) else other))


def strategy_dependency(backend: AuthenticationBackend[Any, Any]) -> Callable[..., Any]:
    """``get_strategy``, run on the event loop if it is a plain function and not said to block."""
    get_strategy: Any = backend.get_strategy
    is_inlined = _is_plain(get_strategy) and not getattr(backend, "get_strategy_blocks", False)
    return Inlined(get_strategy) if is_inlined else get_strategy


def _is_plain(function: Callable[..., Any]) -> bool:
    return all(
        (inspect.isfunction(layer) or inspect.ismethod(layer))
        and not (
            inspect.iscoroutinefunction(layer)
            or inspect.isgeneratorfunction(layer)
            or inspect.isasyncgenfunction(layer)
        )
        for layer in (function, inspect.unwrap(function))
    )


class Session(NamedTuple):
    """Who was found, by which token of which strategy."""

    user: Any
    token: str
    strategy: Any


_SESSIONS = "fastapi_users.sessions"


async def find_once(
    scope: Any,
    user_manager: Any,
    candidates: Sequence[tuple[Any, str]],
    find: Callable[[Sequence[tuple[Any, str]], Any], Awaitable[Session | None]],
) -> Session | None:
    """The session that was found before in this request, if it was asked for in the very same way.

    The same manager, the same strategies in the same order, the same tokens: reading them again would tell nothing new.
    Whether its user may pass is asked by each dependency anew.

    :param candidates: the strategies and tokens among which ``find`` finds it.
    """
    known: dict[Any, Any] = scope.setdefault(_SESSIONS, {})
    # Of objects that the entry keeps alive, so that no others get their ids.
    key = (id(user_manager), *((id(strategy), token) for strategy, token in candidates))
    if key in known:
        session: Session = known[key][0]
        user_db = getattr(user_manager, "user_db", None)
        if not isinstance(user_db, BaseUserDatabase) or user_db.is_at_hand(session.user):
            return session
    found = await find(candidates, user_manager)
    if found is not None:
        known[key] = (found, user_manager, candidates)
    return found
