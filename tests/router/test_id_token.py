import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import jwt
import pytest
from anyio.lowlevel import checkpoint
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from httpx_oauth.clients.google import GoogleOAuth2
from httpx_oauth.clients.openid import OpenID
from httpx_oauth.oauth2 import BaseOAuth2
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.warnings import InsecureKeyLengthWarning

from examples.provider import OIDCProvider
from fastapi_users.router import id_token as module
from fastapi_users.router.id_token import IDTokenVerifier, InvalidIDToken
from fastapi_users.testing import frozen_clock

ISSUER = "https://provider.test"
CLIENT_ID = "the-client"
CLIENT_SECRET = "the secret of the client, longer than 32 bytes"
NONCE = "the-nonce"
ACCESS_TOKEN = "the-access-token"

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Key] = {
    "RS256": RSA,
    "RS384": RSA,
    "RS512": RSA,
    "PS256": RSA,
    "PS384": RSA,
    "PS512": RSA,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
HALF_DIGESTS = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512, "DSA": hashlib.sha512}


def jwk(key: Key | rsa.RSAPublicKey, **members: Any) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return {**RSAAlgorithm.to_jwk(key, as_dict=True), **members}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), **members}
    return {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), **members}


PUBLISHED = jwk(RSA.public_key(), kid="one", use="sig", alg="RS256")


class Client(BaseOAuth2[dict[str, Any]]):
    """Like httpx-oauth's ``OpenID``, with a provider in memory; ``answer`` is what it says when asked for its keys."""

    def __init__(self, **configuration: Any) -> None:
        super().__init__(CLIENT_ID, CLIENT_SECRET, f"{ISSUER}/authorize", f"{ISSUER}/token")
        self.openid_configuration = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks", **configuration}
        self.answer: httpx.Response | Exception = httpx.Response(200, json={"keys": [PUBLISHED]})
        self.fetches = 0
        self.may_answer = anyio.Event()
        self.may_answer.set()
        self.now = 1000.0

    def publish(self, *keys: Any) -> None:
        self.answer = httpx.Response(200, json={"keys": keys})

    def get_httpx_client(self) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, str(request.url)) == ("GET", f"{ISSUER}/jwks")
        self.fetches += 1
        await self.may_answer.wait()
        await checkpoint()
        if isinstance(self.answer, Exception):
            raise self.answer
        return httpx.Response(self.answer.status_code, content=self.answer.content, headers=self.answer.headers)

    def verifier(self) -> IDTokenVerifier:
        verifier = IDTokenVerifier.for_client(self, clock=lambda: self.now)
        assert verifier is not None
        return verifier


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {"iss": ISSUER, "sub": "ann", "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": NONCE}
    return {name: value for name, value in {**made, **changed}.items() if value is not MISSING}


MISSING = object()


def signed(
    payload: Mapping[str, Any], key: Any = RSA, algorithm: str = "RS256", headers: dict[str, Any] | None = None
) -> str:
    """By the provider; a header that is ``None`` is left out."""
    headers = {"kid": "one", **(headers or {})}
    present = {name: value for name, value in headers.items() if value is not None}
    return jwt.encode(dict(payload), key, algorithm, present)


async def refusal(client: Client, token: object, **options: Any) -> str:
    with pytest.raises(InvalidIDToken) as refused:
        await client.verifier().verify(token, **{"nonce": NONCE, **options})
    if isinstance(token, str):
        assert [part for part in token.split(".") if len(part) > 9 and part in str(refused.value)] == []
    return str(refused.value)


async def test_the_claims_of_a_good_token_are_returned() -> None:
    payload = claims(email="ann@example.org")

    assert await Client().verifier().verify(signed(payload), nonce=NONCE) == payload


@pytest.mark.parametrize("algorithm", KEYS)
async def test_every_asymmetric_algorithm_that_the_provider_announces_is_good(algorithm: str) -> None:
    client = Client(id_token_signing_alg_values_supported=["none", "HS256", "RS256", algorithm, None, {}])
    client.publish(PUBLISHED, jwk(KEYS[algorithm], kid="two"))
    digest = HALF_DIGESTS[algorithm[-3:]](ACCESS_TOKEN.encode()).digest()
    at_hash = base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("=")
    payload = claims(at_hash=at_hash)
    token = signed(payload, KEYS[algorithm], algorithm, {"kid": "two"})

    assert await client.verifier().verify(token, nonce=NONCE, access_token=ACCESS_TOKEN) == payload
    assert await refusal(client, token, access_token="another") == "at_hash is of another access token"


