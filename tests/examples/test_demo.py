import html
import json
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from httpx_oauth.clients.openid import OpenID

from examples.demo import pages
from examples.demo.__main__ import main
from examples.demo.app import create_app
from examples.demo.database import OAuthAccount, User
from examples.demo.outbox import Outbox
from examples.demo.provider import running_provider
from examples.demo.settings import load_settings
from fastapi_users.events import LoginFailed, RequestFacts
from fastapi_users.mail import Message
from fastapi_users.router.common import CSRF_TOKEN_COOKIE_NAME
from fastapi_users.testing import frozen_clock
from tests.services import unavailable

ROOT = Path(__file__).parents[2]
EMAIL = "ada@example.com"
PASSWORD = "correct-horse-battery"
EVIL = '"><script>evil()</script>'


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenID]:
    """One for all tests: it keeps nothing that matters to the next."""
    with running_provider(load_settings(tmp_path_factory.mktemp("demo"))) as provider:
        yield provider


@asynccontextmanager
async def demo_on(data: Path, provider: OpenID) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(load_settings(data), provider)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000") as client,
    ):
        yield client


@pytest.fixture
async def demo(tmp_path: Path, provider: OpenID) -> AsyncIterator[httpx.AsyncClient]:
    async with demo_on(tmp_path, provider) as client:
        yield client


