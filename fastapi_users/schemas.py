import re
from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, EmailStr, model_validator
from pydantic_core import PydanticCustomError

from fastapi_users import models

SCHEMA = TypeVar("SCHEMA", bound=BaseModel)

_PRIVILEGED_FIELDS = {"id", "is_superuser", "is_active", "is_verified", "oauth_accounts"}


def model_dump(model: BaseModel, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Alias of pydantic's method, for applications that still call it here (CONTRACT 18.1)."""
    return model.model_dump(*args, **kwargs)


def model_validate(schema: type[SCHEMA], obj: Any, *args: Any, **kwargs: Any) -> SCHEMA:
    """Alias of pydantic's method, for applications that still call it here (CONTRACT 18.1)."""
    return schema.model_validate(obj, *args, **kwargs)


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def is_storable(text: str) -> bool:
    return _UNSTORABLE.search(text) is None


def refuse_unstorable_text(data: Any) -> Any:
    """NUL, which PostgreSQL does not store, and halves of surrogate pairs, which UTF-8 cannot say (RFC 8259, 8.2)."""
    pending = [data]
    while pending:
        value = pending.pop()
        if isinstance(value, str) and not is_storable(value):
            raise PydanticCustomError("unstorable_text", "Text must not contain NUL or half a surrogate pair")
        if isinstance(value, Mapping):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return data


StorableStr = Annotated[str, AfterValidator(refuse_unstorable_text)]


class CreateUpdateDictModel(BaseModel):
    """Both methods keep explicit nulls, leave out what was not sent, and follow the order of the fields."""

    _refuse_unstorable_text = model_validator(mode="before")(refuse_unstorable_text)

    def create_update_dict(self) -> dict[str, Any]:
        """What a user may set on oneself: everything but the privileged fields."""
        return self.model_dump(exclude_unset=True, exclude=_PRIVILEGED_FIELDS)

    def create_update_dict_superuser(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True, exclude={"id"})


class BaseUser(CreateUpdateDictModel, Generic[models.ID]):
    """What the routes answer. Subclass it with your own fields: ``class UserRead(BaseUser[uuid.UUID])``."""

    id: models.ID
    email: EmailStr
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = False

    model_config = ConfigDict(from_attributes=True)


class BaseUserCreate(CreateUpdateDictModel):
    email: EmailStr
    password: str
    is_active: bool | None = True
    is_superuser: bool | None = False
    is_verified: bool | None = False


class BaseUserUpdate(CreateUpdateDictModel):
    # The order counts: a new e-mail resets is_verified, an is_verified sent with it comes later and wins.
    password: str | None = None
    email: EmailStr | None = None
    is_active: bool | None = None
    is_superuser: bool | None = None
    is_verified: bool | None = None


U = TypeVar("U", bound=BaseUser)  # type: ignore[type-arg]  # BaseUser[Any] would be another model
UC = TypeVar("UC", bound=BaseUserCreate)
UU = TypeVar("UU", bound=BaseUserUpdate)


class BaseOAuthAccount(BaseModel, Generic[models.ID]):
    id: models.ID
    oauth_name: str
    access_token: str
    expires_at: int | None = None
    refresh_token: str | None = None
    account_id: str
    account_email: str

    model_config = ConfigDict(from_attributes=True)


class LinkedOAuthAccount(BaseModel):
    """What a user is shown of an own account: not its tokens. The ``id`` is that of the row, as text."""

    id: Annotated[str, BeforeValidator(str)]
    oauth_name: str
    account_id: str
    account_email: str
    expires_at: int | None = None

    model_config = ConfigDict(from_attributes=True)


class BaseOAuthAccountMixin(BaseModel):
    """Adds the linked accounts to a read schema, their provider tokens included."""

    oauth_accounts: list[BaseOAuthAccount] = []  # type: ignore[type-arg]  # the same