@pytest.mark.parametrize("announced", [{}, {"id_token_signing_alg_values_supported": None}])
async def test_a_provider_that_announces_no_algorithm_signs_with_rs256(announced: dict[str, Any]) -> None:
    client = Client(**announced)
    client.publish(jwk(RSA.public_key(), kid="one"))

    await client.verifier().verify(signed(claims()), nonce=NONCE)
    for algorithm in ("RS384", "PS256"):
        assert await refusal(client, signed(claims(), algorithm=algorithm)) == "its algorithm is not allowed"


def with_hmac(header: dict[str, Any], secret: bytes) -> str:
    """By hand, as PyJWT does not sign with a public key, which is what an attacker would do."""
    segments = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims())]
    signing_input = b".".join(segments)
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signing_input, "sha256")).rstrip(b"=")
    return b".".join([signing_input, signature]).decode()


@pytest.mark.parametrize("header", [{"alg": "HS256"}, {"alg": "HS256", "kid": "one"}, {"alg": ["RS256"]}, {}])
@pytest.mark.parametrize(
    "secret",
    [CLIENT_SECRET.encode(), b"", RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)],
    ids=["the client's", "none", "the public key"],
)
async def test_a_shared_secret_signs_nothing(header: dict[str, Any], secret: bytes) -> None:
    client = Client(id_token_signing_alg_values_supported=["RS256", "HS256", "none"])
    client.publish(PUBLISHED, {"kty": "oct", "k": base64.urlsafe_b64encode(CLIENT_SECRET.encode()).decode()})

    await refusal(client, with_hmac(header, secret))


async def test_an_unsigned_token_is_refused() -> None:
    client = Client(id_token_signing_alg_values_supported=["RS256", "none"])

    for algorithm in ("none", "None", "NONE"):
        token = with_hmac({"alg": algorithm, "kid": "one"}, b"").rsplit(".", 1)[0]
        assert await refusal(client, f"{token}.") == "its algorithm is not allowed"
    assert client.fetches == 0


@pytest.mark.parametrize(
    "key",
    [
        jwk(RSA.public_key(), kid="two"),
        jwk(rsa.generate_private_key(65537, 2048).public_key(), kid="one"),
        jwk(RSA.public_key(), kid="one", use="enc"),
        jwk(RSA.public_key(), kid="one", alg="PS256"),
        jwk(RSA.public_key(), kid="one", kty="EC"),
        jwk(RSA.public_key(), kid="one", crv="P-256"),
        jwk(RSA.public_key(), kid="one", n=None),
        jwk(RSA.public_key(), kid="one", n="AQAB"),
        jwk(RSA.public_key(), kid="one", e="AQ"),
        jwk(KEYS["ES256"], kid="one"),
        {"kid": "one"},
        "one",
        None,
    ],
)
async def test_a_signature_needs_a_key_of_the_provider_that_makes_such(key: Any) -> None:
    client = Client()
    client.publish(key)

    assert await refusal(client, signed(claims())) == "no key of the provider made the signature"

    client.publish(key, PUBLISHED)
    await client.verifier().verify(signed(claims()), nonce=NONCE)


async def test_a_short_key_signs_nothing() -> None:
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 -- the point
    client = Client()
    client.publish(jwk(short.public_key(), kid="one"))
    with pytest.warns(InsecureKeyLengthWarning):
        token = signed(claims(), short)

    assert await refusal(client, token) == "no key of the provider made the signature"


async def test_a_private_key_that_was_published_by_mistake_is_used_as_a_public_one() -> None:
    client = Client(id_token_signing_alg_values_supported=["RS256", "PS256"])
    client.publish(jwk(RSA, kid="one"))

    for algorithm in ("RS256", "PS256"):
        await client.verifier().verify(signed(claims(), algorithm=algorithm), nonce=NONCE)