async def register(demo: httpx.AsyncClient, email: str = EMAIL) -> str:
    answer = await demo.post("/auth/register", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    user_id: str = answer.json()["id"]
    return user_id


async def log_in(demo: httpx.AsyncClient, email: str = EMAIL, password: str = PASSWORD) -> dict[str, str]:
    """The header that shows who one is, if the password is right."""
    answer = await demo.post("/auth/jwt/login", data={"username": email, "password": password})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


class Mail(NamedTuple):
    subject: str
    to: str
    number: str
    html: str
    text: str


async def all_mails(demo: httpx.AsyncClient) -> list[Mail]:
    """As the outbox shows them: the newest first."""
    page = (await demo.get("/outbox")).text
    parts = re.compile(
        r'<h2>(.*?)</h2><p>To: (.*?) \(<a href="/outbox/(\d+)">.*?</p><iframe sandbox="[\w -]+" srcdoc="([^"]+)"></iframe>'
        "<details><summary>Text</summary><pre>(.*?)</pre>",
        re.DOTALL,
    )
    return [Mail(*map(html.unescape, found)) for found in parts.findall(page)]


async def newest_token(demo: httpx.AsyncClient) -> str:
    newest, *_ = await all_mails(demo)
    token = re.search(r"^eyJ\S+$", newest.text, re.MULTILINE)
    assert token is not None, newest.text
    return token[0]


async def test_an_account_from_registration_to_a_new_password(
    demo: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(demo)

    [mail] = await all_mails(demo)
    token = await newest_token(demo)
    link = f"http://127.0.0.1:8000/verify?token={token}"
    assert mail.to == EMAIL
    assert f'<a class="button" href="{link}"' in mail.html
    assert f">{token}</p>" in mail.html
    terminal = capsys.readouterr().out
    assert f"To:      {EMAIL}\nSubject: Confirm your e-mail address for fastapi-users demo\n" in terminal
    assert f"\n{link}\n" in terminal
    assert f"\n{token}\n" in terminal

    answer = await demo.post("/auth/verify", json={"token": token})
    assert (answer.status_code, answer.json()["is_verified"]) == (200, True)

    authorization = await log_in(demo)
    assert (await demo.get("/users/me", headers=authorization)).json()["email"] == EMAIL

    change = {"email": "lovelace@example.com"}
    answer = await demo.patch("/users/me", json=change, headers=authorization)
    assert (answer.status_code, answer.json()) == (400, {"detail": "UPDATE_USER_CURRENT_PASSWORD_REQUIRED"})
    answer = await demo.patch("/users/me", json={**change, "current_password": PASSWORD}, headers=authorization)
    assert (answer.status_code, answer.json()["is_verified"]) == (200, False)
    answer = await demo.post("/auth/verify", json={"token": await newest_token(demo)})
    assert (answer.status_code, answer.json()["is_verified"]) == (200, True)

    answer = await demo.post("/auth/forgot-password", json={"email": "lovelace@example.com"})
    assert answer.status_code == 202
    token = await newest_token(demo)
    [mail, *_] = await all_mails(demo)
    assert f'<a class="button" href="http://127.0.0.1:8000/reset-password?token={token}"' in mail.html
    answer = await demo.post("/auth/reset-password", json={"token": token, "password": "another-horse-battery"})
    assert answer.status_code == 200, answer.text

    answer = await demo.post("/auth/jwt/login", data={"username": "lovelace@example.com", "password": PASSWORD})
    assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
    await log_in(demo, "lovelace@example.com", "another-horse-battery")


async def test_every_mail_of_an_account_is_shown_as_its_reader_sees_it(demo: httpx.AsyncClient) -> None:
    await register(demo)
    authorization = await log_in(demo)
    change = {"email": "lovelace@example.com", "current_password": PASSWORD}
    await demo.patch("/users/me", json=change, headers=authorization)
    await demo.post("/auth/forgot-password", json={"email": "lovelace@example.com"})
    body = {"token": await newest_token(demo), "password": "another-horse-battery"}
    await demo.post("/auth/reset-password", json=body)

    mails = await all_mails(demo)
    assert [(mail.to, mail.subject.removesuffix(" fastapi-users demo")) for mail in reversed(mails)] == [
        (EMAIL, "Confirm your e-mail address for"),
        (EMAIL, "A new login to your account at"),
        (EMAIL, "Your e-mail address was changed at"),
        ("lovelace@example.com", "Confirm your e-mail address for"),
        ("lovelace@example.com", "Choose a new password for"),
        ("lovelace@example.com", "Your password was changed at"),
    ]
    assert [mail.number for mail in mails] == ["6", "5", "4", "3", "2", "1"]
    for mail in mails:
        page = await demo.get(f"/outbox/{mail.number}")
        assert page.headers["Content-Security-Policy"] == (
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
        )
        assert mail.html == f'<base target="_blank">{page.text}'
        assert page.text.startswith('<!doctype html>\n<html lang="en">')
        assert f"<title>{mail.subject}</title>" in page.text
    assert (await demo.get("/outbox/7")).status_code == 404


async def test_a_superuser_vouches_for_an_address(demo: httpx.AsyncClient, tmp_path: Path) -> None:
    await register(demo)
    await anyio.to_thread.run_sync(main, ["--data", str(tmp_path), "superuser", EMAIL])
    authorization = await log_in(demo)
    other = f"/users/{await register(demo, 'babbage@example.com')}"
    for changes in (
        {"email": "charles@example.com", "is_verified": True},
        {"email": "cb@example.com", "is_active": False},
    ):
        answer = await demo.patch(other, json=changes, headers=authorization)
        assert answer.status_code == 200, answer.text
        [newest, *_] = await all_mails(demo)
        assert newest.subject == "Your e-mail address was changed at fastapi-users demo", "none asks to confirm"


@pytest.mark.parametrize("backend", ["jwt", "cookie"])
async def test_the_own_account_is_deleted_soon_after_a_proof_of_identity_only(
    demo: httpx.AsyncClient, backend: str
) -> None:
    await register(demo)
    with frozen_clock() as clock:
        answer = await demo.post(f"/auth/{backend}/login", data={"username": EMAIL, "password": PASSWORD})
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"} if backend == "jwt" else {}
        clock.advance(seconds=601)
        answer = await demo.delete("/users/me", headers=headers)
        detail = {"code": "REAUTHENTICATION_REQUIRED", "methods": ["pwd"], "max_age": 600}
        assert (answer.status_code, answer.json()) == (401, {"detail": detail})

        answer = await demo.post(f"/auth/{backend}/reauthenticate", json={"password": "guessed"}, headers=headers)
        assert (answer.status_code, answer.json()) == (400, {"detail": "REAUTHENTICATE_BAD_CREDENTIALS"})
        assert (await demo.delete("/users/me", headers=headers)).status_code == 401

        answer = await demo.post(f"/auth/{backend}/reauthenticate", json={"password": PASSWORD}, headers=headers)
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"} if backend == "jwt" else {}
        assert (await demo.delete("/users/me", headers=headers)).status_code == 204
        assert (await demo.get("/users/me", headers=headers)).status_code == 401
    answer = await demo.post("/auth/jwt/login", data={"username": EMAIL, "password": PASSWORD})
    assert answer.status_code == 400


async def test_a_stranger_deletes_nothing(demo: httpx.AsyncClient) -> None:
    assert (await demo.delete("/users/me")).status_code == 401


async def test_the_events_are_listed_the_newest_first(demo: httpx.AsyncClient) -> None:
    assert "Nothing has happened yet." in (await demo.get("/events")).text
    user_id = await register(demo)
    await demo.post("/auth/jwt/login", data={"username": EMAIL, "password": "guessed"})
    await demo.delete("/users/me", headers=await log_in(demo))

    page = (await demo.get("/events")).text
    rows = [html.unescape(row).split("<td>")[2:] for row in re.findall("<tr>(<td>.*?)</tr>", page)]
    origin = ["127.0.0.1", demo.headers["User-Agent"]]
    assert rows == [
        ["deleted", user_id, *origin, '{"email": "ada@example.com"}'],
        ["logged_in", user_id, *origin, '{"methods": ["pwd"], "backend": "jwt"}'],
        ["login_failed", user_id, *origin, '{"identifier": "ada@example.com", "method": "pwd"}'],
        ["verification_requested", user_id, *origin, ""],
        ["registered", user_id, *origin, '{"email": "ada@example.com", "oauth_name": null}'],
    ]


async def test_a_browser_logs_in_and_out_with_a_cookie(demo: httpx.AsyncClient) -> None:
    await register(demo)

    answer = await demo.post("/auth/cookie/login", data={"username": EMAIL, "password": PASSWORD})
    assert answer.status_code == 204
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    token = answer.cookies["fastapiusersauth"]
    assert (await demo.get("/users/me")).json()["email"] == EMAIL

    assert (await demo.post("/auth/cookie/logout")).status_code == 204
    assert "fastapiusersauth" not in demo.cookies
    answer = await demo.get("/users/me", headers={"Cookie": f"fastapiusersauth={token}"})
    assert answer.status_code == 401, "the server forgot the token too"


async def test_logging_out_a_bearer_token_is_answered_but_cannot_end_it(demo: httpx.AsyncClient) -> None:
    await register(demo)
    authorization = await log_in(demo)
    assert (await demo.post("/auth/jwt/logout", headers=authorization)).status_code == 204
    assert (await demo.get("/users/me", headers=authorization)).status_code == 200


async def at_the_provider(address: str, form: dict[str, str]) -> str:
    """Where the page of the provider sends a browser that fills it in."""
    async with httpx.AsyncClient() as browser:
        page = await browser.get(address)
        assert "Log in as Ann" in page.text
        answer = await browser.post(address, data=form)
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


async def browse(demo: httpx.AsyncClient, link: str, **form: str) -> str:
    """The start page at the end of the way that begins with one of its links."""
    page = (await demo.get("/")).text
    [address] = re.findall(f'<a href="([^"]+)">{link}</a>', page)
    answer = await demo.get(address)
    assert answer.status_code == 303, answer.text
    answer = await demo.get(await at_the_provider(answer.headers["Location"], form))
    assert answer.status_code == 303, answer.text
    page = (await demo.get(answer.headers["Location"])).text
    assert [name for name in demo.cookies if name.startswith(CSRF_TOKEN_COOKIE_NAME)] == []
    return html.unescape(page)


async def test_a_browser_logs_in_with_the_demo_provider_and_links_more(demo: httpx.AsyncClient) -> None:
    page = await browse(demo, "Log in with the demo provider", user="ann")
    assert "You are logged in as <strong>ann@example.org</strong>, an address that is verified." in page
    user_id = (await demo.get("/users/me")).json()["id"]
    assert [mail.subject for mail in await all_mails(demo)] == ["A new login to your account at fastapi-users demo"]

    page = await browse(demo, "Link another account", email="ann@example.com")
    assert "demo-provider: ann@example.org" in page
    [second] = re.findall(r'demo-provider: ann@example\.com <button data-method="DELETE" data-path="([^"]+)">', page)

    assert (await demo.delete(second)).status_code == 204
    [account] = (await demo.get("/users/me/oauth-accounts")).json()
    answer = await demo.delete(f"/users/me/oauth-accounts/{account['id']}")
    assert (answer.status_code, answer.json()) == (400, {"detail": "OAUTH_LAST_LOGIN_METHOD"})

    await demo.post("/auth/cookie/logout")
    await browse(demo, "Log in with the demo provider", user="ann")
    assert (await demo.get("/users/me")).json()["id"] == user_id


async def test_an_address_that_the_provider_has_not_proven_is_confirmed_by_mail(demo: httpx.AsyncClient) -> None:
    page = await browse(demo, "Log in with the demo provider", user="bob")

    assert "<strong>bob@example.org</strong>, an address that is not verified." in page
    answer = await demo.post(
        "/auth/verify", json={"token": re.findall(r"^eyJ\S+$", (await all_mails(demo))[1].text, re.MULTILINE)[0]}
    )
    assert (answer.status_code, answer.json()["is_verified"]) == (200, True)


async def test_a_login_with_the_provider_finds_who_has_registered_once_the_address_is_verified(
    demo: httpx.AsyncClient,
) -> None:
    user_id = await register(demo)
    token = await newest_token(demo)
    page = await browse(demo, "Log in with the demo provider", email=EMAIL, verified="on")
    assert "Refused: <code>OAUTH_USER_ALREADY_EXISTS</code>" in page
    assert "Nobody is logged in here." in page

    await demo.post("/auth/verify", json={"token": token})
    page = await browse(demo, "Log in with the demo provider", email=EMAIL, verified="on")
    assert f"You are logged in as <strong>{EMAIL}</strong>" in page
    assert (await demo.get("/users/me")).json()["id"] == user_id


async def test_who_says_no_at_the_provider_reads_so(demo: httpx.AsyncClient) -> None:
    page = await browse(demo, "Log in with the demo provider")

    assert "Refused: <code>access_denied</code>" in page


async def test_a_program_logs_in_with_the_demo_provider(demo: httpx.AsyncClient) -> None:
    address = (await demo.get("/auth/jwt/provider/authorize")).json()["authorization_url"]
    answer = await demo.get(await at_the_provider(address, {"user": "ann"}))

    assert answer.status_code == 200, answer.text
    authorization = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await demo.get("/users/me", headers=authorization)).json()["email"] == "ann@example.org"


async def test_opening_the_links_uses_no_token_up(demo: httpx.AsyncClient) -> None:
    await register(demo)
    token = await newest_token(demo)
    for _ in range(2):
        answer = await demo.get("/verify", params={"token": token})
        assert answer.status_code == 200
        assert 'action="/auth/verify"' in answer.text
    assert (await demo.post("/auth/verify", json={"token": token})).status_code == 200

    await demo.post("/auth/forgot-password", json={"email": EMAIL})
    token = await newest_token(demo)
    for _ in range(2):
        answer = await demo.get("/reset-password", params={"token": token})
        assert answer.status_code == 200
        assert 'action="/auth/reset-password"' in answer.text
    answer = await demo.post("/auth/reset-password", json={"token": token, "password": "another-horse-battery"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("14 characters.", "Use at least 15 characters."),
        ("Ada at FastAPI-Users 2024", "This password is made of your address, your name or the name of this site."),
        ("P@ssw0rd12345678!", "Many people use this password, or parts of it."),
    ],
)
async def test_a_bad_password_is_refused_with_the_reason(demo: httpx.AsyncClient, password: str, reason: str) -> None:
    answer = await demo.post("/auth/register", json={"email": EMAIL, "password": password})
    assert answer.status_code == 400
    assert answer.json()["detail"]["code"] == "REGISTER_INVALID_PASSWORD"
    assert answer.json()["detail"]["reason"].startswith(reason)


async def test_an_address_with_two_letters_may_have_them_in_its_password(demo: httpx.AsyncClient) -> None:
    await register(demo, "ho@example.com")


async def test_the_command_makes_a_superuser_who_reads_changes_and_deletes_others(
    demo: httpx.AsyncClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(demo)
    other = f"/users/{await register(demo, 'babbage@example.com')}"
    authorization = await log_in(demo)
    assert (await demo.get(other, headers=authorization)).status_code == 403

    status = await anyio.to_thread.run_sync(main, ["--data", str(tmp_path), "superuser", "Ada@example.com"])
    assert status == 0
    assert capsys.readouterr().out.endswith("ada@example.com is a superuser now.\n")

    answer = await demo.get(other, headers=authorization)
    assert (answer.status_code, answer.json()["email"]) == (200, "babbage@example.com")
    answer = await demo.patch(other, json={"is_verified": True}, headers=authorization)
    assert (answer.status_code, answer.json()["is_verified"]) == (200, True)
    assert (await demo.delete(other, headers=authorization)).status_code == 204
    assert (await demo.get(other, headers=authorization)).status_code == 404


async def test_the_logins_of_a_deleted_user_are_deleted_too(demo: httpx.AsyncClient, tmp_path: Path) -> None:
    user_id = await register(demo)
    await demo.post("/auth/cookie/login", data={"username": EMAIL, "password": PASSWORD})
    with closing(sqlite3.connect(tmp_path / "demo.db")) as database:
        assert database.execute("SELECT count(*) FROM accesstoken").fetchone() == (1,)

        await anyio.to_thread.run_sync(main, ["--data", str(tmp_path), "superuser", EMAIL])
        assert (await demo.delete(f"/users/{user_id}")).status_code == 204

        assert database.execute("SELECT count(*) FROM accesstoken").fetchone() == (0,)
    assert (await demo.get("/users/me")).status_code == 401


def test_the_command_refuses_who_has_not_registered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "superuser", "nobody@example.com"]) == 1
    assert capsys.readouterr().err == "There is no user nobody@example.com: register first.\n"


