"""One suite on every engine, with a session for each of those who try at the same moment."""

import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from beanie import Document, init_beanie
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session

from fastapi_users.db.beanie import BeanieBaseOneTimeSecret, BeanieStore
from fastapi_users.db.sqlalchemy import SQLAlchemyBaseOneTimeSecretTable, SQLAlchemyStore
from fastapi_users.db.store import Store, Where
from fastapi_users.exceptions import FastAPIUsersException, InvalidOneTimeSecret
from fastapi_users.models import OneTimeSecretProtocol
from fastapi_users.one_time import OneTimeSecrets, Purpose, delete_all, end_all
from fastapi_users.testing import InMemoryStore, OneTimeSecret, frozen_clock
from tests.mongo_server import mongo_server
from tests.services import DRIVERS, MONGO_URL, connect_mongo, database
from tests.world import SECRET

LOGIN = Purpose(name="login", lifetime_seconds=600, max_tries=3, max_tries_per_subject=5, window_seconds=3600)
ANN, BOB = "ann@example.org", "bob@example.org"
HOSTILE = ["", "\0", "a\0b", "\ud800", "\udfff\ud800", "\u00fc\U0001f600", "' OR 1=1 --", "%", "x" * 321, "x" * 2**20]


class Base(DeclarativeBase):
    pass


class SQLAlchemyOneTimeSecret(SQLAlchemyBaseOneTimeSecretTable, Base):
    pass


class BeanieOneTimeSecret(BeanieBaseOneTimeSecret, Document):
    pass


NewStore = Callable[[], AbstractAsyncContextManager[Store[Any]]]


@asynccontextmanager
async def in_memory() -> AsyncIterator[NewStore]:
    rows: list[OneTimeSecret] = []

    @asynccontextmanager
    async def new_store() -> AsyncIterator[Store[Any]]:
        yield InMemoryStore(OneTimeSecret, rows)

    yield new_store


@asynccontextmanager
async def with_sqlalchemy(engine_name: str, folder: Path) -> AsyncIterator[NewStore]:
    async with database(engine_name, folder) as url:
        # A slow machine lets the writers of a SQLite file wait longer than the usual five seconds.
        patience: dict[str, Any] = {"timeout": 300} if url.get_backend_name() == "sqlite" else {}
        engine: Any
        if "plain" in engine_name:
            engine = create_engine(url, connect_args=patience)
            Base.metadata.create_all(engine)
        else:
            engine = create_async_engine(url, connect_args=patience)
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)

        @asynccontextmanager
        async def new_store() -> AsyncIterator[Store[Any]]:
            async with AsyncExitStack() as stack:
                session = (
                    stack.enter_context(Session(engine, expire_on_commit=False))
                    if "plain" in engine_name
                    else await stack.enter_async_context(AsyncSession(engine, expire_on_commit=False))
                )
                yield SQLAlchemyStore(session, SQLAlchemyOneTimeSecret)

        yield new_store
        if "plain" in engine_name:
            engine.dispose()
        else:
            await engine.dispose()


@asynccontextmanager
async def with_beanie(url: str | None) -> AsyncIterator[NewStore]:
    async with AsyncExitStack() as stack:
        client = await connect_mongo(await stack.enter_async_context(mongo_server()) if url is None else url)
        stack.push_async_callback(client.close)
        mongo_database = client[f"fastapi_users_test_{os.getpid()}"]
        stack.push_async_callback(client.drop_database, mongo_database.name)
        await init_beanie(mongo_database, document_models=[BeanieOneTimeSecret])

        @asynccontextmanager
        async def new_store() -> AsyncIterator[Store[Any]]:
            yield BeanieStore(BeanieOneTimeSecret)

        yield new_store


PLACES: dict[str, Callable[[Path], AbstractAsyncContextManager[NewStore]]] = {
    "in memory": lambda _: in_memory(),
    **{name: partial(with_sqlalchemy, name) for name in DRIVERS},
    "wire server": lambda _: with_beanie(None),
    **({"MongoDB": lambda _: with_beanie(MONGO_URL)} if MONGO_URL else {}),
}