async def test_a_token_without_kid_is_tried_with_every_key() -> None:
    client = Client()
    client.publish(jwk(rsa.generate_private_key(65537, 2048).public_key(), kid="two"), PUBLISHED)

    await client.verifier().verify(signed(claims(), headers={"kid": None}), nonce=NONCE)


@pytest.mark.parametrize(
    "headers", [{"crit": ["b64"], "b64": True}, {"crit": ["exp"], "exp": 1}, {"crit": []}, {"crit": None, "kid": 1}]
)
async def test_headers_that_must_be_understood_are_not(headers: dict[str, Any]) -> None:
    header = {"alg": "RS256", "kid": "one", **headers}
    segments = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims())]
    signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(b".".join(segments), RSA)
    token = b".".join([*segments, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()

    await refusal(Client(), token)


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": MISSING},
        {"iss": f"{ISSUER}/"},
        {"iss": ISSUER.upper()},
        {"iss": [ISSUER]},
        {"aud": MISSING},
        {"aud": []},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": {CLIENT_ID: 1}},
        {"aud": [CLIENT_ID, 1]},
        {"aud": [CLIENT_ID, "another"]},
        {"aud": [CLIENT_ID, "another"], "azp": "another"},
        {"aud": [CLIENT_ID, "another"], "azp": [CLIENT_ID]},
        {"azp": "another"},
        {"azp": None},
        {"exp": MISSING},
        {"exp": "soon"},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"iat": MISSING},
        {"iat": None},
        {"iat": float("inf")},
        {"nbf": "now"},
        {"sub": MISSING},
        {"sub": None},
        {"sub": 1},
        {"sub": ""},
        {"sub": "a" * 256},
        {"sub": "a\0"},
        {"sub": "a\n"},
        {"sub": "a\ud800"},
        {"nonce": MISSING},
        {"nonce": None},
        {"nonce": ""},
        {"nonce": NONCE.upper()},
        {"nonce": [NONCE]},
        {"nonce": "\ud800"},
        {"at_hash": ""},
        {"at_hash": None},
        {"at_hash": 1},
        {"at_hash": "é"},
    ],
)
async def test_a_claim_that_is_wrong_or_missing_is_a_refusal(changed: dict[str, Any]) -> None:
    payload = claims(**changed)
    if not isinstance(payload.get("iss", ISSUER), str):  # which PyJWT does not sign
        token = jwt.api_jws.encode(json.dumps(payload).encode(), RSA, "RS256", {"kid": "one"})
    else:
        token = signed(payload)

    await refusal(Client(), token, access_token=ACCESS_TOKEN)


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": [CLIENT_ID]},
        {"aud": [CLIENT_ID, "another"], "azp": CLIENT_ID},
        {"azp": CLIENT_ID},
        {"sub": "a" * 255},
        {"sub": "ä|ö"},
    ],
)
async def test_claims_that_may_differ(changed: dict[str, Any]) -> None:
    payload = claims(**changed)

    assert await Client().verifier().verify(signed(payload), nonce=NONCE) == payload


async def test_nonce_and_at_hash_are_only_checked_against_something() -> None:
    verifier = Client().verifier()

    await verifier.verify(signed(claims(nonce=MISSING)), nonce=None)
    await verifier.verify(signed(claims()), nonce=None)
    await verifier.verify(signed(claims(at_hash="?")), nonce=NONCE)
    await verifier.verify(signed(claims()), nonce=NONCE, access_token=ACCESS_TOKEN)


async def test_clocks_may_differ_by_a_minute() -> None:
    client = Client()
    with frozen_clock():
        now = int(time.time())
        for good in ({"exp": now - 59}, {"iat": now + 59}, {"nbf": now + 59}):
            await client.verifier().verify(signed(claims(**good)), nonce=NONCE)
        for bad in ({"exp": now - 61}, {"iat": now + 62}, {"nbf": now + 62}):
            await refusal(client, signed(claims(**bad)))


@pytest.mark.parametrize("token", [None, 1, b"", [], {}, "", ".", "..", "a.b.c", "é.é.é", "\ud800.a.b"])
async def test_what_is_no_token_is_refused_without_asking_for_keys(token: object) -> None:
    client = Client()

    await refusal(client, token)
    assert client.fetches == 0


