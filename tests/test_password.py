import logging
import threading

import anyio
import bcrypt
import pytest
from argon2 import PasswordHasher
from hypothesis import given, settings
from hypothesis import strategies as st
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from fastapi_users import password
from fastapi_users.password import PasswordHelper, default_password_hash, run_in_hashing_pool
from fastapi_users.testing import weak_password_helper


def test_a_hash_is_argon2id_with_the_settings_of_the_contract_and_a_salt() -> None:
    helper = PasswordHelper()
    hashed = helper.hash("hunter2")

    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert hashed != helper.hash("hunter2")
    assert helper.verify_and_update("hunter2", hashed) == (True, None)
    assert helper.verify_and_update("hunter3", hashed) == (False, None)


@pytest.mark.parametrize(
    "outdated",
    [
        bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode(),
        PasswordHasher(time_cost=1).hash("hunter2"),
        PasswordHasher(memory_cost=1024).hash("hunter2"),
        PasswordHasher(parallelism=1).hash("hunter2"),
    ],
)
def test_an_outdated_hash_is_verified_and_upgraded(outdated: str) -> None:
    verified, upgraded = PasswordHelper().verify_and_update("hunter2", outdated)

    assert verified
    assert upgraded is not None
    assert upgraded.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert PasswordHelper().verify_and_update("hunter3", outdated) == (False, None)


@pytest.mark.parametrize(
    ("plain", "stored"),
    [
        ("hunter2", ""),
        ("hunter2", "!"),
        ("hunter2", "hunter2"),
        ("hunter2", "$argon2id$v=19$m=65536,t=3,p=4$bad"),
        ("hunter2", "$2b$12$short"),
        ("hunter2\0", bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()),
        ("x" * 73, bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()),
        ("\ud800", bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()),
    ],
)
def test_what_the_hasher_cannot_read_is_a_wrong_password_and_logged_without_it(
    plain: str, stored: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert PasswordHelper().verify_and_update(plain, stored) == (False, None)

    assert "could not be verified" in caplog.text
    assert "hunter2" not in caplog.text


@settings(max_examples=50)
@given(st.text(), st.text())
def test_no_value_raises(plain: str, stored: str) -> None:
    assert weak_password_helper().verify_and_update(plain, stored) == (False, None)


def test_any_object_that_hashes_and_verifies_is_a_hasher() -> None:
    custom = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
    helper = PasswordHelper(custom)

    assert helper.password_hash is custom
    assert helper.verify_and_update("hunter2", helper.hash("hunter2")) == (True, None)


def test_the_default_hasher_is_made_once() -> None:
    assert PasswordHelper().password_hash is PasswordHelper().password_hash is default_password_hash()


def test_generated_passwords_are_random_and_long() -> None:
    assert len(PasswordHelper().generate()) == 43
    assert PasswordHelper().generate() != PasswordHelper().generate()


def test_the_name_that_applications_patch_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert password.Argon2Hasher is Argon2Hasher
    monkeypatch.setattr("fastapi_users.password.Argon2Hasher", None)
    assert not hasattr(password, "nonsense")


async def test_hashes_run_beside_the_event_loop_and_no_more_at_once_than_there_are_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    may_end = threading.Event()
    started: list[int] = []
    results: list[str] = []

    def slow_hash(name: str) -> str:
        started.append(threading.get_ident())
        assert may_end.wait(10)
        return name

    async def hash_and_keep(name: str) -> None:
        results.append(await run_in_hashing_pool(slow_hash, name))

    async with anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(hash_and_keep, name)
        while len(started) < 2:
            await anyio.lowlevel.checkpoint()
        for _ in range(100):  # the loop goes on, and the third one still waits for a slot
            await anyio.lowlevel.checkpoint()
        assert len(started) == 2
        assert threading.get_ident() not in started
        may_end.set()

    assert sorted(results) == ["a", "b", "c"]
