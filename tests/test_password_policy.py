import re
import uuid
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users import BaseUserManager, InvalidPasswordException, UUIDIDMixin, schemas
from fastapi_users.password_policy import (
    PasswordPolicy,
    PasswordRefused,
    has_pattern,
    is_common,
    is_made_of,
)
from fastapi_users.testing import InMemoryUserDatabase, User, weak_password_helper
from tests import world as tests_world
from tests.world import SECRET, World

GOOD = "correct horse battery staple"


@dataclass
class Person:
    email: str = "ann.smith@example.org"
    name: str | None = None
    nickname: Any = None


async def code_of(password: str, policy: PasswordPolicy | None = None, *, user: Any = None) -> str | None:
    """Which rule refuses it, if any does."""
    try:
        await (policy or PasswordPolicy()).check(password, user=user)
    except PasswordRefused as refused:
        return refused.code
    return None


@pytest.mark.parametrize(
    "password",
    [
        GOOD,
        "correct-horse-battery",
        "annoying horse battery",  # "ann" in a word is not Ann
        "maria likes her green tea",
        "kX9#2vQz!7pLw5$d",
        "xkqvbnmpwzrtflg",
        "829471630582946",
        "いろはにほへとちりぬるをわかよた",
        "💌🐎🔋📎🧀🎺🚲🌋🧊🪁🎲🧵🦉🍇🪜",
        "hunter2 and then some",
        " spaces  count  too ",
        "qwerty is where keys begin",
    ],
)
async def test_any_character_will_do_and_no_kind_of_them_is_demanded(password: str) -> None:
    """Requirement 5: no rules of composition. And no more is refused than has to be."""
    assert await code_of(password, PasswordPolicy(words=["Acme"]), user=Person(name="Ann Maria Smith")) is None


@pytest.mark.parametrize(
    ("min_length", "good", "short"), [(15, "x7#kQ9!vL2@pM4z", "x7#kQ9!vL2@pM4"), (8, "x7#kQ9!v", "x7#kQ9!")]
)
async def test_the_length_is_counted_in_characters(min_length: int, good: str, short: str) -> None:
    """Requirement 2: 15, or 8 beside a second factor."""
    policy = PasswordPolicy(min_length)

    assert await code_of(good, policy) is None
    assert await code_of(short, policy) == "too_short"
    assert await code_of("💌🐎🔋📎🧀🎺🚲"[: min_length - 1], policy) == "too_short"


async def test_fifteen_characters_are_the_default_and_the_reason_says_what_to_do() -> None:
    """Requirements 2 and 11"""
    with pytest.raises(InvalidPasswordException) as refused:
        await PasswordPolicy().check("x7#kQ9!vL2@pM4", user=None)

    assert refused.value.reason.startswith("Use at least 15 characters.")


async def test_an_upper_bound_may_be_lower_than_that_of_the_library() -> None:
    """Requirements 7 and 8"""
    policy = PasswordPolicy(max_bytes=64)

    assert await code_of("".join(map(chr, range(0x3040, 0x3040 + 21))), policy) is None  # 63 bytes
    assert await code_of("".join(map(chr, range(0x3040, 0x3040 + 22))), policy) == "too_long"


@pytest.mark.parametrize(
    "arguments", [{"min_length": 7}, {"max_bytes": 63}, {"max_bytes": 4097}, {"min_length": 65, "max_bytes": 64}]
)
def test_lengths_that_make_no_sense_are_refused_when_the_policy_is_made(arguments: dict[str, Any]) -> None:
    """Requirements 2, 7 and 8"""
    with pytest.raises(ValueError):
        PasswordPolicy(**arguments)


@pytest.mark.parametrize(
    "password",
    [
        "aaaaaaaaaaaaaaa",
        "               ",
        "abababababababab",
        "hunter2 hunter2",
        "passwordpassword",
        "123456789012345",
        "987654321098765",
        "abcdefghijklmno",
        "qwertyuiopasdfgh",
        "QWERTYUIOPASDFGH",
        "qwertzuiopasdfgh",
        "azertyuiopqsdfgh",
        "poiuytrewqlkjhgfdsa",
        "1qaz2wsx3edc4rfv",
        "qazwsxedcrfvtgb",
        "1q2w3e4r5t6y7u8i",
        "qwerty123456789",
        "111222333444555",
        "aaaabbbbcccc1111",
        "x" * 4096,
    ],
)
async def test_what_repeats_itself_or_follows_the_keyboard_is_refused(password: str) -> None:
    """Requirement 4: such passwords head every list."""
    assert await code_of(password) == "pattern"