@pytest.fixture(params=list(PLACES))
async def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NewStore]:
    async with PLACES[request.param](tmp_path) as new_store:
        yield new_store


@pytest.fixture
async def store(new_store: NewStore) -> AsyncIterator[Store[Any]]:
    async with new_store() as store:
        yield store


@pytest.fixture
def login(store: Store[Any]) -> OneTimeSecrets:
    return secrets_of(store)


def secrets_of(store: Store[Any], purpose: Purpose = LOGIN) -> OneTimeSecrets:
    return OneTimeSecrets(store, key=SECRET, purpose=purpose)


async def outcome(attempt: Awaitable[object]) -> str:
    try:
        return str(await attempt)
    except FastAPIUsersException as refusal:
        return type(refusal).__name__


async def at_once(
    new_store: NewStore, count: int, attempt: Callable[[OneTimeSecrets], Awaitable[object]], purpose: Purpose = LOGIN
) -> Counter[str]:
    outcomes = Counter[str]()

    async def one() -> None:
        async with new_store() as store:
            outcomes[await outcome(attempt(secrets_of(store, purpose)))] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return outcomes


async def tries_of(store: Store[Any], subject: str = ANN) -> list[int]:
    return sorted(row.tries for row in await store.list({"subject": subject}))


async def test_a_token_gives_its_subject_once(login: OneTimeSecrets) -> None:
    token, older = await login.issue_token(ANN), await login.issue_token(ANN)

    assert len(token) == 43
    assert await login.consume_token(token) == ANN
    with pytest.raises(InvalidOneTimeSecret):
        await login.consume_token(token)
    with pytest.raises(InvalidOneTimeSecret):
        await login.take_try(token)
    assert await login.consume_token(older) == ANN


async def test_looking_at_a_token_uses_nothing_up(login: OneTimeSecrets) -> None:
    token = await login.issue_token(ANN)

    assert [await login.look_at_token(token) for _ in range(2)] == [ANN, ANN]
    assert await login.consume_token(token) == ANN
    for gone in (token, "", "\0", "\ud800"):
        with pytest.raises(InvalidOneTimeSecret):
            await login.look_at_token(gone)


async def test_of_twenty_who_bring_one_token_one_gets_in(new_store: NewStore) -> None:
    async with new_store() as store:
        token = await secrets_of(store).issue_token(ANN)

    outcomes = await at_once(new_store, 20, lambda login: login.consume_token(token))

    assert outcomes == {ANN: 1, "InvalidOneTimeSecret": 19}


async def test_a_code_counts_once_and_for_its_subject_only(login: OneTimeSecrets) -> None:
    await login.issue_code(ANN, "123456")
    await login.issue_code(BOB, "123456")

    await login.consume_code(ANN, "123456")
    for subject in (ANN, "Ann@example.org", "cleo@example.org"):
        with pytest.raises(InvalidOneTimeSecret):
            await login.consume_code(subject, "123456")
    await login.consume_code(BOB, "123456")


async def test_the_same_code_may_be_issued_again(login: OneTimeSecrets) -> None:
    for _ in range(3):
        await login.issue_code(ANN, "123456")
        await login.issue_code(ANN, "123456")
        await login.consume_code(ANN, "123456")

    with pytest.raises(InvalidOneTimeSecret):
        await login.consume_code(ANN, "123456")


async def test_a_new_code_ends_the_older_one_and_no_token(login: OneTimeSecrets) -> None:
    token = await login.issue_token(ANN)
    await login.issue_code(ANN, "111111")
    await login.issue_code(ANN, "222222")

    with pytest.raises(InvalidOneTimeSecret):
        await login.consume_code(ANN, "111111")
    await login.consume_code(ANN, "222222")
    assert await login.consume_token(token) == ANN


async def test_of_codes_issued_at_the_same_moment_one_counts_at_most(new_store: NewStore, store: Store[Any]) -> None:
    purpose = replace(LOGIN, max_tries=100, max_tries_per_subject=100)
    codes = [f"{number:06}" for number in range(8)]
    remaining = iter(codes)
    await at_once(new_store, len(codes), lambda login: login.issue_code(ANN, next(remaining)))

    outcomes = Counter([await outcome(secrets_of(store, purpose).consume_code(ANN, code)) for code in codes])

    assert outcomes["None"] <= 1
    assert outcomes["InvalidOneTimeSecret"] >= 7


