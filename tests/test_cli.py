import io
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner, Result

from fastapi_users.cli import cli
from fastapi_users.testing import accounts_under_test, weak_password_helper
from tests.programs import EXAMPLES, in_folder

FOLDER = EXAMPLES / "sqlalchemy"
PASSWORD = "correct horse battery"
EMAIL = "root@example.com"
ADD_TOKEN = "INSERT INTO accesstoken (token, created_at, user_id) VALUES (?, ?, ?)"
ADD_SECRET = (
    "INSERT INTO one_time_secret (digest, purpose, subject, tries, created_at, expires_at) "
    "VALUES (?, 'purpose', 'subject', 0, '2026-01-01 00:00:00.000000', ?)"
)


class Shell:
    """In the folder of the example, whose tables are in a file of the test."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def run(self, *arguments: str, stdin: str = "") -> Result:
        with in_folder(FOLDER):
            return CliRunner().invoke(cli, arguments, input=stdin)

    def rows(self, statement: str, *values: Any) -> list[Any]:
        connection = sqlite3.connect(self.file)
        with connection:
            rows = connection.execute(statement, values).fetchall()
        connection.close()
        return rows


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    file = tmp_path / "example.db"
    monkeypatch.chdir(FOLDER)
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{file}")
    monkeypatch.setenv("SECRET", "0123456789" * 4)
    monkeypatch.delenv("FASTAPI_USERS_APP", raising=False)
    with accounts_under_test(None, None):  # type: ignore[arg-type]  # for the fast hashes
        yield Shell(file)


@pytest.fixture
def superuser(shell: Shell) -> Shell:
    result = shell.run("create-superuser", EMAIL, stdin=f"{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    return shell


def test_a_superuser_is_created_with_the_password_of_standard_input(shell: Shell) -> None:
    result = shell.run("create-superuser", EMAIL, "--field", "nickname=Root", stdin=f"{PASSWORD}\n")

    assert result.exit_code == 0, result.output
    assert re.fullmatch(rf"Created the superuser {EMAIL}, with the id [-\w]{{36}}\.\n", result.output)
    [(flags, nickname, hashed)] = [
        (row[:3], row[3], row[4])
        for row in shell.rows("SELECT is_active, is_superuser, is_verified, nickname, hashed_password FROM user")
    ]
    assert (flags, nickname) == ((1, 1, 1), "Root")
    assert weak_password_helper().verify_and_update(PASSWORD, hashed)[0]
    assert PASSWORD not in result.output


def test_the_fields_are_json_or_text_and_none_of_them_replaces_a_flag(shell: Shell) -> None:
    fields = ["--field", "nickname=null", "--field", "is_superuser=false"]
    result = shell.run("create-superuser", EMAIL, *fields, stdin=f"{PASSWORD}\n")

    assert result.exit_code == 0, result.output
    assert shell.rows("SELECT is_superuser, nickname FROM user") == [(1, None)]


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        ([EMAIL], "", "There is no password on standard input."),
        ([EMAIL], "short\n", "The application refuses this password: Use at least 15 characters."),
        (["nobody"], f"{PASSWORD}\n", "'nobody' is no e-mail address."),
        ([EMAIL], f"{PASSWORD}\0\n", "Text must not contain NUL or half a surrogate pair."),
        (
            [EMAIL, "--field", 'nickname="\\u0000"'],
            f"{PASSWORD}\n",
            "Text must not contain NUL or half a surrogate pair.",
        ),
        ([EMAIL, "--field", "rank=1"], f"{PASSWORD}\n", "Users have no rank."),
    ],
)
def test_what_cannot_be_a_superuser_is_refused_with_a_sentence(
    shell: Shell, arguments: list[str], stdin: str, sentence: str
) -> None:
    result = shell.run("create-superuser", *arguments, stdin=stdin)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(sentence[:50]), result.stderr
    assert result.stderr.count("\n") == 1


def test_a_field_without_a_value_is_a_wrong_call(shell: Shell) -> None:
    result = shell.run("create-superuser", EMAIL, "--field", "nickname", stdin=f"{PASSWORD}\n")

    assert result.exit_code == 2
    assert "'nickname' is not name=value." in result.stderr


def test_an_address_that_is_taken_is_refused(superuser: Shell) -> None:
    result = superuser.run("create-superuser", EMAIL.upper(), stdin=f"{PASSWORD}\n")

    assert (result.exit_code, result.stderr) == (1, "There is a user with this address already.\n")


def test_another_password_ends_the_sessions_and_is_mailed_about(superuser: Shell) -> None:
    [(user_id,)] = superuser.rows("SELECT id FROM user")
    superuser.rows(ADD_TOKEN, "token", "2026-01-01 00:00:00.000000", user_id)

    result = superuser.run("set-password", EMAIL, stdin="another horse battery\n")

    assert (result.exit_code, result.output) == (0, f"{EMAIL} has another password.\n")
    [(hashed,)] = superuser.rows("SELECT hashed_password FROM user")
    assert weak_password_helper().verify_and_update("another horse battery", hashed)[0]
    assert superuser.rows("SELECT * FROM accesstoken") == []


def test_the_password_of_nobody_is_not_set(shell: Shell) -> None:
    result = shell.run("set-password", EMAIL, stdin=f"{PASSWORD}\n")

    assert (result.exit_code, result.stderr) == (1, "There is no user with this address.\n")


def test_a_password_that_no_database_stores_is_refused_and_not_shown(superuser: Shell) -> None:
    result = superuser.run("set-password", EMAIL, stdin=f"{PASSWORD}\0\n")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Text must not contain NUL or half a surrogate pair.\n"


def test_at_a_terminal_the_password_is_asked_for_twice(superuser: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def prompt(text: str, **options: Any) -> str:
        asked.append({"text": text, **options})
        return PASSWORD

    monkeypatch.setattr("fastapi_users.cli._is_terminal", lambda: True)
    monkeypatch.setattr("typer.prompt", prompt)

    assert superuser.run("set-password", EMAIL).exit_code == 0
    assert asked == [{"text": "Password", "hide_input": True, "confirmation_prompt": True}]


@pytest.mark.parametrize(
    ("stdin", "sentence"),
    [
        (None, "There is no password on standard input.\n"),  # as after <&-
        (
            io.TextIOWrapper(io.BytesIO(b"p\xe4ssword\n"), "utf-8"),
            "The password on standard input is no text in utf-8.\n",
        ),
    ],
)
def test_an_input_that_cannot_be_read_is_no_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stdin: Any, sentence: str
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(SystemExit) as ended:
        cli(["set-password", EMAIL])

    assert (ended.value.code, capsys.readouterr().err) == (1, sentence)


def test_a_secret_is_new_each_time_and_long_enough() -> None:
    first, second = (CliRunner().invoke(cli, ["secret"]).output for _ in range(2))

    assert first != second
    assert re.fullmatch(r"[\w-]{43}\n", first)


def test_what_has_expired_is_deleted(superuser: Shell) -> None:
    [(user_id,)] = superuser.rows("SELECT id FROM user")
    now = datetime.now(timezone.utc)
    for name, moment in (("old", now - timedelta(days=31)), ("new", now)):
        superuser.rows(ADD_TOKEN, name, f"{moment:%Y-%m-%d %H:%M:%S.%f}", user_id)
        superuser.rows(ADD_SECRET, name, f"{moment + timedelta(hours=1):%Y-%m-%d %H:%M:%S.%f}")

    result = superuser.run("cleanup")

    assert (result.exit_code, result.output) == (
        0,
        "one time secrets: 1 deleted\ntokens of the backend cookie: 1 deleted\n",
    )
    assert superuser.rows("SELECT token FROM accesstoken") == [("new",)]
    assert superuser.rows("SELECT digest FROM one_time_secret") == [("new",)]


KEEPERS = """
import uuid
from fastapi import FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend, BearerTransport
from fastapi_users.authentication.strategy import AccessTokenDatabase, DatabaseStrategy
from fastapi_users.testing import AccessToken, InMemoryAccessTokenDatabase, InMemoryUserDatabase, User

