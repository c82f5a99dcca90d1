"""Hashes, their fingerprints, and what a login costs. Which passwords are good enough is test_password_policy.py."""

import logging
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock, call

import anyio
import bcrypt
import pytest
from argon2 import PasswordHasher
from fastapi.security import OAuth2PasswordRequestForm
from hypothesis import given, settings
from hypothesis import strategies as st
from passlib.context import CryptContext
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher
from pydantic import SecretStr

from fastapi_users import BaseUserManager, InvalidPasswordException, UUIDIDMixin, password, schemas
from fastapi_users.db import SQLAlchemyUserDatabase
from fastapi_users.password import (
    PasswordHelper,
    check_login,
    default_password_hash,
    is_fingerprint,
    slowest,
)
from fastapi_users.password_policy import PasswordPolicy
from fastapi_users.testing import InMemoryUserDatabase, User, weak_password_helper
from tests import world as tests_world
from tests.world import SECRET, UserManager, World

WEAK_CONTEXT = CryptContext(
    ["argon2", "bcrypt"],
    deprecated=["bcrypt"],
    argon2__time_cost=1,
    argon2__memory_cost=8,
    argon2__parallelism=1,
    bcrypt__rounds=4,
)


def weak_pwdlib() -> PasswordHash:
    return PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1), BcryptHasher(4)))


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
    ids=["bcrypt", "time", "memory", "parallelism"],
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
        ("hunter2", bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode() + "\0"),
        ("\ud800", bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()),
    ],
    ids=[
        "empty",
        "placeholder",
        "clear text",
        "bad argon2",
        "short bcrypt",
        "NUL in the password",
        "NUL in the hash",
        "surrogate",
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


# bcrypt, which looked at 72 bytes only


@pytest.mark.parametrize("helper", [PasswordHelper(weak_pwdlib()), PasswordHelper(WEAK_CONTEXT)])
@pytest.mark.parametrize(
    "long_password",
    ["x" * 73, "x" * 4096, "é" * 40, "x" + "é" * 40, "xx" + "€" * 30, "🐎" * 25 + "x"],
    ids=["one more byte", "many more bytes", "at the end of a character", "within two", "within three", "within four"],
)
def test_a_long_password_is_verified_by_its_first_72_bytes_and_upgraded_as_a_whole(
    helper: PasswordHelper, long_password: str
) -> None:
    """E4: bcrypt 5 raises above 72 bytes, which was a 500 for whoever had such a password."""
    stored = bcrypt.hashpw(long_password.encode()[:72], bcrypt.gensalt(4)).decode()

    is_right, upgraded = helper.verify_and_update(long_password, stored)

    assert is_right
    assert upgraded is not None
    assert upgraded.startswith("$argon2id$")
    assert helper.verify_and_update(long_password, upgraded) == (True, None)
    assert helper.verify_and_update(long_password[:-1], upgraded) == (False, None)
    assert helper.verify_and_update("y" + long_password[1:], stored) == (False, None)


def test_the_default_helper_does_so_too() -> None:
    """E4"""
    stored = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()

    is_right, upgraded = PasswordHelper().verify_and_update("x" * 73, stored)

    assert is_right
    assert upgraded is not None
    assert PasswordHelper().verify_and_update("x" * 73, upgraded) == (True, None)


@pytest.mark.parametrize("rounds", [4, 5])
def test_where_bcrypt_is_all_there_is_a_long_password_verifies_and_stays_one_of_72_bytes(rounds: int) -> None:
    """E4"""
    helper = PasswordHelper(CryptContext(["bcrypt"], bcrypt__rounds=rounds))
    stored = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()

    is_right, upgraded = helper.verify_and_update("x" * 73, stored)

    assert is_right
    assert (upgraded is None) == (rounds == 4)
    assert helper.verify_and_update("x" * 74, upgraded or stored) == (True, None)


@pytest.mark.parametrize("stored", ["", "!", "$2b$04$short", "$argon2id$v=19$m=8,t=1,p=1$bad", "$2b$04$\0"])
def test_a_stored_hash_that_nobody_can_read_costs_as_much_as_a_wrong_password(stored: str) -> None:
    """E4 and D21: without the hash that is thrown away, an instant answer would tell whose row is broken."""
    password_hash = MagicMock(wraps=WEAK_CONTEXT)

    assert PasswordHelper(password_hash).verify_and_update("hunter2", stored) == (False, None)

    password_hash.hash.assert_called_once_with("hunter2")


# fingerprints


@pytest.mark.parametrize(
    "stored",
    [WEAK_CONTEXT.hash("hunter2"), bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()],
    ids=["argon2", "bcrypt"],
)
def test_a_fingerprint_tells_a_stored_hash_from_all_others_without_being_a_slow_hash(stored: str) -> None:
    """CONTRACT 16, row 24: the manager calls ``verify_and_update(user.hashed_password, password_fgpt)``."""
    password_hash = MagicMock(wraps=WEAK_CONTEXT)
    helper = PasswordHelper(password_hash)

    fingerprint = helper.fingerprint(stored)

    assert is_fingerprint(fingerprint)
    assert stored not in fingerprint
    assert fingerprint != helper.fingerprint(stored), "it is salted"
    assert helper.verify_and_update(stored, fingerprint) == (True, None)
    assert helper.verify_and_update(WEAK_CONTEXT.hash("hunter2"), fingerprint) == (False, None)
    assert helper.verify_and_update("hunter2", fingerprint) == (False, None)
    assert password_hash.mock_calls == []


@pytest.mark.parametrize("change", [lambda mark: mark[:-1], lambda mark: mark + "0", lambda mark: mark[:11] + "$"])
def test_a_fingerprint_that_was_changed_is_of_nothing(change: Callable[[str], str]) -> None:
    """CONTRACT 16, row 24"""
    helper, stored = weak_password_helper(), weak_password_helper().hash("hunter2")

    assert helper.verify_and_update(stored, change(helper.fingerprint(stored))) == (False, None)


@pytest.mark.parametrize("stored", ["", "!", "hunter2", "$1$short", "5f4dcc3b5aa765d61d8327deb882cf99"])
def test_what_is_no_stored_hash_gets_a_slow_one_since_it_may_be_guessed(stored: str) -> None:
    """CONTRACT 16, row 24: users whose password was never set, or imported in some way, can reset it all the same."""
    helper = weak_password_helper()

    fingerprint = helper.fingerprint(stored)

    assert fingerprint.startswith("$argon2id$")
    assert helper.verify_and_update(stored, fingerprint) == (True, None)


def test_no_guess_at_a_password_is_ever_verified_by_a_cheap_hash() -> None:
    """CONTRACT 16, row 24: somebody who can store a fingerprint of a password gains nothing from it."""
    helper = weak_password_helper()
    stored = f"fapi-fgpt1$salt${password._mark('hunter2', 'salt')}"

    assert is_fingerprint(stored)
    assert helper.verify_and_update("hunter2", stored) == (False, None)


async def test_a_user_whose_stored_hash_is_a_fingerprint_cannot_log_in_with_what_it_is_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """CONTRACT 16, row 24: the very text that verifies in a reset token opens nothing at login, and costs a hash."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}") as world:
        helper = weak_password_helper()
        other = await world.insert_user("bob@example.org")
        user = await world.insert_user()
        await store(world, user, helper.fingerprint(other.hashed_password))
        spied = MagicMock(wraps=helper)
        monkeypatch.setattr(tests_world, "weak_password_helper", lambda: spied)

        answer = await log_in(world, "ann@example.org", other.hashed_password)

    assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
    assert [call[0] for call in spied.mock_calls] == ["hash"]


async def store(world: World, user: Any, hashed_password: str) -> None:
    async with world.session_maker() as session:
        session.add(user)
        user.hashed_password = hashed_password
        await session.commit()


async def log_in(world: World, email: str, password: str) -> Any:
    return await world.client.post("/auth/jwt/login", data={"username": email, "password": password})


# bounds

UNFIT = {
    "": "The password must not be empty.",
    "x" * 4097: "The password must not be longer than 4096 bytes.",
    "é" * 2049: "The password must not be longer than 4096 bytes.",
}
TEXT = "The password must not contain NUL or half a surrogate pair."


class Lenient(UserManager):
    """Takes every password, as managers do by default."""

    async def validate_password(self, password: str, user: Any) -> None:
        self.note("validated", user)


@pytest.fixture
async def lenient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[World, MagicMock]]:
    """The application, and a helper that counts."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}", manager_class=Lenient) as world:
        helper = MagicMock(wraps=weak_password_helper())
        monkeypatch.setattr(tests_world, "weak_password_helper", lambda: helper)
        yield world, helper


