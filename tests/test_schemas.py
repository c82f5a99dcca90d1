import uuid
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ConfigDict, Field, ValidationError

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


def test_linked_accounts_can_be_shown_without_the_tokens_of_the_provider() -> None:
    """Requirement 61, weakness 20 (assign.oauth_tokens_in_me)."""

    class UserRead(schemas.BaseUser[int], schemas.LinkedOAuthAccountsMixin):
        pass

    account = {"id": 7, "oauth_name": "p", "access_token": "t", "account_id": "1", "account_email": "a@example.org"}
    user = UserRead.model_validate({"id": 1, "email": "a@example.org", "oauth_accounts": [account]})

    assert user.model_dump()["oauth_accounts"] == [
        {"id": "7", "oauth_name": "p", "account_id": "1", "account_email": "a@example.org", "expires_at": None}
    ]


@pytest.mark.parametrize("email", ["root@localhost", "ann@example.local", "ann@example.test", "ann", ""])
def test_a_stored_address_is_shown_whatever_it_looks_like(email: str) -> None:
    """E3: ``EmailStr`` on output made a 500 of it."""
    stored = SimpleNamespace(id=1, email=email, is_active=True, is_superuser=False, is_verified=True)

    assert schemas.BaseUser[int].model_validate(stored).email == email
    assert schemas.BaseUser[int](id=1, email=email).model_dump()["email"] == email
    with pytest.raises(ValidationError):
        schemas.BaseUserCreate(email=email, password="p")
    with pytest.raises(ValidationError):
        schemas.BaseUserUpdate(email=email)


def test_an_address_that_is_one_is_shown_as_before() -> None:
    assert schemas.BaseUser[int](id=1, email="Ann@EXAMPLE.org").email == "Ann@example.org"
    with pytest.raises(ValidationError):
        schemas.BaseUser[int].model_validate({"id": 1, "email": None})
    for mode in ("validation", "serialization"):
        document = schemas.BaseUser[int].model_json_schema(mode=mode)
        assert document["properties"]["email"] == {"format": "email", "title": "Email", "type": "string"}


class OpenUpdate(schemas.BaseUserUpdate):
    model_config = ConfigDict(extra="allow")


SERVER_FIELDS = ["id", "hashed_password", "current_password", "_sa_instance_state", "__class__", "__dict__"]


@pytest.mark.parametrize("name", [*SERVER_FIELDS, "metadata", "registry", "revision_id", "oauth_accounts"])
def test_a_field_of_the_server_is_never_written_though_everything_is_allowed(name: str) -> None:
    """D17, requirement 73: ``PATCH /me`` with a ``hashed_password`` replaced the password."""
    update = OpenUpdate.model_validate({name: "x", "own": 1, "password": None})

    assert update.create_update_dict() == update.create_update_dict_superuser() == {"password": None, "own": 1}


def test_a_field_of_the_server_is_not_written_either_where_a_schema_declares_it() -> None:
    class Careless(schemas.BaseUserUpdate, schemas.CurrentPasswordMixin):
        hashed_password: str | None = None
        metadata: str | None = None

    update = Careless(hashed_password="x", current_password="p", metadata="of a column")

    assert update.create_update_dict() == update.create_update_dict_superuser() == {"metadata": "of a column"}


@given(st.dictionaries(st.sampled_from([*SERVER_FIELDS, "is_superuser", "is_active", "nickname"]), st.booleans()))
def test_whatever_is_sent_a_user_gains_no_privilege(values: dict[str, bool]) -> None:
    assert OpenUpdate.model_validate(values).create_update_dict().keys() <= {"nickname"}


