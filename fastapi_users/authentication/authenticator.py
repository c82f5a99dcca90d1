import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from copy import copy
from functools import lru_cache
from inspect import Parameter, Signature
from keyword import iskeyword
from types import FunctionType
from typing import Annotated, Any, Generic, Literal, NoReturn, TypeVar, cast, overload

from fastapi import Depends, HTTPException, Response, WebSocket, WebSocketException, status
from fastapi.requests import HTTPConnection
from fastapi.security import (
    APIKeyHeader,
    APIKeyQuery,
    HTTPBearer,
    OAuth2AuthorizationCodeBearer,
    OAuth2PasswordBearer,
)
from fastapi.security.base import SecurityBase
from makefun import with_signature

from fastapi_users import models
from fastapi_users.authentication.backend import AuthenticationBackend
from fastapi_users.authentication.fresh import ReauthenticationRequired, refuse_stale
from fastapi_users.authentication.resolution import (
    KnownSessions,
    Session,
    read_early,
    strategy_dependency,
)
from fastapi_users.authentication.strategy import Strategy  # noqa: F401 -- applications import it from here, as from upstream's
from fastapi_users.authentication.transport.base import Transport, read_token
from fastapi_users.authentication.transport.cross_site import CROSS_SITE_TOKEN, CrossSiteRequest, SameSiteAPIKeyCookie
from fastapi_users.manager import BaseUserManager, UserManagerDependency
from fastapi_users.types import DependencyCallable

INVALID_CHARS_PATTERN = re.compile(r"[^0-9a-zA-Z_]")
INVALID_LEADING_CHARS_PATTERN = re.compile(r"^[^a-zA-Z_]+")

EnabledBackendsDependency = DependencyCallable[Sequence[AuthenticationBackend[models.UP, models.ID]]]

F = TypeVar("F", bound=Callable[..., Any])


class _CalledByHand:
    """Of a parameter that FastAPI must not fill in: ``Depends(current_user)``, without parentheses, would hand the function
    itself to a route as its user, whoever asks.
    """

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> NoReturn:
        raise TypeError(
            "This makes a dependency, and is none: write Depends(fastapi_users.current_user()), with its parentheses."
        )


_Fresh = Annotated[float | None, _CalledByHand()]

_Dependency = Callable[..., Coroutine[Any, Any, models.UP]]
_OptionalDependency = Callable[..., Coroutine[Any, Any, models.UP | None]]
_TokenDependency = Callable[..., Coroutine[Any, Any, tuple[models.UP, str]]]
_OptionalTokenDependency = Callable[..., Coroutine[Any, Any, tuple[models.UP | None, str | None]]]
_AuthenticateDependency = Callable[..., Coroutine[Any, Any, Callable[[str], Coroutine[Any, Any, models.UP | None]]]]


def name_to_variable_name(name: str) -> str:
    """A backend's name as the name of a parameter: what an identifier cannot hold is dropped."""
    return INVALID_LEADING_CHARS_PATTERN.sub("", INVALID_CHARS_PATTERN.sub("", name))


def name_to_strategy_variable_name(name: str) -> str:
    return f"strategy_{name_to_variable_name(name)}"


class DuplicateBackendNamesError(Exception):
    """Two parameters of a dependency would have the same name: rename one of the backends."""


