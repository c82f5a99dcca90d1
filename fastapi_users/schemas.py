import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
    validate_email,
)
from pydantic_core import PydanticCustomError

from fastapi_users import models

SCHEMA = TypeVar("SCHEMA", bound=BaseModel)

_PRIVILEGED_FIELDS = frozenset({"id", "is_superuser", "is_active", "is_verified", "oauth_accounts"})

# Made by the manager from the password, or only proving who asks: nobody writes these.
_SERVER_FIELDS = frozenset({"id", "hashed_password", "current_password"})

# What the objects of the adapters have beside their columns: the class's of SQLAlchemy, the version of a Beanie document,
# rows of another table. A schema that declares one of them means a column; a client that sends it does not.
_NEVER_EXTRA = frozenset({"metadata", "registry", "revision_id", "oauth_accounts"})


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
            pending.extend((*value.keys(), *value.values()))
        elif isinstance(value, list):
            pending.extend(value)
    return data


StorableStr = Annotated[str, AfterValidator(refuse_unstorable_text)]
"""As a parameter of a route write ``Annotated[StorableStr, Body()]``: older versions of FastAPI, such as 0.128, forget the
validator of a parameter whose default is ``Body(...)``."""


def _as_stored(value: Any, validate: ValidatorFunctionWrapHandler) -> str:
    try:
        return _shown(validate(value))
    except ValidationError:
        if not isinstance(value, str):
            raise
        return value


@lru_cache(maxsize=1024)  # the same user comes again, and this is a sixth of the instructions of GET /users/me
def _shown(email: str) -> str:
    try:
        return validate_email(email)[1]
    except PydanticCustomError:
        return email


StoredEmail = Annotated[str, WrapValidator(_as_stored), WithJsonSchema({"type": "string", "format": "email"})]
"""An address that is shown, not taken: what is stored need not be one that ``EmailStr`` takes, like ``ann@intranet``."""


class CreateUpdateDictModel(BaseModel):
    """Both methods keep explicit nulls, leave out what was not sent, and follow the order of the fields.

    Neither gives the fields of the server: ``id``, ``hashed_password``, ``current_password``, nor, with
    ``extra="allow"``, undeclared names that begin with an underscore or that the objects of the adapters have beside
    their columns. Of other undeclared names, the manager writes those that the adapter knows, unchecked.

    :cvar self_writable_fields: the only ones that users may set on themselves, on registration and in ``PATCH /me``;
        ``None`` means all but the privileged ones. ``email`` and ``password`` have to be listed like any other.
    """

    self_writable_fields: ClassVar[Collection[str] | None] = None

    _refuse_unstorable_text = model_validator(mode="before")(refuse_unstorable_text)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """
        :raises ValueError: ``self_writable_fields`` lists what is no field, or what nobody sets on oneself.
        :raises TypeError: it is a text.
        """
        super().__pydantic_init_subclass__(**kwargs)
        if isinstance(cls.self_writable_fields, str):
            raise TypeError("self_writable_fields is a list: a text would allow every part of it.")
        names = {*(cls.self_writable_fields or ())}
        refused = sorted((names - cls.model_fields.keys()) | (names & (_PRIVILEGED_FIELDS | _SERVER_FIELDS)))
        if refused:
            raise ValueError(f"self_writable_fields of {cls.__name__} must not list {', '.join(refused)}.")

    def create_update_dict(self) -> dict[str, Any]:
        """What a user may set on oneself: everything but the privileged fields, or what is listed."""
        fields = self._dump(_PRIVILEGED_FIELDS)
        allowed = self.self_writable_fields
        return fields if allowed is None else {name: value for name, value in fields.items() if name in allowed}

    def create_update_dict_superuser(self) -> dict[str, Any]:
        return self._dump(frozenset())

    def _dump(self, exclude: frozenset[str]) -> dict[str, Any]:
        extra = {name for name in self.model_extra or () if name.startswith("_") or name in _NEVER_EXTRA}
        return self.model_dump(exclude_unset=True, exclude={*_SERVER_FIELDS, *exclude, *extra})


class BaseUser(CreateUpdateDictModel, Generic[models.ID]):
    """What the routes answer. Subclass it with your own fields: ``class UserRead(BaseUser[uuid.UUID])``."""

    id: models.ID
    email: StoredEmail
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = False

    model_config = ConfigDict(from_attributes=True)


class BaseUserCreate(CreateUpdateDictModel):
    email: EmailStr
    password: Annotated[str, Field(repr=False)]
    is_active: bool | None = True
    is_superuser: bool | None = False
    is_verified: bool | None = False

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """:raises ValueError: also if ``self_writable_fields`` leaves out what a user cannot do without."""
        super().__pydantic_init_subclass__(**kwargs)
        if cls.self_writable_fields is not None and not {"email", "password"} <= {*cls.self_writable_fields}:
            raise ValueError(f"self_writable_fields of {cls.__name__} must list email and password.")


class BaseUserUpdate(CreateUpdateDictModel):
    # The order counts: a new e-mail resets is_verified, an is_verified sent with it comes later and wins.
    password: Annotated[str | None, Field(repr=False)] = None
    email: EmailStr | None = None
    is_active: bool | None = None
    is_superuser: bool | None = None
    is_verified: bool | None = None


class CurrentPasswordMixin(BaseModel):
    """Declares what ``PATCH /me`` takes as a proof, in an update schema. It is checked there, and never written."""

    current_password: Annotated[StorableStr | None, Field(repr=False)] = None


class AddedCurrentPasswordMixin(CurrentPasswordMixin):
    """Of the users router, where the application's schema declares none: the application does not expect the field."""


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


class LinkedOAuthAccountsMixin(BaseModel):
    """Adds the linked accounts to a read schema, as their user may see them."""

    oauth_accounts: list[LinkedOAuthAccount] = []


class BaseOAuthAccountMixin(BaseModel):
    """Adds the linked accounts to a read schema, and asks for the tokens of the providers: whoever reads the answer of
    ``/users/me``, a script in the page for example, can act at the provider in the name of the user.
    :class:`LinkedOAuthAccountsMixin` leaves them out.
    """

    oauth_accounts: list[BaseOAuthAccount] = []  # type: ignore[type-arg]  # the same