@pytest.mark.parametrize("password", ["aaaaaaaa", "12345678", "qwerty12", "1qaz2wsx", "abcabcab", "qazwsx12"])
async def test_short_patterns_are_found_where_short_passwords_are_allowed(password: str) -> None:
    """Requirement 4"""
    assert await code_of(password, PasswordPolicy(8)) == "pattern"


def test_what_is_long_enough_may_come_twice() -> None:
    assert not has_pattern(GOOD + GOOD, 15)
    assert has_pattern(GOOD[:14] * 2, 15)


@pytest.mark.parametrize(
    "password",
    [
        "ann.smith@example.org",
        "ANN.SMITH@EXAMPLE.ORG",
        "ann.smith.ann.smith",
        "AnnSmith19900101!!",
        "!!AnnSmith2024!!",
        "4nn.5m1th+4nn.5m1th",
        "annmariasmith_annie",
        "acmerockets2024",
        "Acme-Rockets-2024!",
        "acme rockets ann",
        "ExampleAnnSmithAcme",
        "ann-smith-secret",
        "mc.smithy 20242024",
    ],
)
async def test_the_own_address_and_names_and_words_of_the_application_are_refused(password: str) -> None:
    """Requirement 10: context words, however they are decorated."""
    user = Person(name="Ann Maria Smith", nickname="McSmithy")
    policy = PasswordPolicy(words=["Acme Rockets"])

    assert await code_of(password, policy, user=user) == "personal"


async def test_names_are_read_from_the_fields_that_the_application_names() -> None:
    """Requirement 10"""

    @dataclass
    class Pet:
        email: str
        breed: str

    pet = Pet("x@example.org", "Dachshund")

    assert await code_of("dachshund 20202020", user=pet) is None
    assert await code_of("dachshund 20202020", PasswordPolicy(user_fields=["breed"]), user=pet) == "personal"


@pytest.mark.parametrize(
    "user", [None, Person(email=""), Person(email="no address"), Person(email="a@b"), Person(nickname=7)]
)
async def test_a_user_of_whom_nothing_is_known_has_no_words(user: Any) -> None:
    assert await code_of(GOOD, user=user) is None


async def test_a_name_as_long_as_a_book_costs_no_time() -> None:
    assert await code_of(GOOD, user=Person(nickname="a b " * 100_000 + "correct horse battery staple")) is None


def test_words_are_found_in_either_order_and_the_longest_first() -> None:
    assert is_made_of("annannette", frozenset({"ann", "annette"}), leaving=1)
    assert not is_made_of("anna", frozenset(), leaving=99)


@pytest.mark.parametrize(
    "password",
    [
        "P@ssw0rd12345678!",
        "!!!Princess!!!1999",
        "iloveyouforever",
        "thisismypassword",
        "$uperm4n19781978",
        "Motdepasse2024!!",
        "foot.ball.19821982",
        "dragonbaseball1",
        "tequil4-19781978",
        "12121212 p4ssw0rd",
    ],
)
async def test_the_commonest_passwords_are_refused_whatever_adorns_them(password: str) -> None:
    """Requirement 4"""
    assert await code_of(password) == "common"


@pytest.mark.parametrize(
    "password", ["Football7!", "sunshine", "iloveyou2", "princess", "charlie1", "Trustno1", "$unsh1n3"]
)
async def test_short_ones_are_refused_where_short_passwords_are_allowed(password: str) -> None:
    """Requirement 4"""
    assert await code_of(password, PasswordPolicy(8)) == "common"


def test_a_long_text_is_none_of_the_commonest_even_if_made_of_them() -> None:
    assert is_common("football")
    assert not is_common("football and princess and monkey " * 100)


@given(st.text(max_size=5000))
def test_no_text_is_too_odd(password: str) -> None:
    assert is_common(password) in (True, False)
    assert has_pattern(password, 15) in (True, False)