@pytest.mark.parametrize("unfit", UNFIT)
async def test_no_route_takes_an_empty_password_or_one_of_more_than_4096_bytes(
    lenient: tuple[World, MagicMock], unfit: str
) -> None:
    """D18 and requirement 8: refused before it is hashed, or shown to the rules of the application."""
    world, helper = lenient
    user = await world.insert_user()
    headers = await world.log_in()
    await world.client.post("/auth/forgot-password", json={"email": user.email})
    token = world.outbox.last(user.email).text.split()[-1]
    world.hooks.clear()
    helper.reset_mock()

    register = await world.client.post("/auth/register", json={"email": "bob@example.org", "password": unfit})
    patch = await world.client.patch("/users/me", json={"password": unfit}, headers=headers)
    assert helper.mock_calls == []
    reset = await world.client.post("/auth/reset-password", json={"token": token, "password": unfit})

    assert [(answer.status_code, answer.json()["detail"]) for answer in (register, patch, reset)] == [
        (400, {"code": code, "reason": UNFIT[unfit]})
        for code in ("REGISTER_INVALID_PASSWORD", "UPDATE_USER_INVALID_PASSWORD", "RESET_PASSWORD_INVALID_PASSWORD")
    ]
    assert [call for call in helper.hash.mock_calls if call.args == (unfit,)] == []
    assert world.hooks == []
    assert await world.log_in()