def test_what_users_may_set_on_themselves_can_be_listed() -> None:
    """Requirement 73: a list of what may pass, where upstream has one of what may not."""

    class Listing(schemas.BaseUserUpdate):
        self_writable_fields: ClassVar[Collection[str] | None] = ["nickname", "password"]

        model_config = ConfigDict(extra="allow")
        nickname: str | None = None
        role: str | None = None

    class Derived(Listing):
        nickname: str | None = "Ann"

    for schema in (Listing, Derived):
        update = schema.model_validate({"nickname": "x", "role": "admin", "email": "a@example.org", "own": 1})
        assert update.create_update_dict() == {"nickname": "x"}
        assert update.create_update_dict_superuser() == {
            "email": "a@example.org",
            "nickname": "x",
            "role": "admin",
            "own": 1,
        }


@pytest.mark.parametrize(
    ("base", "names", "refusal"),
    [
        (schemas.BaseUserUpdate, ["nick"], "must not list nick"),
        (schemas.BaseUserUpdate, ["email", "is_superuser"], "must not list is_superuser"),
        (schemas.BaseUserCreate, ["email"], "must list email and password"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused_when_the_class_is_made(base: Any, names: Any, refusal: str) -> None:
    with pytest.raises(ValueError, match=refusal):
        type(
            "Listing",
            (base,),
            {"self_writable_fields": names, "__annotations__": {"self_writable_fields": ClassVar[Any]}},
        )


def test_a_text_is_no_list_of_fields() -> None:
    with pytest.raises(TypeError, match="list"):

        class Listing(schemas.BaseUserUpdate):
            self_writable_fields: ClassVar[Collection[str] | None] = "email"


def test_a_registration_can_list_what_it_takes() -> None:
    class Listing(schemas.BaseUserCreate):
        self_writable_fields: ClassVar[Collection[str] | None] = ["email", "password"]

        role: str | None = None

    create = Listing(email="a@example.org", password="p", role="admin")

    assert create.create_update_dict() == {"email": "a@example.org", "password": "p"}


def test_the_aliases_of_pydantics_methods_are_there() -> None:
    update = schemas.model_validate(UserUpdate, {"nickname": "x"}, strict=True)

    assert schemas.model_dump(update, exclude_unset=True) == {"nickname": "x"}


def contains_unstorable(value: Any) -> bool:
    if isinstance(value, str):
        return any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value)
    return any(contains_unstorable(item) for item in (*value, *value.values()))


text = st.text(st.characters() | st.sampled_from("\0\ud800\udfff"))


@example("\ud800", [])
@example("", [{"key": "\0"}])
@example("", [{"\ud800": "text"}])
@given(text, st.lists(st.dictionaries(st.just("key") | text, text), max_size=3))
def test_text_that_no_database_stores_is_refused_wherever_it_stands(nickname: str, tags: list[dict[str, str]]) -> None:
    values = {"email": "a@example.org", "password": "p", "nickname": nickname, "tags": tags}
    if contains_unstorable(nickname) or any(map(contains_unstorable, tags)):
        with pytest.raises(ValidationError, match="surrogate"):
            UserCreate.model_validate(values)
    else:
        assert UserCreate.model_validate(values).nickname == nickname


def test_the_repr_of_what_was_sent_holds_no_password() -> None:
    class OwnUpdate(schemas.CurrentPasswordMixin, schemas.BaseUserUpdate):
        nickname: str | None = None

    sent = [
        schemas.BaseUserCreate(email="ann@example.org", password="a password"),
        OwnUpdate(nickname="Ann", password="a password", current_password="a password"),
    ]
    assert "ann@example.org" in repr(sent)
    assert "a password" not in repr(sent)


def test_a_stored_address_that_breaks_a_rule_of_the_schema_is_shown_all_the_same() -> None:
    class UserRead(schemas.BaseUser[int]):
        model_config = ConfigDict(str_max_length=10, str_to_lower=True)

    assert UserRead(id=1, email="Ann@EXAMPLE.org").email == "Ann@EXAMPLE.org"
    assert UserRead(id=1, email="A@Example.org"[:10]).email == "a@example."
    with pytest.raises(ValidationError):
        UserRead.model_validate({"id": 1, "email": 7})
