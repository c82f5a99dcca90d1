import inspect
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from enum import Enum
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar

from email_validator import EmailNotValidError, validate_email
from fastapi import Depends, HTTPException, Request, Response, status
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Message, Receive, Scope, Send

from fastapi_users.authentication import AuthenticationBackend, Authenticator
from fastapi_users.authentication.login import MAX_EMAIL_LENGTH
from fastapi_users.authentication.transport.cross_site import CROSS_SITE_RESPONSES, is_protected, refuse_cross_site
from fastapi_users.background import AfterResponse, Queue, collect, waiting_for
from fastapi_users.exceptions import CredentialsChanged, InvalidPasswordException
from fastapi_users.openapi import OpenAPIResponseType

F = TypeVar("F", bound=Callable[..., Any])

UNAUTHORIZED: OpenAPIResponseType = {
    status.HTTP_401_UNAUTHORIZED: {"description": "Missing token or inactive user."},
}
UNVERIFIED: OpenAPIResponseType = {status.HTTP_403_FORBIDDEN: {"description": "The user is not verified."}}

CSRF_TOKEN_COOKIE_NAME = "fastapiusersoauthcsrf"
"""Of the OAuth router; here, because the facade names it as a default where httpx-oauth is not installed."""


class ErrorModel(BaseModel):
    detail: str | dict[str, str]


class ErrorCodeReasonModel(BaseModel):
    code: str
    reason: str


class ErrorCode(str, Enum):
    REGISTER_INVALID_PASSWORD = "REGISTER_INVALID_PASSWORD"
    REGISTER_USER_ALREADY_EXISTS = "REGISTER_USER_ALREADY_EXISTS"
    OAUTH_NOT_AVAILABLE_EMAIL = "OAUTH_NOT_AVAILABLE_EMAIL"
    OAUTH_USER_ALREADY_EXISTS = "OAUTH_USER_ALREADY_EXISTS"
    OAUTH_INVALID_STATE = "OAUTH_INVALID_STATE"
    OAUTH_PROVIDER_ERROR = "OAUTH_PROVIDER_ERROR"
    OAUTH_ACCOUNT_ALREADY_LINKED = "OAUTH_ACCOUNT_ALREADY_LINKED"
    OAUTH_LAST_LOGIN_METHOD = "OAUTH_LAST_LOGIN_METHOD"
    OAUTH_INVALID_REDIRECT = "OAUTH_INVALID_REDIRECT"
    OAUTH_SCOPE_NOT_ALLOWED = "OAUTH_SCOPE_NOT_ALLOWED"
    LOGIN_BAD_CREDENTIALS = "LOGIN_BAD_CREDENTIALS"
    LOGIN_USER_NOT_VERIFIED = "LOGIN_USER_NOT_VERIFIED"
    RESET_PASSWORD_BAD_TOKEN = "RESET_PASSWORD_BAD_TOKEN"
    RESET_PASSWORD_INVALID_PASSWORD = "RESET_PASSWORD_INVALID_PASSWORD"
    VERIFY_USER_BAD_TOKEN = "VERIFY_USER_BAD_TOKEN"
    VERIFY_USER_ALREADY_VERIFIED = "VERIFY_USER_ALREADY_VERIFIED"
    UPDATE_USER_EMAIL_ALREADY_EXISTS = "UPDATE_USER_EMAIL_ALREADY_EXISTS"
    REAUTHENTICATE_BAD_CREDENTIALS = "REAUTHENTICATE_BAD_CREDENTIALS"
    UPDATE_USER_BAD_CURRENT_PASSWORD = "UPDATE_USER_BAD_CURRENT_PASSWORD"
    UPDATE_USER_CURRENT_PASSWORD_REQUIRED = "UPDATE_USER_CURRENT_PASSWORD_REQUIRED"
    UPDATE_USER_INVALID_PASSWORD = "UPDATE_USER_INVALID_PASSWORD"
    ACCESS_TOKEN_ALREADY_EXPIRED = "ACCESS_TOKEN_ALREADY_EXPIRED"
    ACCESS_TOKEN_DECODE_ERROR = "ACCESS_TOKEN_DECODE_ERROR"