def test_the_list_is_small_and_says_whose_it_is() -> None:
    """Requirement 4. What adorns a word is taken off before it is looked up, so that it need not be in the list."""
    text = files("fastapi_users").joinpath("common_passwords.txt").read_text("utf-8")
    words = [line for line in text.splitlines() if not line.startswith("#")]

    assert "MIT License" in text
    assert len(text.encode()) < 100_000
    assert len(words) > 10_000
    assert words == sorted({word.casefold() for word in words})
    assert [word for word in words if re.search(r"\s", word) or not is_common(word)] == []


# at the manager


class Manager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = verification_token_secret = SECRET

    def __init__(self, *_: Any) -> None:
        super().__init__(InMemoryUserDatabase(User), weak_password_helper())


class Strict(Manager):
    password_policy = PasswordPolicy()


async def test_without_a_policy_everything_is_accepted_but_nothing() -> None:
    """D18: the default of upstream stays, without the empty password."""
    manager = Manager()
    user = await manager.create(schemas.BaseUserCreate(email="ann@example.org", password="x"))

    assert await manager.get_by_email("ann@example.org") is user
    with pytest.raises(InvalidPasswordException):
        await manager.create(schemas.BaseUserCreate(email="bob@example.org", password=""))


async def test_the_policy_of_the_manager_holds_on_every_path_that_sets_a_password() -> None:
    """Requirement 12"""
    manager = Strict()
    user = await manager.create(schemas.BaseUserCreate(email="ann@example.org", password=GOOD))

    with pytest.raises(PasswordRefused):
        await manager.create(schemas.BaseUserCreate(email="bob@example.org", password="bob@example.org"))
    with pytest.raises(PasswordRefused):
        await manager.update(schemas.BaseUserUpdate(password="ann@example.org"), user)
    assert manager.password_helper.verify_and_update(GOOD, user.hashed_password) == (True, None)


async def test_an_attribute_of_this_name_that_is_something_else_does_nothing() -> None:
    class Other(Manager):
        password_policy: Any = "https://example.org/passwords"

    manager = Other()
    user = await manager.create(schemas.BaseUserCreate(email="ann@example.org", password="x"))

    assert await manager.get_by_email("ann@example.org") is user


class Worldly(tests_world.UserManager):
    password_policy = PasswordPolicy(words=["Testworld"])

    async def validate_password(self, password: str, user: Any) -> None:
        await BaseUserManager.validate_password(self, password, user)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("too short", "Use at least 15 characters"),
        ("123456789012345", "This password repeats itself"),
        ("Ann Testworld 2024", "This password is made of your address"),
        ("P@ssw0rd12345678!", "Many people use this password"),
    ],
)
async def test_clients_are_told_why(tmp_path: Path, password: str, reason: str) -> None:
    """Requirements 11 and 12, at each of the routes."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}", manager_class=Worldly) as world:
        user = await world.insert_user("ann@example.org", GOOD)
        headers = await world.log_in(password=GOOD)
        await world.client.post("/auth/forgot-password", json={"email": user.email})
        token = world.outbox.last(user.email).text.split()[-1]

        answers = [
            await world.client.post("/auth/register", json={"email": "ann@example.net", "password": password}),
            await world.client.patch("/users/me", json={"password": password}, headers=headers),
            await world.client.post("/auth/reset-password", json={"token": token, "password": password}),
        ]

    for answer, code in zip(answers, ("REGISTER", "UPDATE_USER", "RESET_PASSWORD"), strict=True):
        detail = answer.json()["detail"]
        assert (answer.status_code, detail["code"]) == (400, f"{code}_INVALID_PASSWORD")
        assert detail["reason"].startswith(reason)
        assert password not in answer.text


async def test_a_breached_password_is_refused_after_everything_else_was_looked_at() -> None:
    """Requirement 4. The service is not asked about what is refused anyway."""
    asked: list[str] = []

    async def breached(password: str) -> bool:
        asked.append(password)
        return password != GOOD

    policy = PasswordPolicy(breached=breached)

    assert await code_of("short", policy) == "too_short"
    assert await code_of("a password of somebody", policy) == "breached"
    assert await code_of(GOOD, policy) is None
    assert asked == ["a password of somebody", GOOD]
