"""An application from outside of its requests, for commands, scripts and tests: its parts, and its dependencies solved."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import wraps
from importlib import import_module
from inspect import Parameter, Signature, isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from typing import Any, TypeVar

from fastapi import Depends, FastAPI, Response, params
from fastapi.routing import APIRoute
from pydantic.fields import FieldInfo

from fastapi_users.authentication import AuthenticationBackend
from fastapi_users.fastapi_users import FastAPIUsers
from fastapi_users.manager import BaseUserManager

R = TypeVar("R")


class ApplicationError(Exception):
    """The application cannot be used as it was named; the text says what to write."""


class Application:
    """The facade of an application, and the FastAPI that it is mounted in, where that is known.

    :param app: its lifespan, state and ``dependency_overrides`` count, as they do for its requests.
    """

    def __init__(self, fastapi_users: FastAPIUsers[Any, Any], app: FastAPI | None = None) -> None:
        self.fastapi_users = fastapi_users
        self.app = app
        self._state: dict[str, Any] = {}

    @property
    def backends(self) -> list[AuthenticationBackend[Any, Any]]:
        return list(self.fastapi_users.authenticator.backends)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Between start and end of the application, where its lifespan makes and closes what dependencies need."""
        if self.app is None:
            yield
            return
        failure: Exception | None = None
        async with self.app.router.lifespan_context(self.app) as state:
            self._state = dict(state or {})
            try:
                yield
            except Exception as error:  # noqa: BLE001 -- no server ends a lifespan so: what stands after its yield counts
                failure = error
        if failure is not None:
            raise failure

    async def call(self, function: Callable[..., Awaitable[R]]) -> R:
        """Call it as FastAPI calls a route: what has a ``Depends`` is solved, and closed afterwards.

        :raises ApplicationError: a dependency refuses, as one that wants something of a request does.
        """
        results: list[R] = []

        @wraps(function)
        async def endpoint(*args: Any, **kwargs: Any) -> Response:
            results.append(await function(*args, **kwargs))
            return Response(status_code=204)

        endpoint.__signature__ = signature(function)  # type: ignore[attr-defined]  # a function may have one
        caller = FastAPI(openapi_url=None)
        caller.add_api_route("/", endpoint, response_model=None)
        if self.app is not None:
            caller.state, caller.dependency_overrides = self.app.state, self.app.dependency_overrides
        answer = await _request(caller, self._state)
        if not results:
            raise ApplicationError(f"A dependency of the application refused a call without a request: {answer}")
        return results[0]

    async def call_with_parts(self, function: Callable[[Any, list[Any]], Awaitable[R]]) -> R:
        """With the user manager, and the strategies of the backends in their order."""

        async def with_parts(user_manager: Any, **strategies: Any) -> R:
            require_manager(user_manager)
            return await function(user_manager, list(strategies.values()))

        dependencies = {"user_manager": self.fastapi_users.get_user_manager} | {
            f"strategy_{number}": backend.get_strategy for number, backend in enumerate(self.backends)
        }
        with_parts.__signature__ = Signature(  # type: ignore[attr-defined]  # the same
            [
                Parameter(name, Parameter.KEYWORD_ONLY, default=Depends(dependency))
                for name, dependency in dependencies.items()
            ]
        )
        return await self.call(with_parts)


def require_manager(found: Any) -> None:
    """:raises ApplicationError: the dependency of the application gave something else, as one without a ``yield`` does."""
    if not isinstance(found, BaseUserManager):
        raise ApplicationError(
            f"The dependency that gives the user manager gave {found if found is None else type(found).__name__}: write in "
            "it yield UserManager(user_db)."
        )


def load_application(reference: str) -> Application:
    """The application that ``module:name`` stands for.

    The name is that of a ``FastAPI``, of a function that makes one, of the ``FastAPIUsers``, or of the dependency that
    gives the user manager.

    :raises ApplicationError: it stands for none of these.
    """
    module_name, _, name = reference.partition(":")
    if not name or module_name.startswith(".") or not module_name:
        raise ApplicationError(f"{reference!r} names no application: write module:name, as in app.main:app.")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ApplicationError(f"There is no module {module_name!r}: is this the folder of the application?") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ApplicationError(f"The module {module_name!r} has no {name!r}.")
        found = getattr(found, part)
    return _application_of(found, reference)


def _application_of(found: Any, reference: str) -> Application:
    if isinstance(found, FastAPI):
        return Application(_facade_of(found), found)
    if isinstance(found, FastAPIUsers):
        return Application(found)
    may_be_called = callable(found) and not _is_asgi(found)
    if _is_generator_or_coroutine(found) or (may_be_called and not _can_be_called_plainly(found)):
        return _application_of_dependency(found)
    made = found() if may_be_called else None
    if isinstance(made, FastAPI):
        return Application(_facade_of(made), made)
    if isinstance(made, BaseUserManager):
        return _application_of_dependency(found)
    raise ApplicationError(
        f"{reference} is neither a FastAPI, nor a FastAPIUsers, nor a dependency that gives a user manager."
    )


def _application_of_dependency(get_user_manager: Any) -> Application:
    return Application(FastAPIUsers[Any, Any](get_user_manager, []))


def _is_generator_or_coroutine(found: Any) -> bool:
    return isasyncgenfunction(found) or isgeneratorfunction(found) or iscoroutinefunction(found)


def _is_asgi(found: Callable[..., Any]) -> bool:
    """A middleware around the application, for example."""
    return [*signature(found).parameters] == ["scope", "receive", "send"]


def _can_be_called_plainly(function: Callable[..., Any]) -> bool:
    """Whether nothing is missing, as in ``create_app(settings=None)``: what FastAPI would fill in is."""
    return all(
        parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        or not (parameter.default is Parameter.empty or isinstance(parameter.default, params.Depends | FieldInfo))
        for parameter in signature(function).parameters.values()
    )


def _facade_of(app: FastAPI) -> FastAPIUsers[Any, Any]:
    used = {id(call) for call in dependencies_of(app)}
    facades = {
        id(value): value
        for module in list(sys.modules.values())
        for value in list(getattr(module, "__dict__", {}).values())
        # Not isinstance(), which asks what stands for something else, and that may answer with an error.
        if issubclass(type(value), FastAPIUsers) and id(value.get_user_manager) in used
    }
    if len(facades) == 1:
        return next(iter(facades.values()))
    raise ApplicationError(
        f"The application has {'several FastAPIUsers' if facades else 'no FastAPIUsers in any module'}: name the one to "
        "use, as in app.users:fastapi_users."
    )


def dependencies_of(app: FastAPI) -> Iterator[Any]:
    """What the routes depend on, and what that depends on, as often as it comes."""
    return (call for route in _routes_of(app) for call in _calls_of(route.dependant))


def _routes_of(router: Any) -> Iterator[APIRoute]:
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield route
        # Newer versions of FastAPI do not copy the routes of a router that is included.
        included = getattr(route, "original_router", route)
        if hasattr(included, "routes"):
            yield from _routes_of(included)


def _calls_of(dependant: Any) -> Iterator[Any]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls_of(dependency)


async def _request(app: FastAPI, state: dict[str, Any]) -> str:
    """What the answer says."""
    status, body = 0, b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, body
        status, body = message.get("status", status), body + message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 0),  # ASGI may leave it out, and applications count on it
        "server": ("localhost", 443),
        "state": state,
    }
    await app(scope, receive, send)
    return f"{status} {body.decode('utf-8', 'replace')}"