class Refusals:
    """Which exceptions a route answers with 400, with which code: one table for the answers and the OpenAPI document.

    As a context manager it turns an exception of the table into the answer, in the order of the table, so that a
    subclass stands before its base. ``legacy_examples`` are names in upstream's document that no route ever sends.
    """

    def __init__(
        self,
        table: Mapping[type[Exception], tuple[Enum, str]],
        *,
        legacy_examples: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._table = table
        self._legacy_examples = legacy_examples

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for refused, (code, _) in self._table.items():
            if isinstance(error, refused):
                detail: Any = code
                if isinstance(error, InvalidPasswordException):
                    detail = {"code": code, "reason": error.reason}
                raise HTTPException(status.HTTP_400_BAD_REQUEST, detail) from error

    @property
    def responses(self) -> OpenAPIResponseType:
        examples: dict[str, Any] = {name: {"summary": summary} for name, summary in self._legacy_examples.items()}
        for refused, (code, summary) in self._table.items():
            detail: Any = code.value
            if issubclass(refused, InvalidPasswordException):
                detail = {"code": code.value, "reason": "Password should be at least 8 characters"}
            examples.setdefault(code.value, {"summary": summary, "value": {"detail": detail}})
        return {
            status.HTTP_400_BAD_REQUEST: {
                "model": ErrorModel,
                "content": {"application/json": {"examples": examples}},
            }
        }


LOGIN_OUTDATED = Refusals(
    {CredentialsChanged: (ErrorCode.LOGIN_BAD_CREDENTIALS, "The password changed while it was checked, say.")}
)


def presentable_email(email: Any) -> str | None:
    """An address from outside, as it came, if it has the form of one: what a provider says need not."""
    if not isinstance(email, str) or len(email) > MAX_EMAIL_LENGTH:
        return None
    try:
        # "ann@intranet" is one where a company's own provider says so.
        validate_email(email, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError:
        return None
    return email


def takes(**annotations: type[BaseModel]) -> Callable[[F], F]:
    """Give parameters of a route the schemas of the application, which only exist when its router is made."""

    def annotate(endpoint: F) -> F:
        endpoint.__annotations__.update(annotations)
        return endpoint

    return annotate


def session_ender_of(authenticator: Authenticator[Any, Any] | None) -> Callable[..., Any]:
    """A dependency for what :func:`~fastapi_users.manager.ending_sessions` takes."""

    async def get_none() -> None:
        """Without backends, there are none whose tokens could be ended."""

    return get_none if authenticator is None else authenticator.session_ender()


def require_backend(backend: Any) -> None:
    """:raises TypeError: it is none, but the list of them, its name or its strategy, say."""
    if not hasattr(backend, "transport"):
        raise TypeError(
            f"This router is of one backend, and got {type(backend).__name__}: write get_auth_router(auth_backend), or "
            "get_oauth_router(oauth_client, auth_backend, …)."
        )


def csrf_guard(backend: AuthenticationBackend[Any, Any]) -> list[Any]:
    """``dependencies=`` of a router that makes or ends sessions of this backend: before a secret is looked at."""

    async def refuse(request: Request) -> None:
        refuse_cross_site(backend.transport, request)

    return [Depends(refuse)] if is_protected(backend.transport) else []


def csrf_responses(backends: Iterable[AuthenticationBackend[Any, Any]]) -> OpenAPIResponseType:
    """What they may refuse, of a route with an unsafe method."""
    return CROSS_SITE_RESPONSES if any(is_protected(backend.transport) for backend in backends) else {}


class SafeRoute(APIRoute):
    """A route whose 422 answers repeat no password and can always be written as JSON. A body of bytes that are no text,
    or that nests too deeply, gets one too, as every other body that is no JSON: FastAPI answers 400, undocumented.

    No answer is kept by a cache, refusals and redirects included: they are about one user, or hold a token (RFC 6749,
    section 5.1). A ``Cache-Control`` of the application's stays.

    What is left for later, such as mails, is done when the answer has been sent.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        def send_uncached(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
            return send(message)

        after_response = collect(scope)
        try:
            await super().handle(scope, receive, send_uncached)
        finally:  # also when a hook failed: what has happened before it has happened all the same
            after_response.while_open.close()
            if after_response.when_closed.waiting:
                await after_response.when_closed.run()
            else:  # as after nearly every request: a scope of anyio costs as much as this route does otherwise
                after_response.when_closed.close()

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_masking(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                safe_error = RequestValidationError(
                    [presentable_error(item) for item in error.errors()], body=_presentable_body(error.body)
                )
            except StarletteHTTPException as refusal:
                if refusal.detail != _UNREADABLE_BODY:
                    raise
                error_item = {"type": "body_unreadable", "loc": ("body",), "msg": _UNREADABLE_BODY}
                safe_error = RequestValidationError([error_item])
            raise safe_error

        return partial(_answer_first, handle=handle_masking)


async def _answer_first(request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
    """The answer, after which what waits for it is done, while the dependencies of the route are still open.

    They close before FastAPI turns an exception into an answer. So where something waits, this is done here, by the
    handlers of the application as always.
    """
    queue = (waiting_for(request) or AfterResponse()).while_open
    try:
        answer = await handle(request)
    except Exception as error:
        handler = _exception_handler(request, error) if queue.waiting else None
        if handler is None:
            raise
        is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
        try:
            answer = await (handler(request, error) if is_async else run_in_threadpool(handler, request, error))
        except Exception:
            await queue.run()  # there will be an answer, of somebody else's
            raise
    return _AnswerFirst(answer, queue) if queue.waiting else answer


def _exception_handler(request: Request, error: Exception) -> Callable[..., Any] | None:
    """As Starlette finds it, which has no public function for it."""
    handlers: Mapping[Any, Callable[..., Any]] = getattr(request.scope.get("app"), "exception_handlers", {})
    keys = [*([error.status_code] if isinstance(error, StarletteHTTPException) else []), *type(error).__mro__]
    # Those of a 500 are called outside of everything, and the error goes on.
    return next((handlers[key] for key in keys if key in handlers and key not in (Exception, 500)), None)


class _AnswerFirst(Response):
    """Shares the headers of the answer, for whoever looks at what this route's handler gives."""

    def __init__(self, answer: Response, queue: Queue) -> None:
        self.answer = answer
        self.queue = queue
        self.status_code = answer.status_code
        self.raw_headers = answer.raw_headers
        self.body = getattr(answer, "body", b"")
        self.background = answer.background

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.answer.status_code, self.answer.background = self.status_code, None
        try:
            await self.answer(scope, receive, send)
        finally:  # no background task, which would not be run for a client that is gone
            await self.queue.run()
        if self.background is not None:  # to which a hook has added its mail just now
            await self.background()


_UNREADABLE_BODY = "There was an error parsing the body"  # FastAPI's words
_MASK = "**********"
_MAX_DEPTH = 10
_SECRETS = ("code", "pin", "ticket")  # "postcode" is none


def presentable_error(error: Any) -> Any:
    """An item of a 422 answer, whose ``input`` is masked where it may hold a secret: of such a field, or a raw body."""
    presented = presentable(error)
    location = error.get("loc", ()) if isinstance(error, Mapping) else ()
    is_raw_body = len(location) == 1 and not isinstance(error.get("input"), Mapping)
    if "input" in presented and (is_raw_body or any(_is_secret(part) for part in location)):
        presented["input"] = _MASK
    return presented


def presentable(value: Any, depth: int = 0) -> Any:
    """The value with passwords and tokens masked, and without what cannot be sent back as JSON in UTF-8.

    Python's JSON reader accepts NaN, numbers that become infinite, and halves of surrogate pairs, none of which its
    writer may write (RFC 8259, sections 6 and 8.2), and takes a deeper nesting than its writer.
    """
    if isinstance(value, Mapping | list | tuple) and depth > _MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {
            presentable(key): _MASK if _is_secret(key) else presentable(item, depth + 1) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = [presentable(item, depth + 1) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    return _presentable_scalar(value)


def _presentable_body(body: Any) -> Any:
    """For a handler of the application's, which may answer or log it. What is no object may be a secret all of it, and so
    may the names in a form: clients send JSON as one."""
    return presentable(body) if body is None or isinstance(body, dict) else _MASK


def _presentable_scalar(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bytes):
        return _MASK
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _is_secret(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    name = name.lower()
    return name in _SECRETS or "password" in name or "token" in name
