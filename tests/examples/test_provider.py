"""The provider that other tests log in with keeps the rules of RFC 6749, RFC 7636 and OpenID Connect."""

import secrets
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from httpx_oauth.clients.openid import OpenID
from httpx_oauth.exceptions import GetProfileError
from httpx_oauth.oauth2 import GetAccessTokenError, OAuth2Token, RefreshTokenError

from examples.provider import OIDCProvider

ROOT = Path(__file__).parents[2]
CALLBACK = "https://app.test/callback"
VERIFIER = secrets.token_urlsafe(32)
CHALLENGED: str = create_s256_code_challenge(VERIFIER)  # type: ignore[no-untyped-call]  # a gap of its stubs
CHALLENGE: dict[str, Any] = {"code_challenge": CHALLENGED, "code_challenge_method": "S256"}
ANN = {"email": "ann@example.org", "email_verified": True, "name": "Ann"}


@pytest.fixture
def provider() -> Iterator[OIDCProvider]:
    provider = OIDCProvider({"ann": ANN, "bob": {"email": "bob@example.org"}}, redirect_uris=[CALLBACK])
    with provider.serve():
        yield provider


@pytest.fixture
def client(provider: OIDCProvider) -> OpenID:
    configuration = f"{provider.issuer}/.well-known/openid-configuration"
    return OpenID(provider.client_id, provider.client_secret, configuration, base_scopes=["openid", "email", "profile"])


async def authorize(client: OpenID, form: dict[str, str] | None = None, **params: Any) -> httpx.Response:
    """What the provider answers to a browser; with a form, to one that sends it."""
    extras = {"state": "STATE", **params}
    url = await client.get_authorization_url(CALLBACK, extras_params=extras)
    async with httpx.AsyncClient() as browser:
        return await (browser.get(url) if form is None else browser.post(url, data=form))