async def test_of_twenty_who_bring_one_code_one_gets_in(new_store: NewStore) -> None:
    purpose = replace(LOGIN, max_tries=20, max_tries_per_subject=20)
    async with new_store() as store:
        await secrets_of(store, purpose).issue_code(ANN, "123456")

    outcomes = await at_once(new_store, 20, lambda login: login.consume_code(ANN, "123456"), purpose)

    assert outcomes == {"None": 1, "InvalidOneTimeSecret": 19}


async def test_of_fifty_guesses_at_once_only_those_within_the_limit_are_compared(
    new_store: NewStore, store: Store[Any], login: OneTimeSecrets
) -> None:
    await login.issue_code(ANN, "123456")

    outcomes = await at_once(new_store, 50, lambda login: login.consume_code(ANN, "654321"))

    assert outcomes == {"InvalidOneTimeSecret": 5, "TooManyTries": 45}
    assert await tries_of(store) == [3, 5]
    assert await outcome(login.consume_code(ANN, "123456")) == "TooManyTries"
    await login.issue_code(BOB, "123456")
    assert await outcome(login.consume_code(BOB, "123456")) == "None"


async def test_an_exhausted_code_is_refused_like_one_that_never_was(login: OneTimeSecrets) -> None:
    await login.issue_code(ANN, "123456")

    for subject in (ANN, "nobody@example.org"):
        answers = [await outcome(login.consume_code(subject, guess)) for guess in ("1", "2", "3", "123456", "5", "6")]
        assert answers == ["InvalidOneTimeSecret"] * 5 + ["TooManyTries"]


async def test_a_new_code_brings_no_new_tries_and_the_end_of_the_window_does(login: OneTimeSecrets) -> None:
    with frozen_clock() as clock:
        for _ in range(5):
            await login.issue_code(ANN, "123456")
            assert await outcome(login.consume_code(ANN, "wrong")) == "InvalidOneTimeSecret"
            clock.advance(seconds=60)
        await login.issue_code(ANN, "123456")
        assert await outcome(login.consume_code(ANN, "123456")) == "TooManyTries"

        clock.advance(seconds=3301)  # an hour after the first try
        await login.issue_code(ANN, "123456")
        answers = [await outcome(login.consume_code(ANN, guess)) for guess in ("wrong", "123456")]
        assert answers == ["InvalidOneTimeSecret", "None"]


async def test_of_fifty_guesses_after_a_window_only_those_within_the_limit_are_compared(
    new_store: NewStore, store: Store[Any], login: OneTimeSecrets
) -> None:
    with frozen_clock() as clock:
        for _ in range(6):
            await outcome(login.consume_code(ANN, "wrong"))
        clock.advance(seconds=3602)

        outcomes = await at_once(new_store, 50, lambda login: login.consume_code(ANN, "wrong"))

    assert outcomes == {"InvalidOneTimeSecret": 5, "TooManyTries": 45}
    assert await tries_of(store) == [5]


async def test_a_success_clears_what_was_counted_for_the_subject(login: OneTimeSecrets, store: Store[Any]) -> None:
    for _ in range(4):
        await login.issue_code(ANN, "123456")
        for guess in ("wrong", "wrong", "123456"):
            await outcome(login.consume_code(ANN, guess))

    assert await tries_of(store) == [3] * 4


async def test_tries_of_a_factor_are_counted_before_it_is_checked(
    new_store: NewStore, store: Store[Any], login: OneTimeSecrets
) -> None:
    tokens = [await login.issue_token(ANN) for _ in range(3)]

    first = await at_once(new_store, 20, lambda login: login.take_try(tokens[0]))
    second = await at_once(new_store, 20, lambda login: login.take_try(tokens[1]))

    assert first == {ANN: 3, "TooManyTries": 17}
    assert second == {ANN: 2, "TooManyTries": 18}
    assert await outcome(login.take_try(tokens[2])) == "TooManyTries"
    assert await tries_of(store) == [1, 3, 3, 5]
    assert await login.consume_token(tokens[0]) == ANN  # whose last try was right
    assert await outcome(login.take_try(tokens[2])) == "TooManyTries", "another factor may still be missing"
    await login.clear_tries(ANN)
    assert await login.take_try(tokens[2]) == ANN


