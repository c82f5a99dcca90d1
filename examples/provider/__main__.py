# ruff: noqa: T201 -- a command speaks by printing
import shlex
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress

from examples.provider import PEOPLE, OIDCProvider

APP = "http://127.0.0.1:8000"
CALLBACKS = [f"{APP}/auth/openid/callback", f"{APP}/auth/associate/openid/callback"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = ArgumentParser("python -m examples.provider", description="An OpenID Connect provider to try things with.")
    parser.add_argument("--port", default=9000, type=int)
    parser.add_argument("redirect_uris", nargs="*", default=CALLBACKS, help="by default those of examples/oauth")
    options = parser.parse_args(arguments)
    provider = OIDCProvider(PEOPLE, redirect_uris=options.redirect_uris, interactive=True, require_pkce=True)
    with provider.serve(port=options.port) as configuration_url, suppress(KeyboardInterrupt):
        settings = {
            "OIDC_CLIENT_ID": provider.client_id,
            "OIDC_CLIENT_SECRET": provider.client_secret,
            "OIDC_CONFIGURATION_URL": configuration_url,
        }
        print("What an application needs to know of it:\n")
        print(*(f"export {name}={shlex.quote(value)}" for name, value in settings.items()), sep="\n", flush=True)
        threading.Event().wait()  # until Ctrl-C
    return 0


if __name__ == "__main__":
    sys.exit(main())
