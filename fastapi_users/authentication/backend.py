from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from inspect import Parameter, Signature, signature
from typing import Any, Generic, get_origin

from fastapi import Response, params, status

from fastapi_users import models
from fastapi_users.authentication.strategy import Strategy, StrategyDestroyNotSupportedError
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
        """:raises TypeError: the transport is a class, or the strategy is one, or made already."""
        if isinstance(transport, type):
            raise TypeError(
                f"The backend {name!r} takes a transport, not a class of them: write {transport.__name__}(…)."
            )
        given: Any = get_strategy
        made = _class_of_ours(given)
        if not callable(given) or (made is not None and not _is_complete(given, made)):
            kind = (type(given) if made is None else made).__name__
            raise TypeError(
                f"The backend {name!r} takes a function that makes the strategy, and calls it for every request: write "
                f"get_strategy=lambda: {kind}(…), or the name of a dependency without parentheses."
            )
        self.name = name
        self.transport = transport
        self.get_strategy: DependencyCallable[Strategy[models.UP, models.ID]] = (
            get_strategy if made is None else _without_parameters(get_strategy)
        )
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


def _class_of_ours(get_strategy: Any) -> type[Any] | None:
    """The class of strategies that stands in the place of a dependency, or a ``partial`` of it, and takes its settings in a
    way of ours. FastAPI would take those that are missing from the query of each request, as it did for version 15: the
    keys of tokens, say.
    """
    made: Any = get_strategy.func if isinstance(get_strategy, partial) else get_strategy
    made = get_origin(made) or made
    init: Any = getattr(made, "__init__", None)
    is_ours = isinstance(made, type) and getattr(init, "__module__", "").startswith("fastapi_users.")
    return made if is_ours else None


def _is_complete(get_strategy: Any, made: type[Any]) -> bool:
    settings = get_strategy if isinstance(get_strategy, partial) else partial(get_strategy)
    try:
        signature(made).bind(*settings.args, **settings.keywords)
    except TypeError:
        return False
    return True


def _without_parameters(make: Any) -> Callable[..., Any]:
    """But for those that a ``partial`` gives as ``Depends(…)``."""

    def get_strategy(**solved: Any) -> Any:
        return make(**solved)

    solved_by_fastapi = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=value)
        for name, value in getattr(make, "keywords", {}).items()
        if isinstance(value, params.Depends)
    ]
    get_strategy.__signature__ = Signature(solved_by_fastapi)  # type: ignore[attr-defined]  # FastAPI reads it
    return get_strategy
