from contextlib import suppress
from functools import cached_property, partial
from typing import Any, Generic, get_origin

from fastapi import Response, status

from fastapi_users import models
from fastapi_users.authentication.strategy import JWTStrategy, Strategy, StrategyDestroyNotSupportedError
from fastapi_users.authentication.transport import Transport, TransportLogoutNotSupportedError
from fastapi_users.types import DependencyCallable


class AuthenticationBackend(Generic[models.UP, models.ID]):
    """A transport and a strategy under a name, which must be unique among the backends of an application.

    ``get_strategy`` is a FastAPI dependency: the routes resolve it, the backend never calls it.

    :param get_strategy_blocks: it is a plain function that waits for something, a file or a network say. Without that, a
        plain function runs on the event loop when a token is read.
    """

    name: str
    transport: Transport
    get_strategy_blocks: bool = False  # also of a subclass with an __init__ of its own

    def __init__(
        self,
        name: str,
        transport: Transport,
        get_strategy: DependencyCallable[Strategy[models.UP, models.ID]],
        *,
        get_strategy_blocks: bool = False,
    ) -> None:
        """:raises TypeError: the transport is a class, the strategy is made already, or FastAPI would make a JWTStrategy from
        what a request says.
        """
        if isinstance(transport, type):
            raise TypeError(
                f"The backend {name!r} takes a transport, not a class of them: write {transport.__name__}(…)."
            )
        if not _is_dependency(get_strategy):
            made: Any = getattr(get_strategy, "func", get_strategy)
            kind = (made if isinstance(made, type) else type(made)).__name__
            raise TypeError(
                f"The backend {name!r} takes a function that makes the strategy, and calls it for every request: write "
                f"get_strategy=lambda: {kind}(…), or the name of a dependency without parentheses."
            )
        made = get_strategy.func if isinstance(get_strategy, partial) else get_strategy
        if (get_origin(made) or made) is JWTStrategy:
            # The parameters of a dependency come with the query: whoever sends a public_key makes tokens for every user.
            raise TypeError(
                f"The backend {name!r} would let a request choose the keys of its tokens: write "
                "get_strategy=lambda: JWTStrategy(…)."
            )
        self.name = name
        self.transport = transport
        self.get_strategy = get_strategy
        self.get_strategy_blocks = get_strategy_blocks

    @cached_property
    def login_openapi_extra(self) -> dict[str, Any]:
        """What the documents of the routes that log in say more; filled when a feature can interrupt a login."""
        return {"responses": {}}

    @cached_property
    def login_form_openapi_extra(self) -> dict[str, Any]:
        """The same for the one that takes the password in a form, of which a feature may read more."""
        return {**self.login_openapi_extra}

    async def login(self, strategy: Strategy[models.UP, models.ID], user: models.UP) -> Response:
        if strategy is None:
            raise TypeError(f"get_strategy of the backend {self.name!r} gave None: let it return the strategy.")
        return await self.transport.get_login_response(await strategy.write_token(user))

    async def logout(self, strategy: Strategy[models.UP, models.ID], user: models.UP, token: str) -> Response:
        with suppress(StrategyDestroyNotSupportedError):
            await strategy.destroy_token(token, user)
        try:
            return await self.transport.get_logout_response()
        except TransportLogoutNotSupportedError:
            return Response(status_code=status.HTTP_204_NO_CONTENT)


def _is_dependency(found: Any) -> bool:
    """As a class of strategies of ours is not, or a ``partial`` of it: FastAPI would take its settings from the request."""
    made = getattr(found, "func", found)
    return callable(found) and not (isinstance(made, type) and made.__module__.startswith("fastapi_users."))
