"""The whole dance with a real OpenID Connect provider, over HTTP."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from httpx import AsyncClient, Response
from httpx_oauth.clients.openid import OpenID

from examples.provider import OIDCProvider
from tests.router.test_oauth import users_of
from tests.world import SECRET, World

CALLBACK = "https://app.test/oauth/callback"
ANN = {"email": "ann@example.org", "email_verified": True, "name": "Ann"}


@pytest.fixture
def provider() -> Iterator[OIDCProvider]:
    provider = OIDCProvider({"ann": ANN}, redirect_uris=[CALLBACK], require_pkce=True)
    with provider.serve():
        yield provider


@pytest.fixture
async def world(tmp_path: Path, provider: OIDCProvider) -> AsyncIterator[World]:
    configuration = f"{provider.issuer}/.well-known/openid-configuration"
    client: Any = OpenID(provider.client_id, provider.client_secret, configuration)
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, provider=client, strict=True, associate_by_email=True, redirect_url=CALLBACK) as world:
        yield world


async def log_in(world: World) -> Response:
    """As a browser does: to the provider, and back with what that sends along."""
    begun = await world.client.get("/oauth/authorize")
    async with AsyncClient() as browser:
        redirect = await browser.get(begun.json()["authorization_url"])
    assert redirect.headers["location"].startswith(CALLBACK)
    return await world.client.get(redirect.headers["location"])


async def test_a_user_is_made_by_the_first_login_and_found_by_the_next(world: World, provider: OIDCProvider) -> None:
    for _ in range(2):
        assert (await log_in(world)).status_code == 204
        assert (await world.client.get("/users/me")).json()["email"] == "ann@example.org"

    assert [user["accounts"] for user in await users_of(world)] == [[("ann", "ann@example.org")]]
    # The provider would have refused a wrong verifier.
    assert all(request["code_verifier"] for request in provider.token_requests)


async def test_the_code_of_another_flow_is_refused_by_the_provider(world: World) -> None:
    """A code that was injected (RFC 9700, section 4.5): its challenge is that of another browser."""
    async with world.new_client() as attacker, AsyncClient() as browser:
        begun = await attacker.get("/oauth/authorize")
        theirs = await browser.get(begun.json()["authorization_url"])
        code = parse_qs(urlsplit(theirs.headers["location"]).query)["code"][0]
    begun = await world.client.get("/oauth/authorize")
    state = parse_qs(urlsplit(begun.json()["authorization_url"]).query)["state"][0]

    answer = await world.client.get("/oauth/callback", params={"code": code, "state": state})

    assert (answer.status_code, answer.json()) == (400, {"detail": "OAUTH_PROVIDER_ERROR"})


@pytest.mark.parametrize(
    "switches",
    [
        {"id_token_algorithm": "none"},
        {"id_token_algorithm": "HS256"},
        {"id_token_claims": {"iss": "https://evil.test"}},
        {"id_token_claims": {"aud": "another-client"}},
        {"id_token_claims": {"nonce": "of another flow"}},
        {"id_token_claims": {"exp": 1}},
        {"userinfo_claims": {"sub": "bob"}},
        {"token_failure": 500},
    ],
)
async def test_whatever_does_not_hold_is_refused(
    world: World, provider: OIDCProvider, switches: dict[str, Any]
) -> None:
    """D23 for the ``sub``, which is that of the ID token of this issuer."""
    for name, value in switches.items():
        setattr(provider, name, value)

    answer = await log_in(world)

    assert (answer.status_code, answer.json()) == (400, {"detail": "OAUTH_PROVIDER_ERROR"})
    assert await users_of(world) == []


@pytest.mark.parametrize(
    ("user_info", "id_token", "is_linked"),
    [
        ({}, {}, True),
        ({"email_verified": False}, {}, False),
        ({"email_verified": True}, {"email_verified": False}, False),
        # Each speaks for the address that it names, and not for the other's.
        ({"email": "victim@example.org"}, {"email": "ann@example.org"}, True),
    ],
)
async def test_an_address_is_vouched_for_by_who_names_it(
    world: World, provider: OIDCProvider, user_info: dict[str, Any], id_token: dict[str, Any], is_linked: bool
) -> None:
    email = user_info.get("email", "ann@example.org")
    await world.insert_user(email, is_verified=True)
    provider.userinfo_claims, provider.id_token_claims = user_info, id_token

    answer = await log_in(world)

    assert answer.status_code == (204 if is_linked else 400)


async def test_silence_of_the_profile_is_not_filled_by_another_address(world: World, provider: OIDCProvider) -> None:
    await world.insert_user("victim@example.org", is_verified=True)
    provider.users["ann"] = {"email": "victim@example.org"}
    provider.id_token_claims = {"email": "ann@example.org", "email_verified": True}

    answer = await log_in(world)

    assert (answer.status_code, answer.json()) == (400, {"detail": "OAUTH_USER_ALREADY_EXISTS"})


async def test_a_flow_goes_on_after_the_secret_was_rotated(world: World, provider: OIDCProvider) -> None:
    """Requirement 59: state, verifier and nonce come from the secret under which it began."""
    newer = "a newer secret of the tests, longer than 32 bytes"
    for prefix, secrets in (("/rotated", [newer, SECRET]), ("/dropped", newer)):
        router = world.fastapi_users.get_oauth_router(
            world.provider, world.cookie, secrets, CALLBACK, strict=True, associate_by_email=True
        )
        world.app.include_router(router, prefix=prefix)

    async def begin_and_finish(begin: str, finish: str) -> int:
        begun = await world.client.get(f"{begin}/authorize")
        async with AsyncClient() as browser:
            redirect = await browser.get(begun.json()["authorization_url"])
        query = dict(parse_qsl(urlsplit(redirect.headers["location"]).query))
        return (await world.client.get(f"{finish}/callback", params=query)).status_code

    assert await begin_and_finish("/oauth", "/rotated") == 204
    assert await begin_and_finish("/rotated", "/rotated") == 204
    assert await begin_and_finish("/rotated", "/dropped") == 204
    assert await begin_and_finish("/rotated", "/oauth") == 400
    assert await begin_and_finish("/oauth", "/dropped") == 400
    assert all(request["code_verifier"] for request in provider.token_requests)
