"""What ``fastapi-users doctor`` looks at: tables that are missing, and settings that work and are not safe, each with the
line to write.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import getsourcefile, getsourcelines, unwrap
from typing import Any

from fastapi import FastAPI

from fastapi_users.application import Application, ApplicationError, dependencies_of
from fastapi_users.authentication import AuthenticationBackend, CookieTransport, JWTStrategy
from fastapi_users.db.store import find_missing, find_unguarded
from fastapi_users.fastapi_users import FastAPIUsers
from fastapi_users.insecure import secret_weakness
from fastapi_users.jwt import get_secret_values, is_symmetric
from fastapi_users.manager import BaseUserManager, secret_settings

LONGEST_JWT_SECONDS = 24 * 60 * 60


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``line`` is what to write at the ``place``."""

    place: str
    problem: str
    line: str


def examine(
    user_manager: BaseUserManager[Any, Any],
    backends: Sequence[AuthenticationBackend[Any, Any]],
    strategies: Sequence[Any],
    app: FastAPI | None = None,
) -> list[Finding]:
    findings = [*_of_the_manager(user_manager)]
    for backend, strategy in zip(backends, strategies, strict=True):
        findings += _of_the_transport(backend)
        findings += _of_the_strategy(backend, strategy)
    if app is not None:
        findings += _of_the_application(app, backends)
        findings += _of_the_oauth_routers(app)
    return findings


async def require_tables(fastapi_users: FastAPIUsers[Any, Any], app: FastAPI | None = None) -> None:
    """In the lifespan, so that an application does not start without what it is set up with.

    Dependencies are solved for it as in a request, also by the ``dependency_overrides`` of the ``app``.

    :raises ApplicationError: a table or a column is not in the database, a model is none, or the adapter has no store.
    """
    findings = await Application(fastapi_users, app).call_with_parts(find_missing_tables)
    if findings:
        problems = " ".join(finding.problem for finding in findings)
        raise ApplicationError(f"{problems} Write: {findings[0].line}")


async def find_missing_tables(user_manager: BaseUserManager[Any, Any], strategies: Sequence[Any]) -> list[Finding]:
    """What the database has not got of the users, of the models of the manager, and of the tokens of the strategies."""
    findings = await _missing_of(user_manager.user_db, _place_of(type(user_manager.user_db)))
    kind = type(user_manager)
    required = [name for base in kind.__mro__ for name in vars(base).get("_required_settings", ())]
    for name in dict.fromkeys(["one_time_secret_model", *(name for name in required if name.endswith("_model"))]):
        model = getattr(user_manager, name, None)
        if not isinstance(model, type):  # none, or a store that takes its place
            continue
        try:
            store: Any = user_manager.user_db.store(model)
        except (NotImplementedError, AttributeError):  # the latter of an adapter that is no BaseUserDatabase
            adapter = type(user_manager.user_db).__name__
            problem = f"{name} needs rows of its own, and {adapter} has no store(model)."
            findings.append(
                Finding(place=_place_of(kind), problem=problem, line=f"def store(self, model): …  # in {adapter}")
            )
        except TypeError as error:
            findings.append(_finding_of(error, _place_of(kind)))
        else:
            findings += await _missing_of(store, _place_of(kind))
    for strategy in strategies:
        for keeper in (getattr(strategy, "database", None), getattr(strategy, "revoke", None)):
            findings += await _missing_of(keeper, _place_of(type(strategy)))
    return list(dict.fromkeys(findings))  # backends may share a table


async def find_unguarded_columns(user_manager: BaseUserManager[Any, Any]) -> list[Finding]:
    """What two users may share in a table that is there, and must not."""
    found = await find_unguarded(user_manager.user_db)
    return [Finding(place=_place_of(each.model), problem=each.problem, line=each.line) for each in found]


async def _missing_of(keeper: Any, place: str) -> list[Finding]:
    try:
        missing = await find_missing(keeper)
    except TypeError as error:
        return [_finding_of(error, place)]
    return [Finding(place=_place_of(each.model), problem=each.problem, line=each.line) for each in missing]


def _finding_of(error: TypeError, place: str) -> Finding:
    """Of an error of ours, which says what to write."""
    problem, _, line = str(error).partition(": write ")
    return Finding(place=place, problem=f"{problem}.", line=line)


def _of_the_manager(manager: BaseUserManager[Any, Any]) -> Iterator[Finding]:
    kind = type(manager)
    keeps_accounts = any(getattr(manager.user_db, f"oauth_account_{name}", None) for name in ("table", "model"))
    settings = [
        (
            manager.password_policy is None and not _overrides(kind, "validate_password"),
            "Every password is accepted.",
            "password_policy = PasswordPolicy()",
        ),
        (
            manager.one_time_secret_model is None,
            "Mailed tokens count until they expire, also after a newer one was asked for.",
            "one_time_secret_model = OneTimeSecret",
        ),
        (
            not manager.mask_passwords_in_hooks and _overrides(kind, "on_after_update"),
            "on_after_update gets new passwords in clear text.",
            "mask_passwords_in_hooks = True",
        ),
        (
            not manager.sessions_end_with_credentials,
            "Sessions outlive a change of the password.",
            "sessions_end_with_credentials = True",
        ),
        (
            not manager.email_change_requires_confirmation,
            "Whoever has a session changes the address, without an answer from the new one.",
            "email_change_requires_confirmation = True",
        ),
        (
            manager.mailer is None and not _overrides(kind, "on_after_forgot_password"),
            "Nobody gets the mail that replaces a forgotten password.",
            "mailer = SMTPMailer(…)",
        ),
        (
            keeps_accounts and manager.oauth_token_cipher is None,
            "The tokens of providers are stored in clear text.",
            "oauth_token_cipher = TokenCipher([SECRET_OF_ITS_OWN])",
        ),
    ]
    found = [*_of_the_secrets(manager), *((problem, line) for is_unsafe, problem, line in settings if is_unsafe)]
    for problem, line in found:
        yield Finding(place=_place_of(kind), problem=problem, line=line)