async def test_4096_bytes_are_taken(lenient: tuple[World, MagicMock]) -> None:
    """Requirements 6 and 7: a password counts as a whole, whatever it is made of."""
    world, _ = lenient
    password = "é " * 1365 + "x"
    assert len(password.encode()) == 4096

    answer = await world.client.post("/auth/register", json={"email": "ann@example.org", "password": password})

    assert answer.status_code == 201
    assert (await log_in(world, "ann@example.org", password)).status_code == 200
    assert (await log_in(world, "ann@example.org", password[:-1] + "y")).status_code == 400


async def test_a_password_that_is_too_long_is_a_wrong_one_for_everybody_and_never_hashed(
    lenient: tuple[World, MagicMock],
) -> None:
    """Requirements 8 and 19"""
    world, helper = lenient
    user = await world.insert_user()
    await store(world, user, weak_password_helper().hash("x" * 5000))
    helper.reset_mock()

    answers = [await log_in(world, email, "x" * 5000) for email in ("ann@example.org", "nobody@example.org")]

    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
    ] * 2
    assert helper.mock_calls == []


async def test_a_proof_in_a_session_takes_no_password_that_is_too_long(lenient: tuple[World, MagicMock]) -> None:
    """Requirement 8, at ``/reauthenticate``"""
    world, helper = lenient
    await world.insert_user()
    headers = await world.log_in()
    helper.reset_mock()

    answer = await world.client.post("/auth/jwt/reauthenticate", json={"password": "x" * 4097}, headers=headers)

    assert (answer.status_code, answer.json()) == (400, {"detail": "REAUTHENTICATE_BAD_CREDENTIALS"})
    assert helper.mock_calls == []


class Manager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """As it comes, over users in memory."""

    reset_password_token_secret = verification_token_secret = SECRET

    def __init__(self, helper: Any = None) -> None:
        super().__init__(InMemoryUserDatabase(User), weak_password_helper() if helper is None else helper)


def credentials(password: str, email: str = "ann@example.org") -> OAuth2PasswordRequestForm:
    return OAuth2PasswordRequestForm(username=email, password=password)


