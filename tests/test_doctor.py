import uuid
from typing import Any

import pytest
from fastapi import FastAPI
from httpx_oauth.clients.github import GitHubOAuth2
from starlette.middleware.cors import CORSMiddleware

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, JWTStrategy, Strategy
from fastapi_users.authentication.strategy import InMemoryDenylist
from fastapi_users.authentication.strategy.db import DatabaseStrategy
from fastapi_users.cipher import TokenCipher
from fastapi_users.doctor import examine
from fastapi_users.exceptions import InsecureSettingWarning
from fastapi_users.mail import ConsoleMailer
from fastapi_users.password_policy import PasswordPolicy
from fastapi_users.testing import (
    AccessToken,
    InMemoryAccessTokenDatabase,
    InMemoryUserDatabase,
    OAuthAccount,
    OneTimeSecret,
    User,
)
from tests.world import SECRET

BEARER = BearerTransport("login")
DAY = 24 * 60 * 60


class SafeManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = verification_token_secret = SECRET
    password_policy = PasswordPolicy()
    one_time_secret_model = OneTimeSecret
    email_change_requires_confirmation = True
    mailer = ConsoleMailer()


def manager_with(**settings: Any) -> BaseUserManager[Any, Any]:
    manager_class: Any = type("UserManager", (SafeManager,), settings)
    manager: BaseUserManager[Any, Any] = manager_class(InMemoryUserDatabase[User, uuid.UUID](User))
    return manager


def lines(*, manager: Any = None, transport: Any = BEARER, strategy: Any = None, app: Any = None) -> list[str]:
    strategy = strategy or JWTStrategy[User, uuid.UUID](SECRET, 3600)
    backend = AuthenticationBackend[User, uuid.UUID]("main", transport, lambda: strategy)
    return [finding.line for finding in examine(manager or manager_with(), [backend], [strategy], app)]


async def hook(*_: Any) -> None: ...


def test_recommended_settings_need_nothing() -> None:
    assert lines(app=FastAPI()) == []


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"password_policy": None}, "password_policy = PasswordPolicy()"),
        ({"one_time_secret_model": None}, "one_time_secret_model = OneTimeSecret"),
        ({"on_after_update": hook}, "mask_passwords_in_hooks = True"),
        ({"sessions_end_with_credentials": False}, "sessions_end_with_credentials = True"),
        ({"email_change_requires_confirmation": False}, "email_change_requires_confirmation = True"),
        ({"mailer": None}, "mailer = SMTPMailer(…)"),
    ],
)
def test_a_setting_of_the_manager_comes_with_its_line(settings: dict[str, Any], line: str) -> None:
    assert lines(manager=manager_with(**settings)) == [line]


@pytest.mark.parametrize(
    "settings",
    [
        {"password_policy": None, "validate_password": hook},
        {"on_after_update": hook, "mask_passwords_in_hooks": True},
        {"mailer": None, "on_after_forgot_password": hook},
    ],
)
def test_what_the_application_does_itself_is_not_asked_for(settings: dict[str, Any]) -> None:
    assert lines(manager=manager_with(**settings)) == []


def test_secrets_that_are_weak_and_mails_that_count_for_ever_are_found() -> None:
    line = 'reset_password_token_secret = os.environ["SECRET"]  # fastapi-users secret'
    for secret in ("short", [SECRET, "short"]):
        manager = manager_with()
        manager.reset_password_token_secret = secret
        assert lines(manager=manager) == [line]

    manager = manager_with()
    manager.login_ticket_secret = "short"
    manager.verification_token_lifetime_seconds = 0
    assert lines(manager=manager) == [
        'login_ticket_secret = os.environ["SECRET"]  # fastapi-users secret',
        "verification_token_lifetime_seconds = 3600",
    ]


def test_secrets_that_are_missing_are_found() -> None:
    class Bare(UUIDIDMixin, BaseUserManager[User, uuid.UUID]): ...

    found = examine(Bare(InMemoryUserDatabase[User, uuid.UUID](User)), [], [])

    assert [finding.problem for finding in found if "secret" in finding.line] == [
        "reset_password_token_secret is missing: nobody can be mailed a token.",
        "verification_token_secret is missing: nobody can be mailed a token.",
        "Mailed tokens count until they expire, also after a newer one was asked for.",
    ]
    assert "test_doctor.py:" in found[0].place


