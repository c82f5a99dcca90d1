"""Log in with an OpenID Connect provider, and link more accounts to the own one.

Try it with the provider beside it, from the root of the repository, in two terminals:

    pip install -e ".[sqlalchemy,oauth]" --group demo
    python -m examples.provider               # prints the three settings: export them in the other terminal
    uvicorn examples.oauth.main:app           # then open http://127.0.0.1:8000/

With a real one (Google, Keycloak, Auth0, …), register ``/auth/openid/callback`` and ``/auth/associate/openid/callback``
there as redirect URIs, below the address of ``BASE_URL``, and set what it gives you:

- ``OIDC_CLIENT_ID`` and ``OIDC_CLIENT_SECRET``;
- ``OIDC_CONFIGURATION_URL``, which ends in ``/.well-known/openid-configuration``;
- ``BASE_URL``: where browsers reach this application, without a slash at the end;
- ``SECRET``: 32 random bytes or more. Without it, every start makes a new one.
"""

import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import escape
from typing import Any
from uuid import UUID

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse
from httpx_oauth.clients.openid import OpenID
from sqlalchemy import String
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, CookieTransport
from fastapi_users.authentication.strategy import DatabaseStrategy
from fastapi_users.db import (
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUserDatabase,
)
from fastapi_users.db.sqlalchemy import (
    SQLAlchemyAccessTokenDatabase,
    SQLAlchemyBaseAccessTokenTableUUID,
    SQLAlchemyUniqueEmailMixin,
    SQLAlchemyUniqueOAuthAccountMixin,
    SQLAlchemyWideOAuthAccountMixin,
)
from fastapi_users.password_policy import PasswordPolicy

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)
BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:8000")
IS_SECURE = BASE_URL.startswith("https://")  # a Secure cookie is not sent over plain http
WEEK = 7 * 24 * 3600
NAME_LENGTH = 100

engine = create_async_engine("sqlite+aiosqlite:///./oauth.db")


class Base(DeclarativeBase): ...


class OAuthAccount(
    SQLAlchemyWideOAuthAccountMixin, SQLAlchemyUniqueOAuthAccountMixin, SQLAlchemyBaseOAuthAccountTableUUID, Base
): ...


class User(SQLAlchemyUniqueEmailMixin, SQLAlchemyBaseUserTableUUID, Base):
    name: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    oauth_accounts: Mapped[list[OAuthAccount]] = relationship(lazy="selectin", cascade="all, delete-orphan")


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base): ...


class UserRead(schemas.LinkedOAuthAccountsMixin, schemas.BaseUser[UUID]):
    name: str | None


class UserManager(UUIDIDMixin, BaseUserManager[User, UUID]):
    reset_password_token_secret = verification_token_secret = SECRET
    mask_passwords_in_hooks = True
    password_policy = PasswordPolicy()

    async def get_oauth_user_fields(self, oauth_name: str, profile: Mapping[str, Any]) -> dict[str, Any]:
        """Of a new user. A name is what somebody typed in at the provider: check it like a form."""
        name = profile.get("name")
        return {"name": name[:NAME_LENGTH]} if isinstance(name, str) else {}

    async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None:
        print(f"To {user.email}: your token is {token}")  # noqa: T201 -- stands for a mail


# FastAPI calls it once per request, so that users and their logins share a session.
async def get_session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


def get_user_manager(session: AsyncSession = Depends(get_session)) -> UserManager:
    return UserManager(SQLAlchemyUserDatabase(session, User, OAuthAccount))


def get_strategy(session: AsyncSession = Depends(get_session)) -> DatabaseStrategy[User, UUID, AccessToken]:
    return DatabaseStrategy(SQLAlchemyAccessTokenDatabase(session, AccessToken), WEEK, hash_tokens=True)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


# It asks the provider for its configuration at once: that has to be running.
provider = OpenID(
    os.environ["OIDC_CLIENT_ID"],
    os.environ["OIDC_CLIENT_SECRET"],
    os.environ["OIDC_CONFIGURATION_URL"],
    base_scopes=["openid", "email", "profile"],
)
transport = CookieTransport(
    "__Host-session" if IS_SECURE else "session",  # whose name promises that no other host has set it
    cookie_max_age=WEEK,
    cookie_secure=IS_SECURE,
    csrf_protection=True,
)
backend = AuthenticationBackend[User, UUID]("cookie", transport, get_strategy)
fastapi_users = FastAPIUsers[User, UUID](get_user_manager, [backend])
get_visitor = fastapi_users.current_user(active=True, optional=True)

app = FastAPI(title="Log in with OpenID Connect", lifespan=lifespan)
app.include_router(
    fastapi_users.get_oauth_router(
        provider,
        backend,
        SECRET,
        redirect_url=f"{BASE_URL}/auth/openid/callback",
        # Only where both the provider and the local user have proven the address: strict says so.
        associate_by_email=True,
        is_verified_by_default=True,  # unless the provider says that this one is not
        strict=True,
        allowed_redirects=["/"],
        csrf_token_cookie_secure=IS_SECURE,
    ),
    prefix="/auth/openid",
    tags=["auth"],
)
app.include_router(
    fastapi_users.get_oauth_associate_router(
        provider,
        UserRead,
        SECRET,
        redirect_url=f"{BASE_URL}/auth/associate/openid/callback",
        strict=True,
        allowed_redirects=["/"],
        csrf_token_cookie_secure=IS_SECURE,
    ),
    prefix="/auth/associate/openid",
    tags=["auth"],
)
app.include_router(fastapi_users.get_oauth_accounts_router(), prefix="/account", tags=["account"])

# Users with a password of their own, whom a login with the provider finds by their address.
app.include_router(fastapi_users.get_auth_router(backend), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_register_router(UserRead, schemas.BaseUserCreate), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_verify_router(UserRead), prefix="/auth", tags=["auth"])


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
async def start_page(error: str = "", visitor: User | None = Depends(get_visitor)) -> str:
    # The links are complete: a flow that begins on localhost has its cookie there, and does not end on 127.0.0.1.
    refusal = f'<p role="alert">Refused: {escape(error)}</p>' if error else ""
    if visitor is None:
        return page(
            f'{refusal}<p><a href="{BASE_URL}/auth/openid/authorize?redirect=/">Log in with the provider</a></p>'
        )
    accounts = "".join(
        f"<li>{escape(account.oauth_name)}: {escape(account.account_email)} "
        f'<button data-method="DELETE" data-path="/account/oauth-accounts/{account.id}">Unlink</button></li>'
        for account in visitor.oauth_accounts
    )
    return page(
        f"{refusal}<p>You are {escape(visitor.name or visitor.email)} ({escape(visitor.email)}, "
        f"{'' if visitor.is_verified else 'not '}verified). "
        '<button data-method="POST" data-path="/auth/logout">Log out</button></p>'
        f"<h2>Linked accounts</h2><ul>{accounts}</ul>"
        f'<p><a href="{BASE_URL}/auth/associate/openid/authorize?redirect=/">Link another account</a></p>'
    )


def page(body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="referrer" content="no-referrer">
<title>Log in with OpenID Connect</title>
<h1>Log in with OpenID Connect</h1>
{body}
<script>
for (const button of document.querySelectorAll("button"))
  button.addEventListener("click", async () => {{
    const answer = await fetch(button.dataset.path, {{method: button.dataset.method}});
    const problem = answer.ok ? "" : "?error=" + encodeURIComponent((await answer.json()).detail);
    location.assign("/" + problem);
  }});
</script>
</html>"""