async def insert(manager: Manager, password: str = "hunter2", email: str = "ann@example.org", **fields: Any) -> User:
    hashed_password = manager.password_helper.hash(password)
    return await manager.user_db.create({"email": email, "hashed_password": hashed_password, **fields})


@pytest.mark.parametrize(("unfit", "reason"), [*UNFIT.items(), ("a\0b", TEXT), ("\ud800", TEXT)])
async def test_scripts_store_no_unfit_password_either(unfit: str, reason: str) -> None:
    """Requirement 12: the same rules on every path that sets a password."""
    manager = Manager()
    user = await insert(manager)
    # As from a schema of the application that looks at nothing.
    schema = schemas.BaseUserCreate.model_construct(email="bob@example.org", password=unfit)

    with pytest.raises(InvalidPasswordException, match=reason):
        await manager.create(schema)
    with pytest.raises(InvalidPasswordException, match=reason):
        await manager.update(schemas.BaseUserUpdate.model_construct({"password"}, password=unfit), user)
    assert await manager.authenticate(credentials("hunter2")) is user


class SecretiveUserCreate(schemas.BaseUserCreate):
    password: SecretStr  # type: ignore[assignment]  # an application may do so, if it unwraps it

    def create_update_dict_superuser(self) -> dict[str, Any]:
        return {"email": self.email, "password": self.password.get_secret_value()}


async def test_a_schema_may_wrap_the_password() -> None:
    """Requirement 12, and that such an application goes on working."""
    manager = Manager()

    user = await manager.create(SecretiveUserCreate(email="ann@example.org", password=SecretStr("hunter2")))

    assert await manager.authenticate(credentials("hunter2")) is user
    with pytest.raises(InvalidPasswordException):
        await manager.create(SecretiveUserCreate(email="bob@example.org", password=SecretStr("")))


async def test_a_policy_reads_a_password_that_a_schema_wraps() -> None:
    manager = Manager()
    manager.password_policy = PasswordPolicy()

    with pytest.raises(InvalidPasswordException, match="at least 15"):
        await manager.create(SecretiveUserCreate(email="ann@example.org", password=SecretStr("hunter2")))


@pytest.mark.parametrize(
    "helper",
    [weak_password_helper(), PasswordHelper(weak_pwdlib()), PasswordHelper(WEAK_CONTEXT), WEAK_CONTEXT],
    ids=["argon2", "pwdlib", "passlib", "a context that is no helper"],
)
@pytest.mark.parametrize("odd", ["\ud800", "hunter2\0", "\0", "", "x" * 73])
@pytest.mark.parametrize("email", ["ann@example.org", "bob@example.org", "nobody@example.org"])
async def test_an_odd_password_is_a_wrong_one_with_every_helper(helper: Any, odd: str, email: str) -> None:
    """E4: whatever the hasher raises is no error of the server."""
    manager = Manager(helper)
    await insert(manager)
    bob = await insert(manager, email="bob@example.org")
    bob.hashed_password = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()

    assert await manager.authenticate(credentials(odd, email)) is None


# normal form

LIGATURE = "o\ufb03ce horse battery"  # one character for "ffi"
NORMAL = "office horse battery"


class Normalizing(Manager):
    password_normalization = "NFKC"


async def test_passwords_count_as_typed_without_a_normal_form() -> None:
    """Requirement 9: an option, since whoever does not want it wants every byte to count (requirement 6)."""
    manager = Manager()
    await insert(manager, NORMAL)

    assert await manager.authenticate(credentials(LIGATURE)) is None


async def test_in_normal_form_every_way_to_type_a_password_is_the_same() -> None:
    """Requirement 9, at registration, login and change, and for the rules of the application."""
    manager = Normalizing()
    validate_password = AsyncMock()
    manager.validate_password = validate_password  # type: ignore[method-assign]  # to see what it gets
    schema = schemas.BaseUserCreate(email="ann@example.org", password=LIGATURE)

    user = await manager.create(schema)
    for typed in (LIGATURE, NORMAL):
        assert await manager.authenticate(credentials(typed)) is user
    await manager.update(schemas.BaseUserUpdate(password="\uff21" + LIGATURE), user)
    assert await manager.authenticate(credentials("A" + NORMAL)) is user

    assert validate_password.await_args_list == [call(NORMAL, schema), call("A" + NORMAL, user)]