async def test_accounts_and_logins_survive_a_restart(tmp_path: Path, provider: OpenID) -> None:
    async with demo_on(tmp_path, provider) as demo:
        await register(demo)
        verification_token = await newest_token(demo)
        authorization = await log_in(demo)
    async with demo_on(tmp_path, provider) as demo:
        assert (await demo.get("/users/me", headers=authorization)).json()["email"] == EMAIL
        assert (await demo.post("/auth/verify", json={"token": verification_token})).status_code == 200


def test_the_secrets_are_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    data = tmp_path / "made" / "on the first run"
    settings = load_settings(data)

    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    file = data / "secrets.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secrets = json.loads(file.read_text())
    assert len(set(secrets.values())) == 4
    assert all(len(secret) == 43 for secret in secrets.values())
    assert not any(secret in repr(settings) for secret in secrets.values())
    assert load_settings(data) == settings


def test_a_secret_that_a_new_version_needs_joins_the_others(tmp_path: Path) -> None:
    old = json.loads((load_settings(tmp_path).data / "secrets.json").read_text())
    del old["oauth_state"]
    (tmp_path / "secrets.json").write_text(json.dumps(old))

    settings = load_settings(tmp_path)

    assert settings.secrets.access_token.get_secret_value() == old["access_token"]
    assert settings.secrets.oauth_state.get_secret_value() not in old.values()
    assert load_settings(tmp_path) == settings