async def test_a_secret_serves_its_purpose_key_and_kind_only(store: Store[Any], login: OneTimeSecrets) -> None:
    token = await login.issue_token(ANN)
    await login.issue_code(ANN, token)
    strangers = [
        secrets_of(store, replace(LOGIN, name="verify")),
        OneTimeSecrets(store, key="another key", purpose=LOGIN),
    ]

    for stranger in strangers:
        assert await outcome(stranger.consume_token(token)) == "InvalidOneTimeSecret"
        assert await outcome(stranger.take_try(token)) == "InvalidOneTimeSecret"
        assert await outcome(stranger.consume_code(ANN, token)) == "InvalidOneTimeSecret"
    again = OneTimeSecrets(store, key=SecretStr(SECRET), purpose=LOGIN)
    assert await outcome(again.consume_code(ANN, token)) == "None"
    assert await outcome(again.consume_token(token)) == ANN


async def test_what_expired_is_refused_and_cleaned_up(store: Store[Any], login: OneTimeSecrets) -> None:
    other = secrets_of(store, replace(LOGIN, name="other", lifetime_seconds=7200))
    with frozen_clock() as clock:
        token, kept = await login.issue_token(ANN), await other.issue_token(ANN)
        await login.issue_code(ANN, "123456")
        await login.consume_token(await login.issue_token(ANN))
        await outcome(login.consume_code(ANN, "wrong"))
        assert await login.cleanup() == 0

        clock.advance(seconds=601)
        assert await outcome(login.consume_token(token)) == "InvalidOneTimeSecret"
        assert await outcome(login.take_try(token)) == "InvalidOneTimeSecret"
        assert await outcome(login.consume_code(ANN, "123456")) == "InvalidOneTimeSecret"
        assert await other.cleanup() == 3
        clock.advance(seconds=3000)
        assert await other.cleanup() == 1  # the window
        assert await other.consume_token(kept) == ANN


async def test_the_table_holds_no_secret(store: Store[Any], login: OneTimeSecrets) -> None:
    token = await login.issue_token(ANN)
    await login.issue_code(ANN, "123456")
    await outcome(login.consume_code(ANN, "wrong"))

    rows: list[OneTimeSecretProtocol] = await store.list({})

    assert len(rows) == 3
    for row in rows:
        texts = [row.digest, row.purpose, row.subject]
        assert not any(secret in text for secret in (token, "123456", "wrong") for text in texts)
        for secret in (token, "123456"):  # a digest that anybody can compute would hide no code
            assert hashlib.sha256(secret.encode()).hexdigest() not in row.digest
        assert (row.purpose, row.subject) == ("login", ANN)
        assert row.created_at.tzinfo is not None
        assert row.expires_at > row.created_at
        assert len(row.digest) <= 64


async def test_the_secrets_of_a_subject_end_together(store: Store[Any], login: OneTimeSecrets) -> None:
    other = secrets_of(store, replace(LOGIN, name="other"))
    token, others_token, bobs_token = [
        await secrets.issue_token(subject) for secrets, subject in ((login, ANN), (other, ANN), (login, BOB))
    ]
    await login.issue_code(ANN, "123456")
    await outcome(login.consume_code(ANN, "wrong"))

    assert [await login.end(ANN), await login.end(ANN)] == [2, 0]
    assert await outcome(login.consume_token(token)) == "InvalidOneTimeSecret"
    assert await outcome(login.consume_code(ANN, "123456")) == "InvalidOneTimeSecret"
    assert await outcome(other.take_try(others_token)) == ANN
    assert [await end_all(store, ANN), await end_all(store, ANN)] == [1, 0]
    assert await outcome(other.consume_token(others_token)) == "InvalidOneTimeSecret"
    assert await outcome(login.consume_token(bobs_token)) == BOB
    assert await tries_of(store) == [0, 1, 1, 1, 2]  # what was counted goes on to count