def test_tokens_of_providers_want_a_cipher() -> None:
    users = InMemoryUserDatabase[User, uuid.UUID](User, OAuthAccount)
    manager = SafeManager(users)
    assert lines(manager=manager) == ["oauth_token_cipher = TokenCipher([SECRET_OF_ITS_OWN])"]

    manager.oauth_token_cipher = TokenCipher([SECRET])
    assert lines(manager=manager) == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"cookie_secure": False}, "CookieTransport(cookie_secure=True)"),
        ({"cookie_httponly": False}, "CookieTransport(cookie_httponly=True)"),
        ({"cookie_samesite": "none", "csrf_protection": False}, "CookieTransport(csrf_protection=True)"),
    ],
)
def test_a_cookie_that_others_can_use_is_found(options: dict[str, Any], line: str) -> None:
    assert lines(transport=CookieTransport(**options)) == [line]
    assert lines(transport=CookieTransport()) == []


def test_tokens_that_live_long_are_found() -> None:
    revoke = "JWTStrategy(…, revoke=StoreDenylist(user_db.store(DeniedToken)))"
    assert lines(strategy=JWTStrategy[User, uuid.UUID](SECRET, None)) == ["JWTStrategy(…, lifetime_seconds=3600)"]
    assert lines(strategy=JWTStrategy[User, uuid.UUID](SECRET, DAY + 1)) == [revoke]
    assert lines(strategy=JWTStrategy[User, uuid.UUID](SECRET, DAY)) == []
    assert lines(strategy=JWTStrategy[User, uuid.UUID](SECRET, DAY + 1, revoke=InMemoryDenylist())) == []


def test_nothing_is_said_of_the_lifetime_of_tokens_where_it_is_not_known() -> None:
    class Own(Strategy[User, uuid.UUID]):
        """Of the application's."""

    assert lines(strategy=Own()) == []  # type: ignore[abstract]  # nothing is abstract at run time


def test_a_weak_secret_of_tokens_is_found_but_no_private_key_is_taken_for_one() -> None:
    with pytest.warns(InsecureSettingWarning):
        strategy = JWTStrategy[User, uuid.UUID]("short", 3600)
    assert lines(strategy=strategy) == ['SECRET = os.environ["SECRET"]  # fastapi-users secret']
    strategy.algorithm = "RS256"
    assert lines(strategy=strategy) == []


def test_tokens_in_clear_text_are_found() -> None:
    tokens = InMemoryAccessTokenDatabase(AccessToken)
    strategy = DatabaseStrategy[User, uuid.UUID, AccessToken](tokens, 3600)
    assert lines(strategy=strategy) == ["DatabaseStrategy(…, hash_tokens=True)"]


def test_an_application_that_shows_itself_to_every_site_is_found() -> None:
    app = FastAPI(debug=True)
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=True)

    assert lines(app=app, transport=CookieTransport()) == [
        'allow_origins=["https://app.example.com"]',
        "FastAPI(debug=False)",
    ]
    assert lines(app=app) == ["FastAPI(debug=False)"]


@pytest.mark.filterwarnings("ignore::fastapi_users.exceptions.InsecureSecretWarning")
def test_what_an_oauth_router_was_told_is_looked_at_once() -> None:
    backend = AuthenticationBackend[User, uuid.UUID]("main", BEARER, lambda: JWTStrategy[User, uuid.UUID](SECRET, 3600))
    users = FastAPIUsers[User, uuid.UUID](manager_with, [backend])
    client, app = GitHubOAuth2("id", "secret"), FastAPI()
    app.include_router(users.get_oauth_router(client, backend, [SECRET, "short"], csrf_token_cookie_secure=False))
    app.include_router(
        users.get_oauth_associate_router(client, schemas.BaseUser[uuid.UUID], SECRET), prefix="/associate"
    )

    found = examine(manager_with(), [], [], app)

    assert [(finding.place, finding.line) for finding in found] == [
        (
            "the OAuth router of 'oauth:github.main.callback'",
            'state_secret = os.environ["SECRET"]  # fastapi-users secret',
        ),
        ("the OAuth router of 'oauth:github.main.callback'", "csrf_token_cookie_secure=True"),
    ]


def test_a_place_without_source_is_named_without_it() -> None:
    found = examine(manager_with(mailer=None), [], [])

    assert found[0].place == "UserManager (source unknown)"