async def test_the_start_page_leads_everywhere(demo: httpx.AsyncClient) -> None:
    page = (await demo.get("/")).text
    for path in re.findall("""href=['"]([^'"]+)""", page):
        assert (await demo.get(path)).status_code == (303 if path.endswith("?redirect=/") else 200)
    assert "-m examples.demo superuser you@example.com" in page

    documented = (await demo.get("/openapi.json")).json()["paths"]
    commands = re.findall(r"curl .*?http://127\.0\.0\.1:8000(/\S+)", html.unescape(page))
    assert len(commands) == 16
    assert {command.replace("/ID", "/{id}") for command in commands} <= documented.keys()


async def test_the_outbox_begins_empty_and_shows_the_newest_mail_first(demo: httpx.AsyncClient) -> None:
    assert "No mails yet." in (await demo.get("/outbox")).text
    await register(demo)
    await register(demo, "babbage@example.com")
    assert [mail.to for mail in await all_mails(demo)] == ["babbage@example.com", EMAIL]


async def test_the_pages_escape_what_users_send(demo: httpx.AsyncClient) -> None:
    await register(demo, "o'neil&co@example.com")
    demo.headers["User-Agent"] = EVIL
    await log_in(demo, "o'neil&co@example.com")
    await demo.post("/auth/jwt/login", data={"username": f"{EVIL}@example.com", "password": PASSWORD})

    outbox = (await demo.get("/outbox")).text
    assert "o&#x27;neil&amp;co@example.com" in outbox
    events = (await demo.get("/events")).text
    assert events.count("&lt;script&gt;evil()&lt;/script&gt;") == 3
    [newest, *_] = await all_mails(demo)
    mail = (await demo.get(f"/outbox/{newest.number}")).text
    assert mail.count("&lt;script&gt;evil()&lt;/script&gt;") == 1
    for page in (outbox, events, mail, newest.html):
        assert "<script>evil" not in page
    for path in ("/verify", "/reset-password"):
        assert "evil" not in (await demo.get(path, params={"token": EVIL})).text


