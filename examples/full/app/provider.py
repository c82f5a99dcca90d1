"""Log in with an OpenID Connect provider, and link its accounts. What to register there stands in examples/oauth."""

from fastapi import APIRouter
from httpx_oauth.clients.openid import OpenID

from .schemas import UserRead
from .settings import (
    BASE_URL,
    FRONTEND_URL,
    OAUTH_STATE_SECRET,
    OIDC_CLIENT_ID,
    OIDC_CLIENT_SECRET,
    OIDC_CONFIGURATION_URL,
)
from .users import browser, fastapi_users


def get_provider_routers() -> list[tuple[str, str, APIRouter]]:
    """Prefix, tag and router of each; none where no provider is set."""
    if OIDC_CLIENT_ID is None:
        return []
    # It asks the provider for its configuration at once: that has to be running.
    provider = OpenID(
        OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, OIDC_CONFIGURATION_URL, base_scopes=["openid", "email", "profile"]
    )
    login = fastapi_users.get_oauth_router(
        provider,
        browser,
        OAUTH_STATE_SECRET,
        redirect_url=f"{BASE_URL}/auth/openid/callback",
        # Only where both the provider and the local user have proven the address: strict says so.
        associate_by_email=True,
        is_verified_by_default=True,  # unless the provider says that this one is not
        strict=True,
        allowed_redirects=[f"{FRONTEND_URL}/"],
    )
    link = fastapi_users.get_oauth_associate_router(
        provider,
        UserRead,
        OAUTH_STATE_SECRET,
        redirect_url=f"{BASE_URL}/auth/associate/openid/callback",
        strict=True,
        allowed_redirects=[f"{FRONTEND_URL}/"],
    )
    return [("/auth/openid", "auth", login), ("/auth/associate/openid", "account", link)]
