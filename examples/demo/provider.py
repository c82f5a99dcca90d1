"""The demo brings its own OpenID Connect provider, so that there is one to log in with."""

from collections.abc import Iterator
from contextlib import contextmanager

from httpx_oauth.clients.openid import OpenID

from examples.demo.settings import Settings
from examples.provider import PEOPLE, OIDCProvider

FLOWS = ("/auth/jwt/provider", "/auth/cookie/provider", "/auth/associate/provider")


@contextmanager
def running_provider(settings: Settings) -> Iterator[OpenID]:
    """The client of a provider that answers on a port of its own, in a thread: ``OpenID`` asks it at once who it is.

    It believes whoever comes, and vouches for their addresses. A real application names a real provider here.
    """
    provider = OIDCProvider(
        PEOPLE,
        redirect_uris=[f"{settings.base_url}{flow}/callback" for flow in FLOWS],
        interactive=True,
        require_pkce=True,
    )
    with provider.serve() as configuration_url:
        yield OpenID(
            provider.client_id,
            provider.client_secret,
            configuration_url,
            name="demo-provider",
            base_scopes=["openid", "email", "profile"],
        )