async def test_a_deleted_subject_leaves_nothing(store: Store[Any], login: OneTimeSecrets) -> None:
    await login.issue_token(ANN)
    await outcome(login.consume_code(ANN, "wrong"))
    await login.issue_token(BOB)

    assert [await delete_all(store, ANN), await delete_all(store, ANN)] == [2, 0]
    assert [row.subject for row in await store.list({})] == [BOB]


async def test_subjects_that_a_collation_takes_for_one_stay_two(store: Store[Any], login: OneTimeSecrets) -> None:
    subjects = ["jose@example.org", "jos\u00e9@example.org", "Jose@example.org", "\U0001f600@example.org"]
    tokens = [await login.issue_token(subject) for subject in subjects]

    assert await end_all(store, subjects[0]) == 1
    assert [await outcome(login.consume_token(token)) for token in tokens] == ["InvalidOneTimeSecret", *subjects[1:]]
    assert await delete_all(store, subjects[1]) == 1


async def test_what_no_column_can_hold_is_refused_like_anything_else(login: OneTimeSecrets) -> None:
    await login.issue_code(ANN, "123456")
    for text in HOSTILE:
        assert await outcome(login.consume_token(text)) == "InvalidOneTimeSecret"
        assert await outcome(login.take_try(text)) == "InvalidOneTimeSecret"
        assert await outcome(login.consume_code(text, "123456")) == "InvalidOneTimeSecret"
        assert await outcome(login.consume_code(BOB, text)) in {"InvalidOneTimeSecret", "TooManyTries"}
    for text in HOSTILE:
        await login.issue_code(ANN, text)
        assert await outcome(login.consume_code(ANN, text)) == "None"


@pytest.mark.parametrize("subject", ["x" * 321, "a\0b", "\ud800"])
async def test_a_subject_that_no_column_can_hold_gets_no_secret(subject: str) -> None:
    login = secrets_of(InMemoryStore(OneTimeSecret, []))

    with pytest.raises(ValueError, match="320 characters"):
        await login.issue_token(subject)
    with pytest.raises(ValueError, match="320 characters"):
        await login.issue_code(subject, "123456")


def test_a_purpose_needs_a_short_name_and_secrets_a_key() -> None:
    assert Purpose(name="n" * 32, lifetime_seconds=1).max_tries_per_subject == 10
    with pytest.raises(ValueError, match="32 characters"):
        Purpose(name="n" * 33, lifetime_seconds=1)
    with pytest.raises(ValueError, match="without a key"):
        OneTimeSecrets(InMemoryStore(OneTimeSecret, []), key="", purpose=LOGIN)


ANY_TEXT = st.text(st.characters())


@given(text=ANY_TEXT)
def test_a_text_that_was_not_issued_is_no_token(text: str) -> None:
    async def bring_it() -> None:
        login = secrets_of(InMemoryStore(OneTimeSecret, []))
        token = await login.issue_token(ANN)
        for attempt in (login.consume_token, login.take_try):
            for wrong in (text, f"{text} {token}", f"{token} {text}"):
                with pytest.raises(InvalidOneTimeSecret):
                    await attempt(wrong)
        assert await login.consume_token(token) == ANN

    anyio.run(bring_it)


@given(subject=ANY_TEXT, code=ANY_TEXT, guess=ANY_TEXT)
def test_a_code_is_the_text_that_was_issued_and_no_other(subject: str, code: str, guess: str) -> None:
    async def bring_it() -> None:
        login = secrets_of(InMemoryStore(OneTimeSecret, []))
        await login.issue_code(ANN, code)
        for who, what in ((f"{subject} {ANN}", code), (f"{ANN} {code}", ""), (ANN, f"{guess} {code}")):
            with pytest.raises(InvalidOneTimeSecret):
                await login.consume_code(who, what)
        await login.consume_code(ANN, code)

    anyio.run(bring_it)


