"""The other side is a real server on the loopback interface, which speaks the protocol of "Have I Been Pwned"."""

import hashlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from fastapi_users.breached_passwords import BreachedPasswords
from fastapi_users.password_policy import PasswordPolicy, PasswordRefused

PASSWORD = "a password of somebody"
DIGEST = hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).hexdigest().upper()
OTHERS = "0018A45C4D1DEF81644B54AB7F969B88D65:10\r\n003D68EB55068C33ACE09247EE4C639306B:3\r\n"
PADDING = f"{DIGEST[5:]}:0\r\n011053FD0102E94D6AE2F8B83D76FAF94F6:0"


class Server:
    """Answers everything with the same. ``requests`` are the texts of what was asked."""

    base_url: str

    def __init__(self, body: str, *, status: str = "200 OK", hangs: bool = False) -> None:
        self.answer = f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{body}".encode()
        self.hangs = hangs
        self.requests: list[str] = []

    async def handle(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            self.requests.append((await stream.receive()).decode())
            with suppress(anyio.BrokenResourceError):  # the client may have heard enough
                await (anyio.sleep_forever() if self.hangs else stream.send(self.answer))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 -- not Django's
        self.base_url = f"http://127.0.0.1:{port}/range"
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self.handle)
            yield self
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_password_from_a_breach_is_known_and_only_five_digits_are_told(
    slash: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Requirement 4"""
    caplog.set_level(logging.DEBUG)
    async with Server(f"{OTHERS}{DIGEST[5:]}:42\r\n").running() as server:
        breached = BreachedPasswords(server.base_url + slash)

        assert await breached.count(PASSWORD) == 42
        assert await breached(PASSWORD)

    request = server.requests[0]
    assert request.startswith(f"GET /range/{DIGEST[:5]} HTTP/1.1\r\n")
    assert "add-padding: true\r\n" in request.lower()
    assert "user-agent: fastapi-users\r\n" in request.lower()
    for told in (request, caplog.text):
        assert DIGEST[5:].lower() not in told.lower()
        assert PASSWORD not in told


@pytest.mark.parametrize("body", [OTHERS + PADDING, OTHERS, ""], ids=["padding", "others", "none"])
async def test_a_password_that_is_not_among_the_answers_or_only_as_padding_is_unknown(
    body: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Requirement 4"""
    async with Server(body).running() as server:
        assert not await BreachedPasswords(server.base_url)(PASSWORD)

    assert "could not be looked up" not in caplog.text


async def test_how_many_breaches_it_takes_is_a_setting() -> None:
    async with Server(f"{DIGEST[5:]}:3").running() as server:
        assert await BreachedPasswords(server.base_url, min_count=3)(PASSWORD)
        assert not await BreachedPasswords(server.base_url, min_count=4)(PASSWORD)


def test_a_setting_that_would_refuse_every_password_is_refused() -> None:
    with pytest.raises(ValueError):
        BreachedPasswords(min_count=0)


@pytest.mark.parametrize(
    "server",
    [
        Server(f"{DIGEST[5:]}:42", status="500 Internal Server Error"),
        Server(f"{DIGEST[5:]}:42", status="302 Found"),
        Server("<html>A portal of the hotel</html>"),
        Server(f"{DIGEST[5:]}:many"),
        Server(f"{DIGEST[5:]}:42 ☃"),
        Server(f"{DIGEST[5:]}:42\r\n" * 30_000),
        Server(f"{DIGEST[5:]}:42", status="nonsense"),
    ],
    ids=["500", "redirect", "HTML", "no number", "no ASCII", "endless", "no HTTP"],
)
async def test_a_service_that_is_broken_refuses_nobody_and_is_logged_without_the_password(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Requirement 4: fails open, since nobody could register otherwise."""
    async with server.running():
        assert not await BreachedPasswords(server.base_url)(PASSWORD)

    assert "could not be looked up" in caplog.text
    assert PASSWORD not in caplog.text
    assert DIGEST[5:] not in caplog.text


async def test_a_service_that_does_not_answer_in_time_refuses_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Requirement 4: one second at most by default, here less."""
    assert BreachedPasswords().timeout == 1
    async with Server("", hangs=True).running() as server:
        with anyio.fail_after(4):  # and not only some time
            assert not await BreachedPasswords(server.base_url, timeout=0.3)(PASSWORD)

    assert "TimeoutError" in caplog.text


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:{port}", "http://[nonsense", "nonsense"])
async def test_a_service_that_is_not_there_refuses_nobody(base_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Requirement 4"""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    assert not await BreachedPasswords(base_url.format(port=port))(PASSWORD)

    assert caplog.text.count("could not be looked up") == 1


async def test_settings_of_a_proxy_that_do_not_work_refuse_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Requirement 4: a package that httpx would need is not there."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")

    assert not await BreachedPasswords("https://service.test/")(PASSWORD)

    assert "ImportError" in caplog.text


async def test_half_a_surrogate_pair_is_looked_up_like_any_text() -> None:
    async with Server(OTHERS).running() as server:
        assert not await BreachedPasswords(server.base_url)("\ud800")


async def test_a_policy_with_it_refuses_what_is_known() -> None:
    """Requirement 4"""
    async with Server(f"{DIGEST[5:]}:42").running() as server:
        policy = PasswordPolicy(breached=BreachedPasswords(server.base_url))

        with pytest.raises(PasswordRefused) as refused:
            await policy.check(PASSWORD, user=None)
        await policy.check("another password of somebody", user=None)

    assert refused.value.code == "breached"
