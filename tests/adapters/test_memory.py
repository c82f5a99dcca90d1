"""The suites on the adapters in memory, which the tests of applications use."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

import pytest

from fastapi_users.exceptions import UserAlreadyExists
from fastapi_users.testing import (
    AccessToken,
    AccessTokenDatabaseSuite,
    InMemoryAccessTokenDatabase,
    InMemoryUserDatabase,
    OAuthAccount,
    StoreSuite,
    TransactionSuite,
    User,
)


@dataclass
class Note:
    __unique__: ClassVar = ("name",)

    name: str
    number: int
    moment: datetime | None = None
    id: uuid.UUID = field(default_factory=uuid.uuid4)


@pytest.fixture
def user_db() -> Any:
    return InMemoryUserDatabase[User, uuid.UUID](User, OAuthAccount)


class TestUsers(TransactionSuite):
    duplicate_error = UserAlreadyExists


class TestStore(StoreSuite):
    duplicate_error = ValueError

    @pytest.fixture
    def store(self, user_db: Any) -> Any:
        return user_db.store(Note)


class TestAccessTokens(AccessTokenDatabaseSuite):
    duplicate_error = UserAlreadyExists

    @pytest.fixture
    def access_tokens(self) -> Any:
        return InMemoryAccessTokenDatabase(AccessToken)

    @pytest.fixture
    def user_id(self) -> uuid.UUID:
        return uuid.uuid4()


async def test_rows_of_a_failed_transaction_are_undone_too(user_db: Any) -> None:
    store = user_db.store(Note)
    await store.create({"name": "kept", "number": 1})
    user = await user_db.create({"email": "ann@example.org", "hashed_password": "h"})

    async def fail() -> None:
        async with user_db.transaction():
            await store.update_where({"name": "kept"}, {"number": 2})
            await store.create({"name": "new", "number": 3})
            await store.delete_where({"name": "kept"})
            await user_db.delete(user)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()

    assert [(note.name, note.number) for note in await store.list({})] == [("kept", 1)]
    assert await user_db.get(user.id) is user