class Old(AccessTokenDatabase):
    async def get_by_token(self, token, max_age=None): ...
    async def create(self, create_dict): ...
    async def update(self, access_token, update_dict): ...
    async def delete(self, access_token): ...

class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = verification_token_secret = "0123456789" * 4

    async def _cleanup_attic(self):
        raise NotImplementedError("The attic is locked.")

def backend(name, tokens):
    return AuthenticationBackend(name, BearerTransport(name), lambda: DatabaseStrategy(tokens, 3600))

backends = [backend("old", Old()), backend("new", InMemoryAccessTokenDatabase(AccessToken))]
users = FastAPIUsers(lambda: UserManager(InMemoryUserDatabase(User)), backends)
"""


def test_what_cannot_be_cleaned_up_keeps_nothing_else_from_it(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "keepers.py").write_text(KEEPERS, "utf-8")
    with in_folder(tmp_path, "keepers"):
        result = CliRunner().invoke(cli, ["--app", "keepers:users", "cleanup"])

    assert (result.exit_code, result.output.splitlines()) == (
        0,
        [
            "attic: none deleted: The attic is locked.",
            "one time secrets: 0 deleted",
            "tokens of the backend old: none deleted: Old has no delete_created_before(moment).",
            "tokens of the backend new: 0 deleted",
        ],
    )


def test_the_doctor_finds_nothing_in_the_recommended_settings(shell: Shell) -> None:
    result = shell.run("doctor")

    assert (result.exit_code, result.output) == (0, "Nothing to change.\n")


def test_the_doctor_names_the_line_of_what_it_finds(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "minimal.py").write_text((EXAMPLES / "minimal" / "main.py").read_text("utf-8"), "utf-8")
    with in_folder(tmp_path, "minimal"):
        result = CliRunner().invoke(cli, ["--app", "minimal:app", "doctor"])
        anyio.run(import_module("minimal").engine.dispose)

    assert result.exit_code == 1, result.output
    assert re.search(
        r"^UserManager \(\S*minimal\.py:25\)\n  Every password is accepted\.\n"
        r"  Write: password_policy = PasswordPolicy\(\)\n",
        result.output,
        re.MULTILINE,
    )
    assert result.output.endswith("\nTo change: 5\n")


def test_without_an_application_it_says_how_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["doctor"])

    assert result.exit_code == 1
    assert result.stderr.startswith('Which application? Write app = "app.main:app" under [tool.fastapi-users]')


def test_an_error_is_its_first_line_unless_all_of_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("raise ValueError('No SECRET.\\nIt was: hunter2')", "utf-8")
    with in_folder(tmp_path, "broken"):
        result = CliRunner().invoke(cli, ["--app", "broken:app", "doctor"])
        assert (result.exit_code, result.stderr) == (1, "ValueError: No SECRET. (--traceback shows where)\n")

        result = CliRunner().invoke(cli, ["--app", "broken:app", "--traceback", "doctor"])
        assert isinstance(result.exception, ValueError)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "from pydantic import BaseModel\nclass Settings(BaseModel):\n    url: str\nSettings()",
            "ValidationError: Settings.url: Field required (--traceback shows where)\n",
        ),
        (
            "class Group(Exception):\n    exceptions = (KeyError('SECRET'),)\nraise Group('one of several')",
            "KeyError: 'SECRET' (--traceback shows where)\n",
        ),
        ("raise ValueError('\\nOf two lines\\n the first')", "ValueError: Of two lines (--traceback shows where)\n"),
        ("assert False", "AssertionError (--traceback shows where)\n"),
        (
            "import sys\nsys.exit()",
            "The application ended while it was loaded: is its start behind if __name__ == '__main__'?\n",
        ),
        ("import sys\nsys.exit('Set SECRET.')", "Set SECRET.\n"),
    ],
)
def test_an_application_that_cannot_be_loaded_is_told_of_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, sentence: str
) -> None:
    (tmp_path / "unloadable.py").write_text(code, "utf-8")
    monkeypatch.chdir(tmp_path)
    with in_folder(tmp_path, "unloadable"):
        result = CliRunner().invoke(cli, ["--app", "unloadable:app", "cleanup"])

    assert (result.exit_code, result.output) == (1, sentence)


@pytest.mark.parametrize("command", ["set-password", "create-superuser", "cleanup", "doctor"])
@pytest.mark.parametrize(("name", "kind"), [("create_app", "FastAPI"), ("get_user_manager", "None")])
def test_a_dependency_that_gives_no_manager_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str, kind: str
) -> None:
    (tmp_path / "managerless.py").write_text(
        "from fastapi import FastAPI\nasync def create_app(): return FastAPI()\nasync def get_user_manager(): ...",
        "utf-8",
    )
    monkeypatch.chdir(tmp_path)
    arguments = [command, EMAIL] if "-" in command else [command]
    with in_folder(tmp_path, "managerless"):
        result = CliRunner().invoke(cli, ["--app", f"managerless:{name}", *arguments], input=f"{PASSWORD}\n")

    assert (result.exit_code, result.output) == (
        1,
        f"The dependency that gives the user manager gave {kind}: write in it yield UserManager(user_db).\n",
    )


def test_every_command_says_what_it_does() -> None:
    text = CliRunner().invoke(cli, ["--help"]).output

    for command in ("create-superuser", "set-password", "secret", "cleanup", "doctor"):
        assert command in text
        assert CliRunner().invoke(cli, [command, "--help"]).exit_code == 0


def test_it_runs_as_a_program_in_the_folder_of_the_application(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("fastapi-users")
    environment = {
        **os.environ,
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'example.db'}",
        "SECRET": "0123456789" * 4,
    }

    def run(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(  # noqa: S603 -- ours
            [str(program), *arguments],
            input=stdin,
            cwd=FOLDER,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    created = run("create-superuser", EMAIL, stdin=f"{PASSWORD}\n")
    assert (created.returncode, created.stderr) == (0, "")
    assert (run("create-superuser", EMAIL, stdin=f"{PASSWORD}\n").returncode) == 1
    assert run("doctor").stdout == "Nothing to change.\n"