def sent_back(answer: httpx.Response) -> dict[str, str]:
    """What the redirect to the application carries."""
    assert answer.status_code == 302
    target = urlsplit(answer.headers["location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == CALLBACK
    return {name: values[0] for name, values in parse_qs(target.query).items()}


async def log_in(client: OpenID, **params: Any) -> OAuth2Token:
    code = sent_back(await authorize(client, **CHALLENGE, **params))["code"]
    return await client.get_access_token(code, CALLBACK, VERIFIER)


async def id_token_of(client: OpenID, token: OAuth2Token) -> dict[str, Any]:
    async with httpx.AsyncClient() as browser:
        keys = (await browser.get(client.openid_configuration["jwks_uri"])).json()
    claims: dict[str, Any] = jwt.decode(
        token["id_token"], jwt.PyJWKSet.from_dict(keys).keys[0], algorithms=["RS256"], audience=client.client_id
    )
    return claims


async def test_the_whole_dance(provider: OIDCProvider, client: OpenID) -> None:
    answer = sent_back(await authorize(client, nonce="NONCE", **CHALLENGE))
    assert answer["state"] == "STATE"

    token = await client.get_access_token(answer["code"], CALLBACK, VERIFIER)
    assert token["token_type"] == "Bearer"
    claims = await id_token_of(client, token)
    assert (claims["iss"], claims["sub"], claims["nonce"]) == (provider.issuer, "ann", "NONCE")
    assert claims["email_verified"] is True
    assert await client.get_profile(token["access_token"]) == {"sub": "ann", **ANN}
    assert await client.get_id_email(token["access_token"]) == ("ann", "ann@example.org")
    assert provider.token_requests == [
        {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }
    ]
    assert provider.jwks_requests == 1


async def test_a_refresh_token_works_once_and_brings_the_next_one(client: OpenID) -> None:
    token = await log_in(client)

    fresh = await client.refresh_token(token["refresh_token"])

    assert fresh["access_token"] != token["access_token"]
    assert (await client.get_profile(fresh["access_token"]))["sub"] == "ann"
    with pytest.raises(RefreshTokenError):
        await client.refresh_token(token["refresh_token"])
    with pytest.raises(GetProfileError):
        await client.get_profile(token["access_token"])
    await client.refresh_token(fresh["refresh_token"])


async def refusal_of(client: OpenID, code: str, redirect_uri: str = CALLBACK, verifier: str | None = VERIFIER) -> str:
    with pytest.raises(GetAccessTokenError) as refused:
        await client.get_access_token(code, redirect_uri, verifier)
    assert refused.value.response is not None
    error: str = refused.value.response.json()["error"]
    return error


async def test_a_code_works_once(client: OpenID) -> None:
    code = sent_back(await authorize(client, **CHALLENGE))["code"]
    await client.get_access_token(code, CALLBACK, VERIFIER)

    assert await refusal_of(client, code) == "invalid_grant"


async def test_a_code_needs_its_verifier(client: OpenID) -> None:
    code = sent_back(await authorize(client, **CHALLENGE))["code"]

    assert await refusal_of(client, code, verifier=secrets.token_urlsafe(32)) == "invalid_grant"
    assert await refusal_of(client, code, verifier=None) == "invalid_request"
    await client.get_access_token(code, CALLBACK, VERIFIER)


async def test_a_code_without_a_challenge_takes_no_verifier(client: OpenID) -> None:
    code = sent_back(await authorize(client))["code"]

    assert await refusal_of(client, code) == "invalid_request"
    await client.get_access_token(code, CALLBACK)


async def test_a_code_belongs_to_its_redirect_uri_and_its_client(client: OpenID) -> None:
    code = sent_back(await authorize(client, **CHALLENGE))["code"]

    assert await refusal_of(client, code, "https://app.test/other") == "invalid_grant"
    client.client_secret = "wrong"
    assert await refusal_of(client, code) == "invalid_client"


@pytest.mark.parametrize(
    "challenge",
    [{"code_challenge": VERIFIER}, {"code_challenge": VERIFIER, "code_challenge_method": "plain"}],
)
async def test_s256_is_the_only_challenge(client: OpenID, challenge: dict[str, Any]) -> None:
    assert sent_back(await authorize(client, **challenge))["error"] == "invalid_request"


async def test_a_challenge_can_be_required(provider: OIDCProvider, client: OpenID) -> None:
    provider.require_pkce = True

    assert sent_back(await authorize(client))["error"] == "invalid_request"
    assert "code" in sent_back(await authorize(client, **CHALLENGE))


async def test_a_nonce_works_once(client: OpenID) -> None:
    await log_in(client, nonce="NONCE")

    assert sent_back(await authorize(client, nonce="NONCE"))["error"] == "invalid_request"


@pytest.mark.parametrize("params", [{"redirect_uri": "https://evil.test/"}, {"client_id": "somebody"}])
async def test_a_browser_is_not_sent_to_a_stranger(client: OpenID, params: dict[str, Any]) -> None:
    answer = await authorize(client, **params)

    assert answer.status_code in {400, 401}
    assert "location" not in answer.headers


async def test_nobody_logged_in_is_a_refusal(provider: OIDCProvider, client: OpenID) -> None:
    provider.user = None

    answer = sent_back(await authorize(client))
    assert (answer["error"], answer["state"]) == ("access_denied", "STATE")


async def test_unknown_scopes_are_refused_and_none_give_no_id_token(client: OpenID) -> None:
    assert sent_back(await authorize(client, scope="calendar"))["error"] == "invalid_scope"

    code = sent_back(await authorize(client, scope=""))["code"]
    token = await client.get_access_token(code, CALLBACK)
    assert "id_token" not in token
    with pytest.raises(GetProfileError):
        await client.get_profile(token["access_token"])


async def test_an_access_token_expires(provider: OIDCProvider, client: OpenID) -> None:
    provider.expires_in = 0
    token = await log_in(client)

    with pytest.raises(GetProfileError):
        await client.get_profile(token["access_token"])


async def test_a_page_asks_who_it_is(provider: OIDCProvider, client: OpenID) -> None:
    provider.interactive = True
    provider.users["<i>"] = {}
    page = await authorize(client)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert '<button name="user" value="ann">Log in as Ann</button> ann@example.org</p>' in page.text
    assert '<button name="user" value="bob">Log in as bob</button> bob@example.org (not proven)</p>' in page.text
    assert '<button name="user" value="&lt;i&gt;">Log in as &lt;i&gt;</button>' in page.text

    async def who(form: dict[str, str]) -> dict[str, Any]:
        code = sent_back(await authorize(client, form))["code"]
        profile: dict[str, Any] = await client.get_profile(
            (await client.get_access_token(code, CALLBACK))["access_token"]
        )
        return profile

    assert await who({"user": "bob"}) == {"sub": "bob", "email": "bob@example.org"}
    eve = {"sub": "eve@example.org", "email": "eve@example.org"}
    assert await who({"email": "eve@example.org"}) == {**eve, "email_verified": False}
    assert await who({"email": "fay@example.org", "verified": "on"}) == {
        "sub": "fay@example.org",
        "email": "fay@example.org",
        "email_verified": True,
    }
    assert sent_back(await authorize(client, {}))["error"] == "access_denied"
    assert sent_back(await authorize(client, {"user": "mallory"}))["error"] == "access_denied"


async def test_it_signs_with_a_new_key_when_told_to(provider: OIDCProvider, client: OpenID) -> None:
    old = await log_in(client)
    provider.rotate_key()

    assert (await id_token_of(client, await log_in(client)))["sub"] == "ann"
    with pytest.raises(jwt.InvalidSignatureError):
        await id_token_of(client, old)


async def test_it_lies_when_told_to(provider: OIDCProvider, client: OpenID) -> None:
    provider.id_token_claims = {"iss": "https://evil.test", "nonce": "OTHER"}
    provider.userinfo_claims = {"sub": "bob"}
    token = await log_in(client, nonce="NONCE")
    claims = await id_token_of(client, token)
    assert (claims["iss"], claims["nonce"], claims["sub"]) == ("https://evil.test", "OTHER", "ann")
    assert (await client.get_profile(token["access_token"]))["sub"] == "bob"

    for algorithm in ("HS256", "none"):
        provider.id_token_algorithm = algorithm
        header = jwt.get_unverified_header((await log_in(client))["id_token"])
        assert header == {"alg": algorithm, "kid": provider.key.kid, "typ": "JWT"}


async def test_it_fails_when_told_to(provider: OIDCProvider, client: OpenID) -> None:
    provider.token_failure = 503

    assert await refusal_of(client, "CODE") == "server_error"


def test_it_runs_as_a_command_that_prints_what_an_application_needs_to_know() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "examples.provider", "--port", str(port), CALLBACK]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 -- our own
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline() for _ in range(5)]
            settings = dict(line.split(maxsplit=1)[1].split("=", 1) for line in lines[2:])
            [url] = shlex.split(settings["OIDC_CONFIGURATION_URL"])
            assert httpx.get(url).json()["issuer"] == f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
    assert settings.keys() == {"OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET", "OIDC_CONFIGURATION_URL"}