@pytest.mark.parametrize("body", [EVIL, None])
def test_no_part_of_a_mail_an_event_or_a_setting_becomes_markup(body: str | None) -> None:
    mail = Message(to=EVIL, subject=EVIL, text=EVIL, html=body)
    event = LoginFailed(user_id=EVIL, request=RequestFacts(address=EVIL, agent=EVIL), identifier=EVIL, method=EVIL)
    account = OAuthAccount(id=uuid.uuid4(), oauth_name=EVIL, account_email=EVIL)
    user = User(email=EVIL, is_verified=True, oauth_accounts=[account])
    starts = pages.start(EVIL, None, EVIL) + pages.start(EVIL, user)
    page = pages.outbox({1: mail}) + pages.events([event]) + starts
    assert "<script>evil" not in page
    assert page.count("script&gt;evil()") >= 20


def test_a_mail_without_html_is_shown_as_text() -> None:
    assert pages.mail(Message(to=EMAIL, subject="", text="1 < 2")) == "<pre>1 &lt; 2</pre>"


async def test_the_outbox_keeps_a_hundred_mails_with_their_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    outbox = Outbox()
    for number in range(1, 103):
        await outbox.send(Message(to=EMAIL, subject=f"Mail {number}", text=""))
    assert [(number, mail.subject) for number, mail in outbox.numbered.items()] == [
        (number, f"Mail {number}") for number in range(102, 2, -1)
    ]
    assert "Subject: Mail 102\n" in capsys.readouterr().out