class Interrupted(InMemoryStore[OneTimeSecret]):
    """Lets somebody else act right before one of the calls."""

    def __init__(self, call: str) -> None:
        super().__init__(OneTimeSecret, [])
        self.call = call
        self.calls: list[str] = []
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    def interrupt(self, meanwhile: Callable[[OneTimeSecrets], Awaitable[object]]) -> None:
        """What somebody else does has no interruptions of its own."""
        self.calls.clear()
        self.meanwhile = lambda: meanwhile(secrets_of(InMemoryStore(OneTimeSecret, self.rows)))

    async def before(self, call: str) -> None:
        self.calls.append(call)
        if self.meanwhile is not None and f"{call} {self.calls.count(call)}" == self.call:
            await self.meanwhile()

    async def get(self, where: Where) -> OneTimeSecret | None:
        await self.before("get")
        return await super().get(where)

    async def create(self, values: Mapping[str, Any]) -> OneTimeSecret:
        await self.before("create")
        return await super().create(values)

    async def update_where(self, where: Where, values: Mapping[str, Any]) -> int:
        await self.before("update_where")
        return await super().update_where(where, values)


@pytest.mark.parametrize("call", ["get 1", "create 1"])
async def test_two_who_begin_to_count_at_the_same_moment_count_two(call: str) -> None:
    store = Interrupted(call)
    store.interrupt(lambda login: outcome(login.consume_code(ANN, "wrong")))

    assert await outcome(secrets_of(store).consume_code(ANN, "wrong")) == "InvalidOneTimeSecret"

    assert await tries_of(store) == [2]


async def test_two_who_begin_a_new_window_at_the_same_moment_count_two() -> None:
    store = Interrupted("update_where 2")
    login = secrets_of(store)
    with frozen_clock() as clock:
        for _ in range(5):
            await outcome(login.consume_code(ANN, "wrong"))
        clock.advance(seconds=3600)
        store.interrupt(lambda login: outcome(login.consume_code(ANN, "wrong")))

        assert await outcome(login.consume_code(ANN, "wrong")) == "InvalidOneTimeSecret"

    assert await tries_of(store) == [2]


async def test_a_database_that_refuses_every_row_is_no_race() -> None:
    class Full(InMemoryStore[OneTimeSecret]):
        async def create(self, values: Mapping[str, Any]) -> OneTimeSecret:
            raise OSError

    with pytest.raises(OSError):
        await secrets_of(Full(OneTimeSecret, [])).consume_code(ANN, "123456")


async def test_a_code_that_somebody_else_uses_between_the_comparison_and_the_use_is_refused() -> None:
    store = Interrupted("update_where 3")  # after both counters
    login = secrets_of(store)
    await login.issue_code(ANN, "123456")
    store.interrupt(lambda login: login.consume_code(ANN, "123456"))

    assert await outcome(login.consume_code(ANN, "123456")) == "InvalidOneTimeSecret"


async def test_a_token_whose_subject_is_deleted_meanwhile_is_refused() -> None:
    store = Interrupted("get 1")
    login = secrets_of(store)
    token = await login.issue_token(ANN)
    store.interrupt(lambda _: delete_all(store, ANN))

    assert await outcome(login.consume_token(token)) == "InvalidOneTimeSecret"


async def test_the_newest_of_two_codes_issued_at_the_same_moment_counts_and_takes_the_other_along() -> None:
    store = Interrupted("create 1")
    login = secrets_of(store)
    store.interrupt(lambda login: login.issue_code(ANN, "222222"))
    await login.issue_code(ANN, "111111")

    answers = [await outcome(login.consume_code(ANN, code)) for code in ("111111", "222222", "111111", "222222")]

    assert answers == ["InvalidOneTimeSecret", "None", "InvalidOneTimeSecret", "InvalidOneTimeSecret"]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