async def test_a_giant_token_is_refused() -> None:
    assert await refusal(Client(), signed(claims(padding="x" * 65_536))) == "it is too long"


async def test_keys_are_kept_for_an_hour() -> None:
    client = Client()
    verifier = client.verifier()

    for at, fetches in [(1000, 1), (1001, 1), (4599, 1), (4600, 2), (4601, 2)]:
        client.now = at
        await verifier.verify(signed(claims()), nonce=NONCE)
        assert client.fetches == fetches


@pytest.mark.parametrize("kid", ["two", "one", None])
async def test_a_new_key_of_the_provider_is_found_at_once_but_not_more_than_once_a_minute(kid: str | None) -> None:
    client = Client()
    verifier = client.verifier()
    new = rsa.generate_private_key(65537, 2048)
    token = signed(claims(), new, headers={"kid": kid})

    async def is_good() -> bool:
        with suppress(InvalidIDToken):
            return bool(await verifier.verify(token, nonce=NONCE))
        return False

    await verifier.verify(signed(claims()), nonce=NONCE)
    client.publish(jwk(new.public_key(), **({} if kid is None else {"kid": kid})))
    client.now += 59
    assert (await is_good(), client.fetches) == (False, 1)
    client.now += 1
    assert (await is_good(), client.fetches) == (True, 2)
    client.publish(PUBLISHED)
    assert (await is_good(), client.fetches) == (True, 2)
    client.now += 3599
    assert (await is_good(), client.fetches) == (True, 2)
    client.now += 1
    assert (await is_good(), client.fetches) == (False, 3)


async def test_requests_at_the_same_time_fetch_the_keys_once() -> None:
    client = Client()
    verifier = client.verifier()
    client.may_answer = anyio.Event()
    found: list[dict[str, Any]] = []

    async def verify() -> None:
        found.append(await verifier.verify(signed(claims()), nonce=NONCE))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(verify)
        await anyio.wait_all_tasks_blocked()
        assert found == []
        client.may_answer.set()

    assert (len(found), client.fetches) == (5, 1)


async def test_those_who_waited_for_an_answer_that_failed_do_not_ask_one_by_one_and_the_next_one_does() -> None:
    client = Client()
    client.answer = httpx.ConnectError("no route")
    verifier = client.verifier()
    client.may_answer = anyio.Event()
    refused: list[InvalidIDToken] = []

    async def verify() -> None:
        with pytest.raises(InvalidIDToken) as refusal:
            await verifier.verify(signed(claims()), nonce=NONCE)
        refused.append(refusal.value)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(verify)
        await anyio.wait_all_tasks_blocked()
        client.may_answer.set()
    assert (len(refused), client.fetches) == (5, 1)

    client.publish(PUBLISHED)
    await verifier.verify(signed(claims()), nonce=NONCE)
    assert client.fetches == 2


async def test_a_request_that_is_given_up_does_not_take_the_keys_from_those_who_wait() -> None:
    client = Client()
    verifier = client.verifier()
    client.may_answer = anyio.Event()
    found: list[dict[str, Any]] = []

    async def verify() -> None:
        found.append(await verifier.verify(signed(claims()), nonce=NONCE))

    async def give_up() -> None:
        with given_up:
            await verifier.verify(signed(claims()), nonce=NONCE)

    given_up = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(give_up)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(verify)
        await anyio.wait_all_tasks_blocked()
        given_up.cancel()
        await anyio.wait_all_tasks_blocked()
        client.may_answer.set()

    assert (len(found), client.fetches) == (1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, json={"keys": [PUBLISHED]}),
        httpx.Response(302, headers={"location": f"{ISSUER}/jwks"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, content=b"\xff"),
        httpx.Response(200, text="[" * 100_000),
        httpx.Response(200, json=[PUBLISHED]),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"keys": None}),
        httpx.Response(200, json={"keys": [PUBLISHED], "padding": "x" * 512 * 1024}),
        httpx.ConnectError("no route"),
        httpx.InvalidURL("what?"),
        OSError("what?"),
    ],
)
async def test_keys_that_cannot_be_had_are_a_refusal(answer: httpx.Response | Exception) -> None:
    client = Client()
    client.answer = answer

    await refusal(client, signed(claims()))


