"""What ``fastapi-users doctor`` looks at: settings that work and are not safe, each with the line to write instead."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import getsourcefile, getsourcelines, unwrap
from typing import Any

from fastapi import FastAPI

from fastapi_users.authentication import AuthenticationBackend, CookieTransport, JWTStrategy
from fastapi_users.insecure import secret_weakness
from fastapi_users.jwt import get_secret_values, is_symmetric
from fastapi_users.manager import BaseUserManager

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
    return findings


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
        yield Finding(place=f"{kind.__name__} ({_where(kind)})", problem=problem, line=line)


def _of_the_secrets(manager: BaseUserManager[Any, Any]) -> Iterator[tuple[str, str]]:
    for name in ("reset_password_token_secret", "verification_token_secret", "login_ticket_secret"):
        secret = getattr(manager, name, None)
        if secret is None and name != "login_ticket_secret":  # which is that of the reset, then
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
    if not lifetime:
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


def _secret_line(name: str) -> str:
    return f'{name} = os.environ["SECRET"]  # fastapi-users secret'


def _overrides(kind: type[Any], name: str) -> bool:
    return getattr(kind, name) is not getattr(BaseUserManager, name)


def _where(thing: Any) -> str:
    thing = unwrap(thing)
    try:
        file, (_, line) = getsourcefile(thing), getsourcelines(thing)
    except (OSError, TypeError):  # made by exec(), or an object that is called
        return "source unknown"
    return f"{os.path.relpath(file or '')}:{line}"