async def test_a_password_that_was_stored_as_typed_goes_on_working_and_is_upgraded() -> None:
    """Requirement 9: switching it on locks nobody out."""
    manager = Normalizing()
    user = await insert(manager, LIGATURE)
    assert await manager.authenticate(credentials(NORMAL)) is None

    assert await manager.authenticate(credentials(LIGATURE)) is user

    assert await manager.authenticate(credentials(NORMAL)) is user
    assert manager.password_helper.verify_and_update(LIGATURE, user.hashed_password) == (False, None)


async def test_an_upgrade_that_the_hasher_does_not_take_lets_the_user_in_all_the_same() -> None:
    """Requirement 9, with bcrypt as the only scheme: the normal form is too long for it."""
    manager = Normalizing(PasswordHelper(CryptContext(["bcrypt"], bcrypt__rounds=4)))
    user = await insert(manager, "\ufdfa" * 4)  # four characters that become seventy-two
    stored = user.hashed_password

    assert await manager.authenticate(credentials("\ufdfa" * 4)) is user
    assert user.hashed_password == stored


@pytest.mark.parametrize(("password", "work"), [(NORMAL, 1), (LIGATURE, 2)])
async def test_a_second_spelling_costs_unknown_users_a_second_hash_as_well(password: str, work: int) -> None:
    """Requirements 9 and 19"""
    helper = MagicMock(wraps=weak_password_helper())
    manager = Normalizing(helper)
    await insert(manager)

    helper.reset_mock()
    assert await manager.authenticate(credentials(password)) is None
    known = [name for name, _, _ in helper.mock_calls]
    helper.reset_mock()
    assert await manager.authenticate(credentials(password, "nobody@example.org")) is None

    assert known == ["verify_and_update"] * work
    assert [name for name, _, _ in helper.mock_calls] == ["hash"] * work


async def test_a_normal_form_of_more_than_4096_bytes_is_too_long() -> None:
    """Requirement 8: some characters become eighteen."""
    helper = MagicMock(wraps=weak_password_helper())
    manager = Normalizing(helper)
    password = "\ufdfa" * 1000

    with pytest.raises(InvalidPasswordException, match="longer than 4096 bytes"):
        await manager.create(schemas.BaseUserCreate(email="ann@example.org", password=password))
    assert await manager.authenticate(credentials(password)) is None
    assert helper.mock_calls == []


# how long a failed login takes


