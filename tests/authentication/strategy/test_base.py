import uuid
from typing import Generic

from fastapi_users.authentication import Strategy
from fastapi_users.authentication.strategy.base import ProvenCredentials, get_token_owner, stored_forms, token_digest
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import UP
from fastapi_users.testing import InMemoryUserDatabase, User
from tests.test_manager import UserManager


async def test_a_strategy_may_implement_only_a_part() -> None:
    class Nobody(Strategy[User, uuid.UUID]):
        async def read_token(self, token: str | None, user_manager: BaseUserManager[User, uuid.UUID]) -> User | None:
            return None

    class ForAnyUser(Generic[UP], Strategy[UP, uuid.UUID]):  # noqa: PYI059 -- applications write it so
        pass

    nobody = Nobody()  # type: ignore[abstract]  # nothing is abstract at run time
    assert await nobody.read_token("token", UserManager(InMemoryUserDatabase(User))) is None
    assert isinstance(ForAnyUser[User](), ForAnyUser)  # type: ignore[abstract]  # the same


async def test_the_owner_of_a_token_is_looked_up_by_the_managers_rules() -> None:
    database = InMemoryUserDatabase[User, uuid.UUID](User)
    user = await database.create({"email": "ann@example.org", "hashed_password": "h"})
    manager = UserManager(database)

    assert await get_token_owner(str(user.id), manager) is user
    assert await get_token_owner(str(uuid.uuid4()), manager) is None
    assert await get_token_owner("nonsense", manager) is None


def test_a_digest_fits_the_column_and_is_no_token() -> None:
    """D22"""
    digest = token_digest("a token")

    assert len(digest) == 43
    assert digest == token_digest("a token") != token_digest("another token")
    assert digest.startswith("$")


def test_a_stolen_digest_is_not_looked_for_as_a_token() -> None:
    """D22"""
    digest = token_digest("a token")

    assert stored_forms("a token", hash_tokens=False) == ["a token"]
    assert stored_forms("a token", hash_tokens=True) == [digest, "a token"]
    assert stored_forms(digest, hash_tokens=True) == [token_digest(digest)]


def test_the_repr_of_credentials_holds_no_hash() -> None:
    users = InMemoryUserDatabase[User, uuid.UUID](User)
    credentials = ProvenCredentials(user_db=users, user_id=1, fields={"hashed_password": "the hash"})

    assert "the hash" not in repr(credentials)