async def test_a_provider_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FETCH_TIMEOUT_SECONDS", 0)
    client = Client()
    client.may_answer = anyio.Event()

    assert await refusal(client, signed(claims())) == "TimeoutError"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(token=st.text() | st.binary() | JSON | st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*", fullmatch=True))
def test_garbage_is_refused(token: object) -> None:
    anyio.run(refusal, Client(), token)


@given(header=st.dictionaries(st.sampled_from(["alg", "b64", "crit", "kid", "typ"]), JSON | st.just("RS256")))
def test_headers_of_garbage_are_refused(header: dict[str, Any]) -> None:
    anyio.run(refusal, Client(), with_hmac(header, b""))


@given(st.sampled_from(["iss", "sub", "aud", "azp", "exp", "iat", "nbf", "nonce", "at_hash", "jti"]), JSON)
def test_claims_of_garbage_are_refused_or_harmless(name: str, value: Any) -> None:
    payload = json.dumps({**claims(), name: value}).encode()
    token = jwt.api_jws.encode(payload, RSA, "RS256", {"kid": "one"})

    async def verify() -> None:
        with suppress(InvalidIDToken):
            found = await Client().verifier().verify(token, nonce=NONCE, access_token=ACCESS_TOKEN)
            assert (found["iss"], found["nonce"]) == (ISSUER, NONCE)

    anyio.run(verify)


@given(st.dictionaries(st.sampled_from(["kty", "kid", "use", "alg", "n", "e", "crv", "d"]), JSON))
def test_keys_of_garbage_are_not_used(changed: dict[str, Any]) -> None:
    client = Client()
    client.answer = httpx.Response(200, text=json.dumps({"keys": [{**jwk(RSA), "kid": "one", **changed}]}))

    async def verify() -> None:
        with suppress(InvalidIDToken):
            await client.verifier().verify(signed(claims()), nonce=NONCE)

    anyio.run(verify)


@pytest.mark.parametrize("changed", [{"issuer": None}, {"issuer": ""}, {"jwks_uri": None}, {"jwks_uri": ["x"]}])
def test_a_configuration_without_issuer_or_keys_makes_no_verifier(changed: dict[str, Any]) -> None:
    assert IDTokenVerifier.for_client(Client(**changed)) is None


def test_other_clients_make_no_verifier() -> None:
    assert IDTokenVerifier.for_client(GoogleOAuth2("ID", "SECRET")) is None


@pytest.fixture
def provider() -> Iterator[OIDCProvider]:
    provider = OIDCProvider({"ann": {"email": "ann@example.org"}}, redirect_uris=["https://app.test/"])
    with provider.serve():
        yield provider


async def test_tokens_of_a_real_provider(provider: OIDCProvider) -> None:
    client = OpenID(CLIENT_ID, provider.client_secret, f"{provider.issuer}/.well-known/openid-configuration")
    verifier = IDTokenVerifier.for_client(client, clock=lambda: now)
    assert verifier is not None
    now = 0.0

    async def log_in(nonce: str) -> dict[str, Any]:
        url = await client.get_authorization_url("https://app.test/", extras_params={"nonce": nonce})
        async with httpx.AsyncClient() as browser:
            location = (await browser.get(url)).headers["location"]
        token = await client.get_access_token(parse_qs(urlsplit(location).query)["code"][0], "https://app.test/")
        return await verifier.verify(token["id_token"], nonce=nonce, access_token=token["access_token"])

    found = await log_in("one")
    assert (found["sub"], found["email"]) == ("ann", "ann@example.org")
    await log_in("two")
    assert provider.jwks_requests == 1
    provider.rotate_key()
    now += 60
    await log_in("three")
    assert provider.jwks_requests == 2

    lies: list[dict[str, Any]] = [{"iss": ISSUER}, {"aud": "x"}, {"nonce": "x"}, {"exp": 1}, {"at_hash": "x"}]
    for number, lie in enumerate(lies):
        provider.id_token_claims = lie
        with pytest.raises(InvalidIDToken):
            await log_in(f"lie {number}")
    provider.id_token_claims = {}
    for algorithm in ("HS256", "none"):
        provider.id_token_algorithm = algorithm
        with pytest.raises(InvalidIDToken):
            await log_in(algorithm)