class Clock:
    """Time passes by hashing and by sleeping only, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.hashes = 0
        self.slept = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.hashes += 1

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


class Hasher:
    """``<name>:<password>``, which takes its time."""

    def __init__(self, clock: Clock, name: str, seconds: float) -> None:
        self.clock, self.name, self.seconds = clock, name, seconds

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("The clock is not to be copied.")

    def identify(self, hash: str | bytes) -> bool:
        return str(hash).startswith(f"{self.name}:")

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.clock.work(self.seconds)
        return f"{self.name}:{password!s}"

    def verify(self, password: str | bytes, hash: str | bytes) -> bool:
        return self.hash(password) == hash

    def check_needs_rehash(self, hash: str | bytes) -> bool:
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(password, "_floors", {})
    monkeypatch.setattr(password, "slowest", partial(slowest, clock=clock))
    monkeypatch.setattr("fastapi_users.manager.check_login", partial(check_login, clock=clock))
    monkeypatch.setattr("fastapi_users.manager.perf_counter", clock)
    monkeypatch.setattr("fastapi_users.password.anyio.sleep", clock.sleep)
    return clock


def slow_helper(clock: Clock, **seconds: float) -> PasswordHelper:
    hashers: Any = [Hasher(clock, name, each) for name, each in seconds.items()]
    return PasswordHelper(PasswordHash(hashers))


@pytest.fixture
def helper(clock: Clock) -> PasswordHelper:
    return slow_helper(clock, new=1, old=3)


@pytest.mark.parametrize(
    ("email", "typed", "fields"),
    [
        ("nobody@example.org", "wrong", {}),
        ("ann@example.org", "wrong", {}),
        ("ann@example.org", "wrong", {"hashed_password": "old:right"}),
        ("ann@example.org", "wrong", {"hashed_password": ""}),
        ("ann@example.org", "wrong", {"hashed_password": "what is this?"}),
        ("ann@example.org", "wrong", {"is_active": False}),
        ("ann@example.org", "right", {"is_active": False}),
        ("ann@example.org", "wrong", {"hashed_password": "new:6f0d1c"}),  # generated, for an OAuth-only user
    ],
)
async def test_every_failed_login_takes_as_long_as_the_slowest_scheme_and_costs_one_hash(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    clock: Clock,
    helper: PasswordHelper,
    email: str,
    typed: str,
    fields: dict[str, Any],
) -> None:
    """D21 and requirement 19: by the time, a login told who has an account, with a hash of which age."""
    monkeypatch.setattr(tests_world, "weak_password_helper", lambda: helper)
    user = await world.insert_user(password="right", is_active=fields.get("is_active", True))
    await store(world, user, fields.get("hashed_password", user.hashed_password))
    await log_in(world, "nobody@example.org", "wrong")  # the first failure of a process measures
    clock.now, clock.hashes = 0, 0

    answer = await log_in(world, email, typed)

    assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
    assert clock.now == pytest.approx(3 * 1.2)
    assert clock.hashes == 1


@pytest.mark.parametrize("email", ["nobody@example.org", "ann@example.org"])
async def test_how_long_an_address_is_looked_for_does_not_tell_either(
    world: World, monkeypatch: pytest.MonkeyPatch, clock: Clock, helper: PasswordHelper, email: str
) -> None:
    """D3, D21: without an index, the whole table is searched for other spellings of an unknown one."""
    monkeypatch.setattr(tests_world, "weak_password_helper", lambda: helper)
    await world.insert_user(password="right")
    await log_in(world, "nobody@example.org", "wrong")
    look_up = SQLAlchemyUserDatabase.get_by_email

    async def slow_look_up(self: Any, email: str) -> Any:
        clock.now += 0.1
        found = await look_up(self, email)
        clock.now += 0.2 if found is None else 0
        return found

    monkeypatch.setattr(SQLAlchemyUserDatabase, "get_by_email", slow_look_up)
    clock.now = 0

    assert (await log_in(world, email, "wrong")).status_code == 400
    assert clock.now == pytest.approx(3 * 1.2)


async def test_a_login_that_succeeds_does_not_wait(
    world: World, monkeypatch: pytest.MonkeyPatch, clock: Clock, helper: PasswordHelper
) -> None:
    """D21: the floor is for failures."""
    monkeypatch.setattr(tests_world, "weak_password_helper", lambda: helper)
    await world.insert_user(password="right")
    clock.now = 0

    assert (await log_in(world, "ann@example.org", "right")).status_code == 200

    assert (clock.now, clock.slept) == (1, 0)


async def test_the_schemes_are_measured_once_even_for_helpers_that_are_made_anew_and_for_many_at_once(
    clock: Clock,
) -> None:
    """D21: otherwise a failed login would cost five hashes instead of one."""
    for _ in range(2):
        helper = slow_helper(clock, new=1, old=3)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(Manager(helper).authenticate, credentials("wrong"))

    assert clock.hashes == 2 * 3 + 4, "one for each login, and two tries with each scheme"


async def test_the_first_try_with_a_scheme_may_load_its_library(clock: Clock) -> None:
    """D21: else every failed login of this process would wait as long."""
    tries = iter([100, 1])

    assert slowest([lambda _: clock.work(next(tries))], clock) == 1


def test_a_scheme_that_cannot_hash_is_no_floor(clock: Clock) -> None:
    """D21: nobody can have a hash of a scheme whose library is missing."""
    assert slowest([lambda _: 1 / 0], clock) == 0
    assert slowest([], clock) == 0


async def test_schemes_with_other_settings_are_others(clock: Clock) -> None:
    """D21: those of pwdlib, which hides its settings."""
    for time_cost in (1, 1, 2):
        argon2 = Argon2Hasher(time_cost=time_cost, memory_cost=8, parallelism=1)
        await password.pad_failed_login(PasswordHelper(PasswordHash((argon2,))), 0, tries=1)

    assert len(password._floors) == 2


@pytest.mark.parametrize("seconds", [0.5, 5])
async def test_a_login_that_took_longer_than_the_floor_does_not_wait(clock: Clock, seconds: float) -> None:
    """D21, when the machine is busy; and that no scheme but the configured ones is asked."""
    helper = slow_helper(clock, new=1)

    await password.pad_failed_login(helper, seconds, tries=1)

    assert clock.slept == pytest.approx(max(1.2 - seconds, 0))


async def test_both_spellings_wait_for_twice_the_floor(clock: Clock, helper: PasswordHelper) -> None:
    """Requirements 9 and 19"""
    manager = Normalizing(helper)
    user = await insert(manager, LIGATURE)
    assert await manager.authenticate(credentials("wrong")) is None
    for stored in ("new:x", "old:x"):
        user.hashed_password = stored
        clock.now = 0
        assert await manager.authenticate(credentials(LIGATURE)) is None
        assert clock.now == pytest.approx(2 * 3 * 1.2)


async def test_the_schemes_of_a_passlib_context_are_measured_too(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """D21, with the helper that most applications have."""
    measured: list[list[str]] = []

    def measure(hashers: list[Callable[[str], str]]) -> float:
        measured.append([hasher("x").split("$")[1] for hasher in hashers])
        return 2

    monkeypatch.setattr(password, "slowest", measure)
    helper = PasswordHelper(WEAK_CONTEXT)

    for _ in range(2):
        await password.pad_failed_login(helper, 0, tries=1)

    assert measured == [["argon2id", "2b"]]
    assert clock.slept == pytest.approx(2 * 2 * 1.2)


class Own(PasswordHelper):
    def hash(self, password: str) -> str:
        return f"own:{password}"


@pytest.mark.parametrize(
    "change",
    [
        lambda helper: MagicMock(wraps=helper),
        lambda helper: helper.password_hash,
        lambda helper: Own(helper.password_hash),
        lambda helper: PasswordHelper(MagicMock(wraps=helper.password_hash)),
    ],
    ids=["a mock", "no helper of ours", "one that hashes in its own way", "a hasher that nobody knows"],
)
async def test_other_helpers_do_as_they_always_did(
    clock: Clock, helper: PasswordHelper, change: Callable[[PasswordHelper], Any]
) -> None:
    """CONTRACT 5 and 8.9: nothing is known of how long they may take."""
    manager = Manager(change(helper))

    assert await manager.authenticate(credentials("wrong", "nobody@example.org")) is None
    assert clock.slept == 0


@pytest.mark.parametrize("email", ["ann@example.org", "nobody@example.org"])
@pytest.mark.parametrize("target", [PasswordHelper, None], ids=["the class", "the object"])
@pytest.mark.parametrize(("method", "value"), [("hash", "x"), ("verify_and_update", (False, None))])
async def test_a_patched_helper_does_not_wait(
    clock: Clock,
    helper: PasswordHelper,
    monkeypatch: pytest.MonkeyPatch,
    email: str,
    target: Any,
    method: str,
    value: Any,
) -> None:
    """CONTRACT 18.1: applications patch these in their tests, to be fast."""
    manager = Manager(helper)
    await insert(manager)
    monkeypatch.setattr(target or manager.password_helper, method, MagicMock(return_value=value))

    assert await manager.authenticate(credentials("wrong", email)) is None
    assert clock.slept == 0


@pytest.mark.parametrize("stored", [None, MagicMock()])
async def test_a_user_without_a_stored_hash_cannot_log_in(stored: Any) -> None:
    """E4, for a column that may be null."""
    manager = Manager()
    user = await insert(manager)
    user.hashed_password = stored

    assert await manager.authenticate(credentials("hunter2")) is None