def test_it_says_where_to_look_and_serves_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[tuple[str, int]] = []

    def serve(app: FastAPI, *, host: str, port: int, log_level: str) -> None:
        assert app.title == "fastapi-users demo"
        served.append((host, port))

    monkeypatch.setattr(uvicorn, "run", serve)
    assert main(["--host", "localhost", "--port", "9000", "--data", str(tmp_path)]) == 0

    assert served == [("localhost", 9000)]
    terminal = capsys.readouterr().out
    for hint in (
        "http://localhost:9000/\n",
        "http://localhost:9000/docs\n",
        "http://localhost:9000/outbox",
        "http://localhost:9000/events",
    ):
        assert hint in terminal
    assert "-m examples.demo superuser you@example.com" in terminal


@contextmanager
def served(data: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "examples.demo", "--port", str(port), "--data", str(data)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 -- our own
        try:
            with httpx.Client(
                transport=httpx.HTTPTransport(retries=9), timeout=120
            ) as client:  # waits half a second, then longer
                assert client.get(f"http://127.0.0.1:{port}/").status_code == 200
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.terminate()


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    with served(tmp_path) as (url, process):
        process.terminate()
        terminal, _ = process.communicate()
    assert f"{url}/outbox" in terminal


async def test_the_commands_of_the_start_page_work_one_after_the_other(tmp_path: Path) -> None:
    _ = shutil.which("curl") or unavailable("curl", "$PATH", FileNotFoundError("curl"))
    with served(tmp_path / "data") as (url, process):
        terminal: Any = process.stdout
        async with httpx.AsyncClient(base_url=url, timeout=120) as demo:
            found = re.search("<pre>(.*?)</pre>", (await demo.get("/")).text, re.DOTALL)
            assert found
            commands = html.unescape(found[1]).replace("\\\n", "").splitlines()
            known = {"ACCESS_TOKEN": "", "AUTHORIZATION_URL": "", "/ID ": ""}
            refusals = []
            for command in [command for command in commands if command.startswith("curl ")]:
                text = command
                for word, value in known.items():
                    text = text.replace(word, value)
                if '"TOKEN"' in text:
                    link = f"{text.partition('/auth')[2].split()[0]}?token="
                    line = await anyio.to_thread.run_sync(next, (line for line in terminal if link in line))
                    text = text.replace("TOKEN", line.partition(link)[2].strip())
                finished = await anyio.run_process(["/bin/sh", "-euc", f"{text} --silent --show-error"], cwd=tmp_path)
                answer = json.loads(finished.stdout or b"null")
                if isinstance(answer, list):
                    known["/ID "] = f"/{answer[0]['id']} "
                elif isinstance(answer, dict):
                    known |= {word: answer[word.lower()] for word in known if word.lower() in answer}
                    refusals += [(command, answer["detail"])] if "detail" in answer else []

            assert [detail for _, detail in refusals] == ["OAUTH_LAST_LOGIN_METHOD"], refusals
            assert "deleted" in (await demo.get("/events")).text
