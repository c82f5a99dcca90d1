import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from fastapi_users.db import BaseUserDatabase
from fastapi_users.testing import AccessToken, InMemoryUserDatabase, User


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("get", [1]),
        ("get_by_email", ["ann@example.org"]),
        ("get_by_oauth_account", ["provider", "1"]),
        ("create", [{}]),
        ("update", [None, {}]),
        ("update_where", [SimpleNamespace(id=1), {}, {}]),
        ("delete", [None]),
        ("add_oauth_account", [None, {}]),
        ("update_oauth_account", [None, None, {}]),
    ],
)
async def test_an_adapter_implements_what_its_application_uses(method: str, arguments: list[Any]) -> None:
    with pytest.raises(NotImplementedError):
        await getattr(BaseUserDatabase[User, uuid.UUID](), method)(*arguments)


async def test_what_an_adapter_need_not_have_has_a_fallback_or_a_clear_error() -> None:
    adapter = BaseUserDatabase[User, uuid.UUID]()

    async with adapter.transaction():
        assert await adapter.reserve_email("ann@example.org", None)
        assert not await adapter.reserve_oauth_account("provider", "1")
    assert adapter.has_field("whatever")
    with pytest.raises(NotImplementedError, match="BaseUserDatabase has no store"):
        adapter.store(User)


async def test_an_adapter_without_transactions_has_no_commit_to_wait_for() -> None:
    adapter, seen = BaseUserDatabase[User, uuid.UUID](), list[str]()

    async def note() -> None:
        seen.append("done")

    async with adapter.transaction():
        await adapter.after_commit(note)
        assert seen == ["done"]


async def test_a_row_and_its_user_are_read_one_after_the_other_by_an_adapter_that_cannot_do_better() -> None:
    user_db = InMemoryUserDatabase[User, uuid.UUID](User)
    user = await user_db.create({"email": "ann@example.org", "hashed_password": "h"})
    await user_db.store(AccessToken).create({"token": "t", "user_id": user.id})

    row = await user_db.get_with_user(AccessToken, {"token": "t"})

    assert row is not None
    assert row.user_id == user.id
    assert user_db.is_at_hand(user)
