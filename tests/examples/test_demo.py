import html
import json
import re
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio.to_thread
import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from examples.demo import pages
from examples.demo.__main__ import main
from examples.demo.app import create_app
from examples.demo.outbox import Mail
from examples.demo.settings import load_settings

ROOT = Path(__file__).parents[2]
EMAIL = "ada@example.com"
PASSWORD = "correct-horse-battery"


@asynccontextmanager
async def demo_on(data: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(load_settings(data))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000") as client,
    ):
        yield client


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with demo_on(tmp_path) as client:
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


async def newest_mail(demo: httpx.AsyncClient) -> str:
    page = (await demo.get("/outbox")).text
    mail = re.search(r"<article>.*?</article>", page, re.DOTALL)
    assert mail is not None, page
    return html.unescape(mail[0])


async def newest_token(demo: httpx.AsyncClient) -> str:
    token = re.search("<code>(.+)</code>", await newest_mail(demo))
    assert token is not None
    return token[1]


async def test_an_account_from_registration_to_a_new_password(
    demo: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(demo)

    mail = await newest_mail(demo)
    token = await newest_token(demo)
    assert "To: ada@example.com" in mail
    assert f'<a href="http://127.0.0.1:8000/verify?token={token}">' in mail
    terminal = capsys.readouterr().out
    assert "| To:      ada@example.com\n| Subject: Is this your e-mail address?\n" in terminal
    assert f"| http://127.0.0.1:8000/verify?token={token}\n" in terminal
    assert f"| {token}\n" in terminal

    answer = await demo.post("/auth/verify", json={"token": token})
    assert (answer.status_code, answer.json()["is_verified"]) == (200, True)

    authorization = await log_in(demo)
    assert (await demo.get("/users/me", headers=authorization)).json()["email"] == EMAIL

    answer = await demo.patch("/users/me", json={"email": "lovelace@example.com"}, headers=authorization)
    assert (answer.status_code, answer.json()["is_verified"]) == (200, False)
    assert "To: lovelace@example.com" in await newest_mail(demo)
    answer = await demo.post("/auth/verify", json={"token": await newest_token(demo)})
    assert (answer.status_code, answer.json()["is_verified"]) == (200, True)

    answer = await demo.post("/auth/forgot-password", json={"email": "lovelace@example.com"})
    assert answer.status_code == 202
    token = await newest_token(demo)
    assert f'<a href="http://127.0.0.1:8000/reset-password?token={token}">' in await newest_mail(demo)
    answer = await demo.post("/auth/reset-password", json={"token": token, "password": "another-horse-battery"})
    assert answer.status_code == 200, answer.text

    answer = await demo.post("/auth/jwt/login", data={"username": "lovelace@example.com", "password": PASSWORD})
    assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
    await log_in(demo, "lovelace@example.com", "another-horse-battery")


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
        ("7 chars", "The password needs at least 8 characters."),
        ("I am ADA the first", "The password must not contain your e-mail address."),
    ],
)
async def test_a_bad_password_is_refused_with_the_reason(demo: httpx.AsyncClient, password: str, reason: str) -> None:
    answer = await demo.post("/auth/register", json={"email": EMAIL, "password": password})
    assert answer.status_code == 400
    assert answer.json() == {"detail": {"code": "REGISTER_INVALID_PASSWORD", "reason": reason}}


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


async def test_accounts_and_logins_survive_a_restart(tmp_path: Path) -> None:
    async with demo_on(tmp_path) as demo:
        await register(demo)
        authorization = await log_in(demo)
        verification_token = await newest_token(demo)
    async with demo_on(tmp_path) as demo:
        assert (await demo.get("/users/me", headers=authorization)).json()["email"] == EMAIL
        assert (await demo.post("/auth/verify", json={"token": verification_token})).status_code == 200


def test_the_secrets_are_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    data = tmp_path / "made" / "on the first run"
    settings = load_settings(data)

    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    file = data / "secrets.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secrets = json.loads(file.read_text())
    assert len(set(secrets.values())) == 3
    assert all(len(secret) == 43 for secret in secrets.values())
    assert not any(secret in repr(settings) for secret in secrets.values())
    assert load_settings(data) == settings


async def test_the_start_page_leads_everywhere(demo: httpx.AsyncClient) -> None:
    page = (await demo.get("/")).text
    for path in re.findall("""href=['"]([^'"]+)""", page):
        assert (await demo.get(path)).status_code == 200
    assert "-m examples.demo superuser you@example.com" in page

    documented = (await demo.get("/openapi.json")).json()["paths"]
    commands = re.findall(r"curl .*?http://127\.0\.0\.1:8000(/\S+)", html.unescape(page))
    assert len(commands) == 10
    assert set(commands) <= documented.keys()


async def test_the_outbox_begins_empty_and_shows_the_newest_mail_first(demo: httpx.AsyncClient) -> None:
    assert "No mails yet." in (await demo.get("/outbox")).text
    await register(demo)
    await register(demo, "babbage@example.com")
    page = (await demo.get("/outbox")).text
    assert page.index("babbage@example.com") < page.index("ada@example.com")


async def test_the_pages_escape_what_users_send(demo: httpx.AsyncClient) -> None:
    await register(demo, "o'neil&co@example.com")
    assert "o&#x27;neil&amp;co@example.com" in (await demo.get("/outbox")).text
    for page in ("/verify", "/reset-password"):
        assert "evil" not in (await demo.get(page, params={"token": "<script>evil()</script>"})).text


def test_no_part_of_a_mail_or_a_setting_becomes_markup() -> None:
    evil = '"><script>evil()</script>'
    page = pages.outbox([Mail(to=evil, subject=evil, text=evil, link=f"{evil}?{evil}", token=evil)]) + pages.start(evil)
    assert "<script>evil" not in page
    assert page.count("&quot;&gt;&lt;script&gt;evil()&lt;/script&gt;") > 5


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
    for hint in ("http://localhost:9000/\n", "http://localhost:9000/docs\n", "http://localhost:9000/outbox"):
        assert hint in terminal
    assert "-m examples.demo superuser you@example.com" in terminal


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "examples.demo", "--port", str(port), "--data", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 -- our own
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=6)) as client:  # waits half a second, then longer
                answer = client.get(f"http://127.0.0.1:{port}/")
        finally:
            process.terminate()
        terminal, _ = process.communicate(timeout=10)
    assert answer.status_code == 200
    assert f"http://127.0.0.1:{port}/outbox" in terminal