async def test_a_session_may_forget_its_rows_with_every_commit(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        login = secrets_of(SQLAlchemyStore(session, SQLAlchemyOneTimeSecret))
        token = await login.issue_token(ANN)
        assert [await login.take_try(token), await login.consume_token(token)] == [ANN, ANN]
        for _ in range(2):
            await login.issue_code(ANN, "123456")
        assert await outcome(login.consume_code(ANN, "wrong")) == "InvalidOneTimeSecret"
        assert await outcome(login.consume_code(ANN, "123456")) == "None"


async def test_what_a_secret_costs(engine: AsyncEngine) -> None:
    statements: list[str] = []
    event.listen(
        engine.sync_engine,
        "before_cursor_execute",
        lambda connection, cursor, statement, *rest: statements.append(statement.split(maxsplit=1)[0]),
    )

    async def cost(attempt: Awaitable[object]) -> list[str]:
        statements.clear()
        await outcome(attempt)
        return statements.copy()

    async with AsyncSession(engine, expire_on_commit=False) as session:
        login = secrets_of(SQLAlchemyStore(session, SQLAlchemyOneTimeSecret))
        token, ticket = await login.issue_token(ANN), await login.issue_token(ANN)
        assert await cost(login.issue_token(ANN)) == ["INSERT"]
        assert await cost(login.consume_token(token)) == ["UPDATE", "SELECT"]
        assert await cost(login.consume_token(token)) == ["UPDATE"]
        assert await cost(login.take_try(ticket)) == ["UPDATE", "SELECT", "UPDATE", "SELECT", "INSERT"]
        assert await cost(login.take_try(ticket)) == ["UPDATE", "SELECT", "UPDATE"]
        assert await cost(login.consume_token(ticket)) == ["UPDATE", "SELECT"]
        assert await cost(login.clear_tries(ANN)) == ["DELETE"]
        assert await cost(login.issue_code(ANN, "1")) == ["SELECT", "INSERT"]
        assert await cost(login.issue_code(ANN, "2")) == ["SELECT", "UPDATE", "INSERT"]
        counting = ["UPDATE", "SELECT", "INSERT"]
        assert await cost(login.consume_code(ANN, "1")) == [*counting, "SELECT", "UPDATE"]
        assert await cost(login.consume_code(ANN, "2")) == ["UPDATE", "SELECT", "UPDATE", "UPDATE", "DELETE"]
        assert await cost(login.end(ANN)) == ["UPDATE"]
        assert await cost(login.cleanup()) == ["DELETE"]


# rotation of the key


async def test_what_an_older_key_made_counts_until_it_is_dropped(store: Store[Any]) -> None:
    """Requirement 59: tickets and codes that wait outlive the rotation."""
    new = "a newer secret of the tests, longer than 32 bytes"
    before = OneTimeSecrets(store, key=SECRET, purpose=LOGIN)
    rotated = OneTimeSecrets(store, key=[new, SecretStr(SECRET)], purpose=LOGIN)
    after = OneTimeSecrets(store, key=new, purpose=LOGIN)
    first, second = [await before.issue_token(ANN) for _ in range(2)]
    await before.issue_code(ANN, "123456")

    with pytest.raises(InvalidOneTimeSecret):
        await after.consume_token(first)
    assert await rotated.take_try(first) == ANN
    assert await rotated.look_at_token(first) == ANN
    assert await rotated.consume_token(first) == ANN
    with pytest.raises(InvalidOneTimeSecret):
        await before.consume_token(first)
    await rotated.consume_code(ANN, "123456")
    assert await before.consume_token(second) == ANN

    assert await after.consume_token(await rotated.issue_token(ANN)) == ANN
    await rotated.issue_code(ANN, "123456")
    await after.consume_code(ANN, "123456")


async def test_a_success_clears_what_an_older_key_counted(store: Store[Any]) -> None:
    before = OneTimeSecrets(store, key=SECRET, purpose=LOGIN)
    rotated = OneTimeSecrets(store, key=["a newer secret", SECRET], purpose=LOGIN)
    for _ in range(LOGIN.max_tries_per_subject):
        with pytest.raises(InvalidOneTimeSecret):
            await before.consume_code(ANN, "wrong")

    await rotated.clear_tries(ANN)

    await before.issue_code(ANN, "123456")
    await before.consume_code(ANN, "123456")


@pytest.mark.parametrize("key", [["a key", ""], []])
def test_none_of_the_keys_may_be_empty(key: list[str]) -> None:
    with pytest.raises(ValueError, match=r"key|at least one"):
        OneTimeSecrets(InMemoryStore(OneTimeSecret, []), key=key, purpose=LOGIN)