class Authenticator(Generic[models.UP, models.ID]):
    """Makes the dependencies that give a route its user.

    The backends are asked in their order, and the first one that knows its token decides. ``optional`` gives ``None``
    instead of a refusal. ``active`` refuses inactive users with 401, ``verified`` and ``superuser`` refuse others with
    403. ``get_enabled_backends`` is a dependency that returns the backends which may decide in this request.
    ``fresh`` refuses with 401 whoever last proved who it is more than so many seconds ago, and tells by which methods
    that can be done again: see :class:`~fastapi_users.authentication.fresh.ReauthenticationRequired`.

    Every call makes a new function, so keep the result: it is the key for ``app.dependency_overrides``.

    :cvar reads_tokens_first: set by ``FastAPIUsers``. The functions ask FastAPI for the tokens before anything else, run
        a plain ``get_strategy`` on the event loop, and share the user within a request. Without it their signature is
        upstream's, parameter by parameter.
    """

    reads_tokens_first: bool = False

    backends: Sequence[AuthenticationBackend[models.UP, models.ID]]

    def __init__(
        self,
        backends: Sequence[AuthenticationBackend[models.UP, models.ID]],
        get_user_manager: UserManagerDependency[models.UP, models.ID],
    ) -> None:
        self.backends = backends
        self.get_user_manager = get_user_manager

    @overload
    def current_user_token(
        self,
        optional: Literal[False] = False,
        active: bool = False,
        verified: bool = False,
        superuser: bool = False,
        get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None = None,
        *,
        fresh: float | None = None,
        preferred: AuthenticationBackend[models.UP, models.ID] | None = None,
    ) -> _TokenDependency[models.UP]: ...

    @overload
    def current_user_token(
        self,
        optional: bool,
        active: bool = False,
        verified: bool = False,
        superuser: bool = False,
        get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None = None,
        *,
        fresh: float | None = None,
        preferred: AuthenticationBackend[models.UP, models.ID] | None = None,
    ) -> _OptionalTokenDependency[models.UP]: ...

    def current_user_token(
        self,
        optional: bool = False,
        active: bool = False,
        verified: bool = False,
        superuser: bool = False,
        get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None = None,
        *,
        fresh: _Fresh = None,
        preferred: AuthenticationBackend[models.UP, models.ID] | None = None,
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        """A dependency for the user and the token it came with.

        :param preferred: is asked before the others.
        :raises DuplicateBackendNamesError: also from the routers that need a user.
        """
        flags = _flags(optional=optional, active=active, verified=verified, superuser=superuser, fresh=fresh)
        authenticator = self if preferred is None else self._preferring(preferred)

        async def current_user_token_dependency(**kwargs: Any) -> Any:
            return await authenticator._resolve(flags, kwargs)  # noqa: SLF001 -- of this very class

        signature = self._get_resolved_signature(get_enabled_backends, optional=optional)
        return _with_parameters(signature, current_user_token_dependency)

    @overload
    def current_user(
        self,
        optional: Literal[False] = False,
        active: bool = False,
        verified: bool = False,
        superuser: bool = False,
        get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None = None,
        *,
        fresh: float | None = None,
    ) -> _Dependency[models.UP]: ...

    @overload
    def current_user(
        self,
        optional: bool,
        active: bool = False,
        verified: bool = False,
        superuser: bool = False,
        get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None = None,
        *,
        fresh: float | None = None,
    ) -> _OptionalDependency[models.UP]: ...

    def current_user(
        self,
        optional: bool = False,
        active: bool = False,
        verified: bool = False,
        superuser: bool = False,
        get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None = None,
        *,
        fresh: _Fresh = None,
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        """A dependency for the user.

        :raises DuplicateBackendNamesError: also from the routers that need a user.
        """
        flags = _flags(optional=optional, active=active, verified=verified, superuser=superuser, fresh=fresh)

        async def current_user_dependency(**kwargs: Any) -> Any:
            user, _ = await self._resolve(flags, kwargs)
            return user

        signature = self._get_resolved_signature(get_enabled_backends, optional=optional)
        return _with_parameters(signature, current_user_dependency)

    @overload
    def current_websocket_user(
        self,
        *,
        optional: Literal[False] = False,
        active: bool = False,
        verified: bool = False,
        superuser: bool = False,
        get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None = None,
        fresh: float | None = None,
        allowed_origins: Sequence[str] = (),
    ) -> _Dependency[models.UP]: ...

    @overload
    def current_websocket_user(
        self,
        *,
        optional: bool,
        active: bool = False,
        verified: bool = False,
        superuser: bool = False,
        get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None = None,
        fresh: float | None = None,
        allowed_origins: Sequence[str] = (),
    ) -> _OptionalDependency[models.UP]: ...

    def current_websocket_user(
        self,
        *,
        optional: bool = False,
        active: bool = False,
        verified: bool = False,
        superuser: bool = False,
        get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None = None,
        fresh: _Fresh = None,
        allowed_origins: Sequence[str] = (),
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        """A dependency for the user of a WebSocket, whose token comes in the handshake as in a request.

        A refusal closes it with 1008 before it is accepted. What a browser sends by itself, a cookie, counts only if
        the header ``Origin`` is absent (no browser), of the same host, or among the ``allowed_origins``
        (``https://app.example``): otherwise any page could open a WebSocket in the name of its visitor (OWASP,
        WebSocket Security Cheat Sheet).

        :raises DuplicateBackendNamesError:
        """
        if isinstance(allowed_origins, str):
            raise TypeError("allowed_origins is a list: a text would allow every part of it.")
        flags = _flags(optional=optional, active=active, verified=verified, superuser=superuser, fresh=fresh)

        async def current_websocket_user_dependency(*args: Any, websocket: WebSocket, **kwargs: Any) -> Any:
            for backend in self.backends:
                is_sent_by_script = type(backend.transport.scheme) in _SENT_BY_SCRIPTS
                if is_sent_by_script or _is_own_origin(websocket, allowed_origins):
                    token = await read_token(backend.transport, websocket)
                    if token is CROSS_SITE_TOKEN:  # to the transport, which does not know these origins
                        token = cast("SameSiteAPIKeyCookie", backend.transport.scheme).read_cookie(websocket)
                    kwargs[name_to_variable_name(backend.name)] = token
            try:
                user, _ = await self._authenticate(*args, **flags, **kwargs)
            except HTTPException as refusal:
                raise WebSocketException(status.WS_1008_POLICY_VIOLATION) from refusal
            return user

        signature = self._get_signature_without_tokens(get_enabled_backends)
        websocket = Parameter("websocket", Parameter.POSITIONAL_OR_KEYWORD, annotation=WebSocket)
        signature = signature.replace(parameters=[websocket, *signature.parameters.values()])
        return _with_parameters(signature, current_websocket_user_dependency)

    def token_reader(
        self,
        *,
        active: bool = False,
        verified: bool = False,
        superuser: bool = False,
        get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None = None,
        fresh: _Fresh = None,
    ) -> _AuthenticateDependency[models.UP]:
        """A dependency for a coroutine function that gives the user of a bare token, or ``None``.

        For tokens that come where no transport looks: in the first message of a WebSocket, in a job, in a form.
        """
        flags = _flags(optional=True, active=active, verified=verified, superuser=superuser, fresh=fresh)

        async def token_reader_dependency(*args: Any, **kwargs: Any) -> Any:
            async def read(token: str) -> models.UP | None:
                tokens: dict[str, Any] = {name_to_variable_name(backend.name): token for backend in self.backends}
                user, _ = await self._authenticate(*args, **flags, **tokens, **kwargs)
                return user

            return read

        return _with_parameters(self._get_signature_without_tokens(get_enabled_backends), token_reader_dependency)

    def session_ender(
        self, *, keeps_own: bool = False
    ) -> Callable[..., Coroutine[Any, Any, Callable[[models.UP], Coroutine[Any, Any, None]]]]:
        """A dependency for a coroutine function that ends the sessions of a user.

        With every backend whose strategy has a ``destroy_all_tokens(user)``. JWTs end by themselves when the password or
        the address has changed.

        :param keeps_own: all but those whose tokens come with this request. JWTs are issued again: in a cookie, or, where
            a script sent the old one, in the header ``Authorization`` of the answer.
        """

        async def session_ender_dependency(**kwargs: Any) -> Any:
            response: Response = kwargs[_RESPONSE]
            names = [name_to_variable_name(backend.name) for backend in self.backends]
            # Those that are texts: what another scheme gives, such as HTTPBearer, its own strategy alone can read.
            tokens = {name: token for name in names if isinstance(token := kwargs.get(name), str)}
            # All of them, since two backends may keep their tokens in one place.
            sent = [*dict.fromkeys(filter(None, tokens.values()))]
            own: dict[str, Any] = {"except_tokens": sent} if sent else {}

            async def end_sessions(user: models.UP) -> None:
                strategies = [kwargs[name_to_strategy_variable_name(backend.name)] for backend in self.backends]
                errors: list[Exception] = []
                for strategy in strategies:
                    if hasattr(type(strategy), "destroy_all_tokens"):
                        try:
                            await strategy.destroy_all_tokens(user, **own)
                        except Exception as error:  # noqa: BLE001 -- raised below: those of others end all the same
                            errors.append(error)
                if errors:
                    raise errors[0]
                # After all of that, or another backend with the same list of ended tokens would end a new one as well.
                for backend, strategy in zip(self.backends, strategies, strict=True):
                    token = tokens.get(name_to_variable_name(backend.name))
                    reissue = getattr(type(strategy), "reissue_token", None) if token else None
                    reissued = None if reissue is None else await reissue(strategy, token, user)
                    if reissued is not None:
                        await _hand_over(backend.transport, reissued, response)

            return end_sessions

        signature = self._get_dependency_signature() if keeps_own else self._get_signature_without_tokens(None)
        parameter = Parameter(_RESPONSE, Parameter.POSITIONAL_OR_KEYWORD, annotation=Response)
        signature = signature.replace(parameters=[parameter, *signature.parameters.values()])
        return _with_parameters(signature, session_ender_dependency)

    async def _authenticate(
        self,
        *args: Any,
        user_manager: BaseUserManager[models.UP, models.ID],
        optional: bool = False,
        active: bool = False,
        verified: bool = False,
        superuser: bool = False,
        fresh: float | None = None,
        **kwargs: Any,
    ) -> tuple[models.UP | None, str | None]:
        """Token and strategy of each backend come under its variable names, the enabled backends under theirs."""
        flags = _flags(optional=optional, active=active, verified=verified, superuser=superuser, fresh=fresh)
        session = await _find_session(self._get_candidates(kwargs), user_manager)
        return await self._decide(session, kwargs, user_manager=user_manager, **flags)

    async def _resolve(self, flags: dict[str, Any], kwargs: dict[str, Any]) -> tuple[models.UP | None, str | None]:
        """What :meth:`_authenticate` gives, with one look per request, however many dependencies ask."""
        connection: HTTPConnection | None = kwargs.pop(_CONNECTION, None)
        if connection is None or self._is_replaced:
            return await self._authenticate(**flags, **kwargs)
        candidates, user_manager = self._get_candidates(kwargs), kwargs["user_manager"]
        session: Session | None = None
        if candidates:
            known = KnownSessions(connection.scope, user_manager, candidates)
            session = known.get()
            if session is None:
                session = await _find_session(candidates, user_manager)
                if session is not None:
                    known.put(session)
        return await self._decide(session, kwargs, user_manager=user_manager, **flags)

    @property
    def _is_replaced(self) -> bool:
        """Whether the application has a function of its own in the place of ``_authenticate``."""
        return getattr(self._authenticate, "__func__", None) is not _AUTHENTICATE

    def _get_candidates(self, kwargs: Mapping[str, Any]) -> list[tuple[Any, str]]:
        """The strategies to ask, in their order, each with the token that came for it."""
        enabled_backends = kwargs.get("enabled_backends", self.backends)
        candidates = []
        for backend in self.backends:
            token: Any = kwargs.get(_variable_name(backend.name))
            is_sent = token is not None and token is not CROSS_SITE_TOKEN
            if is_sent and backend in enabled_backends:
                candidates.append((kwargs.get(_strategy_variable_name(backend.name)), token))
        return candidates

    async def _decide(
        self,
        session: Session | None,
        kwargs: Mapping[str, Any],
        *,
        user_manager: BaseUserManager[models.UP, models.ID],
        optional: bool = False,
        active: bool = False,
        verified: bool = False,
        superuser: bool = False,
        fresh: float | None = None,
    ) -> tuple[models.UP | None, str | None]:
        user: models.UP | None = None if session is None else session.user
        refusal = refusal_status(user, active=active, verified=verified, superuser=superuser)
        if session is None or refusal is not None:
            enabled_backends = kwargs.get("enabled_backends", self.backends)
            sent = [
                kwargs.get(_variable_name(backend.name)) for backend in self.backends if backend in enabled_backends
            ]
            if not optional:
                if session is None and any(token is CROSS_SITE_TOKEN for token in sent):
                    raise CrossSiteRequest
                raise _refused(refusal or status.HTTP_401_UNAUTHORIZED, enabled_backends, kwargs)
            if session is not None:
                return None, session.token
            return None, sent[-1] if sent and sent[-1] is not CROSS_SITE_TOKEN else None
        if fresh is not None:
            try:
                await refuse_stale(
                    session.strategy, session.token, user=session.user, user_manager=user_manager, max_age=fresh
                )
            except ReauthenticationRequired:
                if not optional:
                    raise
                return None, session.token
        return user, session.token

    def _preferring(
        self, backend: AuthenticationBackend[models.UP, models.ID]
    ) -> "Authenticator[models.UP, models.ID]":
        reordered = copy(self)
        reordered.backends = sorted(self.backends, key=lambda other: other is not backend)
        return reordered

    def _get_dependency_signature(
        self,
        get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None = None,
    ) -> Signature:
        _tell_schemes_apart(self.backends)
        parameters = [_dependency_parameter("user_manager", self.get_user_manager)]
        for backend in self.backends:
            name = name_to_variable_name(backend.name)
            if not name or iskeyword(name):
                raise ValueError(
                    f"The backend name {backend.name!r} cannot be turned into the name of a parameter: give it one with "
                    "an ASCII letter in it that is not a Python keyword."
                )
            parameters.append(_dependency_parameter(name, backend.transport.scheme))
            parameters.append(_dependency_parameter(name_to_strategy_variable_name(backend.name), backend.get_strategy))
        if get_enabled_backends is not None:
            parameters.append(_dependency_parameter("enabled_backends", get_enabled_backends))

        names = [parameter.name for parameter in parameters]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            raise DuplicateBackendNamesError(
                f"Two backends, or a backend and another parameter, share the name {', '.join(duplicates)}. The names "
                f"of the backends are {', '.join(repr(backend.name) for backend in self.backends)}."
            )
        return Signature(parameters)

    def _get_signature_without_tokens(
        self, get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None
    ) -> Signature:
        tokens = {name_to_variable_name(backend.name) for backend in self.backends}
        signature = self._get_dependency_signature(get_enabled_backends)
        return signature.replace(
            parameters=[parameter for parameter in signature.parameters.values() if parameter.name not in tokens]
        )

    def _get_resolved_signature(
        self, get_enabled_backends: EnabledBackendsDependency[models.UP, models.ID] | None, *, optional: bool
    ) -> Signature:
        """What FastAPI is asked for: the same, but for the tokens, which come first."""
        signature = self._get_dependency_signature(get_enabled_backends)
        is_replaced = getattr(self._get_dependency_signature, "__func__", None) is not _GET_DEPENDENCY_SIGNATURE
        if is_replaced or not self.reads_tokens_first or not self.backends:
            return signature
        parameters = dict(signature.parameters)
        names = [name_to_variable_name(backend.name) for backend in self.backends]
        schemes: Sequence[Any] = [parameters.pop(name).default.dependency for name in names]
        if not optional and get_enabled_backends is None:  # which are part of the refusal, and known only later
            schemes = read_early(tuple(schemes), self._refuse_without_tokens)
        for backend in self.backends:
            name = name_to_strategy_variable_name(backend.name)
            parameters[name] = _dependency_parameter(name, strategy_dependency(backend))
        tokens = [_dependency_parameter(name, scheme) for name, scheme in zip(names, schemes, strict=True)]
        connection = Parameter(_CONNECTION, Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=HTTPConnection)
        return Signature([connection, *tokens, *parameters.values()])

    def _refuse_without_tokens(self) -> HTTPException | None:
        return None if self._is_replaced else _refused(status.HTTP_401_UNAUTHORIZED, self.backends, {})


async def _find_session(candidates: Sequence[tuple[Any, str]], user_manager: Any) -> Session | None:
    for strategy, token in candidates:
        user = await strategy.read_token(token, user_manager)
        if user:
            return Session(user, token, strategy)
    return None


_AUTHENTICATE = Authenticator._authenticate  # noqa: SLF001 -- to know it from what applications put in its place
_GET_DEPENDENCY_SIGNATURE = Authenticator._get_dependency_signature  # noqa: SLF001 -- the same
_variable_name = lru_cache(name_to_variable_name)
_strategy_variable_name = lru_cache(name_to_strategy_variable_name)


def _tell_schemes_apart(backends: Sequence[AuthenticationBackend[Any, Any]]) -> None:
    """Give a name of its own to each scheme that another would replace in the OpenAPI document, for being of its class.

    The last one keeps the name: it is the one that has been in the document so far.
    """
    known: dict[str, Any] = {}
    for backend in reversed([*backends]):  # which may be a set
        scheme: Any = backend.transport.scheme
        if not isinstance(scheme, SecurityBase) or not hasattr(scheme, "model"):
            continue  # a function, which is in no document
        name = scheme.scheme_name
        if known.setdefault(name, scheme).model != scheme.model:
            scheme.scheme_name = f"{name}_{name_to_variable_name(backend.name)}"


def _with_parameters(signature: Signature, function: F) -> F:
    """Give a function of ``**kwargs`` the parameters that FastAPI has to resolve for it."""
    template: Any = _with_parameters_named(tuple(signature.parameters))
    if _CALLED not in template.__globals__:  # a makefun that names it otherwise
        return cast("F", with_signature(signature)(function))
    defaults = [parameter.default for parameter in signature.parameters.values()]  # of the last ones
    resolved: Any = FunctionType(
        template.__code__,
        {**template.__globals__, _CALLED: function},
        function.__name__,
        tuple(default for default in defaults if default is not Parameter.empty),
    )
    resolved.__signature__ = signature
    resolved.__module__, resolved.__qualname__, resolved.__doc__ = (
        function.__module__,
        function.__qualname__,
        function.__doc__,
    )
    return cast("F", resolved)


@lru_cache(maxsize=128)
def _with_parameters_named(names: tuple[str, ...]) -> Callable[..., Any]:
    """To compile one takes longer than FastAPI does with a whole route, so that those with the same parameters share it."""
    parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    # Of any coroutine function: what it calls is put in its place by the caller.
    template: Callable[..., Any] = with_signature(Signature(parameters), func_name="call")(_find_session)
    return template


def _dependency_parameter(name: str, dependency: Any) -> Parameter:
    return Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=Depends(dependency))


def _flags(**flags: Any) -> dict[str, Any]:
    """What is not set is not passed: applications put a function of their own in the place of ``_authenticate``."""
    return {name: value for name, value in flags.items() if name != "fresh" or value is not None}


_CALLED = "_func_impl_"  # makefun's name for what the function that it made calls
_CONNECTION = "connection_that_asks"  # no name of a backend either
_RESPONSE = "response_to_hand_tokens_over_with"  # no name of a backend
# Whose tokens come in the header Authorization.
_OF_AUTHORIZATION = (HTTPBearer, OAuth2AuthorizationCodeBearer, OAuth2PasswordBearer)
# A browser adds these tokens to no request by itself. A subclass may read a cookie as well, hence the very classes.
_SENT_BY_SCRIPTS = (APIKeyHeader, APIKeyQuery, *_OF_AUTHORIZATION)


def _is_own_origin(websocket: WebSocket, allowed_origins: Sequence[str]) -> bool:
    origin = websocket.headers.get("origin")
    if origin is None or origin in allowed_origins:
        return True
    scheme, _, host = origin.partition("://")
    # A proxy that ends TLS lets a page of https look like one that opens a plain WebSocket, but not the other way round.
    return host == websocket.headers.get("host") and (scheme == "https" or websocket.url.scheme == "ws")


async def _hand_over(transport: Transport, token: str, response: Response) -> None:
    """With an answer that is about something else."""
    login_response = await transport.get_login_response(token)
    for cookie in login_response.headers.getlist("set-cookie"):
        response.headers.append("set-cookie", cookie)
    if isinstance(transport.scheme, _OF_AUTHORIZATION):
        response.headers["Authorization"] = f"Bearer {token}"


def _refused(
    refusal: int, backends: Sequence[AuthenticationBackend[models.UP, models.ID]], tokens: Mapping[str, Any]
) -> HTTPException:
    """With the challenge of RFC 6750, section 3, where there is a backend for it: whether what came was not it."""
    names = [
        _variable_name(backend.name) for backend in backends if isinstance(backend.transport.scheme, _OF_AUTHORIZATION)
    ]
    is_challenge = bool(names) and refusal == status.HTTP_401_UNAUTHORIZED
    challenge = 'Bearer error="invalid_token"' if any(tokens.get(name) for name in names) else "Bearer"
    return HTTPException(refusal, headers={"WWW-Authenticate": challenge} if is_challenge else None)


def refusal_status(user: models.UP | None, *, active: bool, verified: bool, superuser: bool = False) -> int | None:
    if user is None or (active and not user.is_active):
        return status.HTTP_401_UNAUTHORIZED
    if (verified and not user.is_verified) or (superuser and not user.is_superuser):
        return status.HTTP_403_FORBIDDEN
    return None
