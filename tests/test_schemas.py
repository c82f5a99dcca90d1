import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from fastapi_users import schemas


class UserCreate(schemas.BaseUserCreate):
    nickname: str | None = None
    tags: list[dict[str, str]] = Field(default_factory=list)


class UserUpdate(schemas.BaseUserUpdate):
    nickname: str | None = None


def test_only_what_was_sent_is_written() -> None:
    assert UserUpdate().create_update_dict() == {}
    assert UserUpdate(nickname=None).create_update_dict() == {"nickname": None}
    assert UserCreate(email="a@example.org", password="p").create_update_dict() == {
        "email": "a@example.org",
        "password": "p",
    }


def test_privileged_fields_are_for_superusers() -> None:
    update = UserUpdate(is_active=False, is_superuser=True, is_verified=True, nickname="x")

    assert update.create_update_dict() == {"nickname": "x"}
    assert update.create_update_dict_superuser() == {
        "is_active": False,
        "is_superuser": True,
        "is_verified": True,
        "nickname": "x",
    }


def test_an_id_is_never_written() -> None:
    user = schemas.BaseUser[int](id=1, email="a@example.org")

    assert user.create_update_dict_superuser() == {"email": "a@example.org"}


def test_the_verified_flag_comes_after_the_address() -> None:
    update = UserUpdate.model_validate({"is_verified": True, "email": "a@example.org"})

    assert list(update.create_update_dict_superuser()) == ["email", "is_verified"]


def test_a_read_schema_is_made_from_the_attributes_of_any_object() -> None:
    user = SimpleNamespace(
        id=uuid.UUID(int=1), email="a@example.org", is_active=True, is_superuser=False, is_verified=True, secret="s"
    )

    assert schemas.BaseUser[uuid.UUID].model_validate(user).model_dump() == {
        "id": uuid.UUID(int=1),
        "email": "a@example.org",
        "is_active": True,
        "is_superuser": False,
        "is_verified": True,
    }


def test_linked_accounts_can_be_mixed_into_a_read_schema() -> None:
    class UserRead(schemas.BaseUser[int], schemas.BaseOAuthAccountMixin):
        pass

    account = {"id": 7, "oauth_name": "p", "access_token": "t", "account_id": "1", "account_email": "a@example.org"}
    user = UserRead.model_validate({"id": 1, "email": "a@example.org", "oauth_accounts": [account]})

    assert user.oauth_accounts[0].model_dump() == {**account, "expires_at": None, "refresh_token": None}


def test_the_aliases_of_pydantics_methods_are_there() -> None:
    update = schemas.model_validate(UserUpdate, {"nickname": "x"}, strict=True)

    assert schemas.model_dump(update, exclude_unset=True) == {"nickname": "x"}


def contains_unstorable(value: Any) -> bool:
    if isinstance(value, str):
        return any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value)
    return any(contains_unstorable(item) for item in value.values())


text = st.text(st.characters() | st.sampled_from("\0\ud800\udfff"))


@example("\ud800", [])
@example("", [{"key": "\0"}])
@given(text, st.lists(st.dictionaries(st.just("key"), text), max_size=3))
def test_text_that_no_database_stores_is_refused_wherever_it_stands(nickname: str, tags: list[dict[str, str]]) -> None:
    values = {"email": "a@example.org", "password": "p", "nickname": nickname, "tags": tags}
    if contains_unstorable(nickname) or any(map(contains_unstorable, tags)):
        with pytest.raises(ValidationError, match="surrogate"):
            UserCreate.model_validate(values)
    else:
        assert UserCreate.model_validate(values).nickname == nickname