def _of_the_secrets(manager: BaseUserManager[Any, Any]) -> Iterator[tuple[str, str]]:
    for name, is_needed in secret_settings(type(manager)).items():
        secret = getattr(manager, name, None)
        if secret is None and is_needed:
            yield f"{name} is missing: nobody can be mailed a token.", _secret_line(name)
        for weakness in _weaknesses(secret):
            yield f"{name} is {weakness}: whoever guesses it makes tokens for every user.", _secret_line(name)
    for name in ("reset_password_token_lifetime_seconds", "verification_token_lifetime_seconds"):
        if not getattr(manager, name):
            yield f"{name} is {getattr(manager, name)}: mailed tokens never expire.", f"{name} = 3600"


def _weaknesses(secret: Any) -> list[str]:
    values = [] if secret is None else get_secret_values(secret)
    return [weakness for weakness in map(secret_weakness, values) if weakness is not None]


def _of_the_transport(backend: AuthenticationBackend[Any, Any]) -> Iterator[Finding]:
    transport, place = backend.transport, f"the transport of the backend {backend.name!r}"
    if not isinstance(transport, CookieTransport):
        return
    if not transport.cookie_secure:
        yield Finding(
            place=place,
            problem="The cookie travels over plain HTTP as well.",
            line="CookieTransport(cookie_secure=True)",
        )
    if not transport.cookie_httponly:
        yield Finding(
            place=place, problem="Scripts of a page can read the cookie.", line="CookieTransport(cookie_httponly=True)"
        )
    if transport.cookie_samesite.lower() == "none" and not transport.csrf_protection:
        yield Finding(
            place=place,
            problem="Pages of other sites send requests with the cookie.",
            line="CookieTransport(csrf_protection=True)",
        )


def _of_the_strategy(backend: AuthenticationBackend[Any, Any], strategy: Any) -> Iterator[Finding]:
    kind = type(strategy).__name__
    place = f"the strategy of the backend {backend.name!r} ({_where(backend.get_strategy)})"

    def finding(problem: str, line: str) -> Finding:
        return Finding(place=place, problem=problem, line=line)

    lifetime = getattr(strategy, "lifetime_seconds", None)
    if hasattr(strategy, "lifetime_seconds") and not lifetime:  # one of the application's may know it by another name
        yield finding("Its tokens never expire.", f"{kind}(…, lifetime_seconds=3600)")
    if getattr(strategy, "hash_tokens", True) is False:
        yield finding("Whoever reads where the tokens are stored can log in.", f"{kind}(…, hash_tokens=True)")
    if isinstance(strategy, JWTStrategy):
        if is_symmetric(strategy.algorithm):
            for weakness in _weaknesses(strategy.secret):
                yield finding(
                    f"Its secret is {weakness}: whoever guesses it makes tokens for every user.", _secret_line("SECRET")
                )
        if strategy.revoke is None and (lifetime or 0) > LONGEST_JWT_SECONDS:
            yield finding(
                f"Logging out does not end its tokens, which count for {lifetime} seconds.",
                f"{kind}(…, revoke=StoreDenylist(user_db.store(DeniedToken)))",
            )


def _of_the_application(app: FastAPI, backends: Sequence[AuthenticationBackend[Any, Any]]) -> Iterator[Finding]:
    has_cookies = any(isinstance(backend.transport, CookieTransport) for backend in backends)
    for middleware in app.user_middleware:
        options = middleware.kwargs
        origins: Any = options.get("allow_origins", ())
        if has_cookies and "*" in origins and options.get("allow_credentials"):
            yield Finding(
                place="CORSMiddleware",
                problem="Pages of every site read the answers to requests with the cookie.",
                line='allow_origins=["https://app.example.com"]',
            )
    if app.debug:
        yield Finding(place="FastAPI", problem="Answers to errors show the code.", line="FastAPI(debug=False)")


def _of_the_oauth_routers(app: FastAPI) -> Iterator[Finding]:
    flows: list[Any] = [getattr(dependency, "flow", None) for dependency in dependencies_of(app)]
    for flow in {id(flow): flow for flow in flows if hasattr(flow, "state_secret")}.values():
        place = f"the OAuth router of {flow.callback_route!r}"
        for weakness in _weaknesses(flow.state_secret):
            yield Finding(
                place=place,
                problem=f"Its state_secret is {weakness}: whoever guesses it makes states of its own.",
                line=_secret_line("state_secret"),
            )
        if not flow.cookie.secure:
            yield Finding(
                place=place,
                problem="The cookie of a login travels over plain HTTP as well.",
                line="csrf_token_cookie_secure=True",
            )


def _secret_line(name: str) -> str:
    return f'{name} = os.environ["SECRET"]  # fastapi-users secret'


def _overrides(kind: type[Any], name: str) -> bool:
    return getattr(kind, name) is not getattr(BaseUserManager, name)


def _place_of(kind: type[Any]) -> str:
    return f"{kind.__name__} ({_where(kind)})"


def _where(thing: Any) -> str:
    thing = unwrap(thing)
    try:
        file, (_, line) = getsourcefile(thing), getsourcelines(thing)
    except (OSError, TypeError):  # made by exec(), or an object that is called
        return "source unknown"
    return f"{os.path.relpath(file or '')}:{line}"
