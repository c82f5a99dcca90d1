"""Documents and adapters for Beanie 2: the names and fields of ``fastapi-users-db-beanie`` 5."""

import unicodedata
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar, cast

from pydantic import AfterValidator, BaseModel, Field

from fastapi_users._lazy import needs_extra
from fastapi_users.authentication.strategy.db import AccessTokenDatabase, AccessTokenProtocol
from fastapi_users.db.base import BaseUserDatabase
from fastapi_users.db.store import Condition, Increment, M, Missing, Store, Where, none_of
from fastapi_users.exceptions import InvalidID, OAuthAccountAlreadyLinked
from fastapi_users.models import UserProtocol

with needs_extra("beanie"):
    from beanie import Delete, Document, PydanticObjectId, Save, Update, UpdateResponse
    from beanie.exceptions import CollectionWasNotInitialized, DocumentNotFound
    from beanie.odm.actions import ActionDirections, ActionRegistry
    from beanie.odm.utils.encoder import Encoder
    from beanie.odm.utils.parsing import merge_models
    from beanie.odm.utils.state import save_state_after
    from bson.errors import InvalidId
    from pymongo import IndexModel
    from pymongo.collation import Collation


class BeanieBaseUser(BaseModel):
    """Mix it into a document of yours: ``class User(BeanieBaseUser, Document)``.

    Settings of yours derive from these, so that the index goes on refusing an address in another letter case.
    """

    email: str
    hashed_password: str
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = False

    class Settings:
        email_collation: ClassVar[Collation] = Collation("en", strength=2)
        indexes: ClassVar[list[Any]] = [
            IndexModel("email", name="case_insensitive_email_index", collation=email_collation, unique=True)
        ]


class BeanieBaseUserDocument(BeanieBaseUser, Document):
    """The same as a document. Beanie makes a collection for each document class, hence one for this, too."""


class BaseOAuthAccount(BaseModel):
    """Embedded in the user, whose document gets ``oauth_accounts: List[OAuthAccount] = []``."""

    id: PydanticObjectId = Field(default_factory=PydanticObjectId)
    oauth_name: str
    access_token: str
    account_id: str
    account_email: str
    expires_at: int | None = None
    refresh_token: str | None = None


class BeanieBaseAccessToken(BaseModel):
    """Mix it into a document of yours: ``class AccessToken(BeanieBaseAccessToken, Document)``."""

    token: str
    user_id: PydanticObjectId
    created_at: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))

    class Settings:
        indexes: ClassVar[list[Any]] = [IndexModel("token", unique=True)]


class BeanieBaseAccessTokenDocument(BeanieBaseAccessToken, Document):
    pass


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


# MongoDB returns times without their zone.
_Moment = Annotated[datetime, AfterValidator(_in_utc)]


class BeanieBaseOneTimeSecret(BaseModel):
    """Mix it into a document of yours, ``class OneTimeSecret(BeanieBaseOneTimeSecret, Document)``: what
    :mod:`fastapi_users.one_time` keeps.
    """

    digest: str
    purpose: str
    subject: str
    tries: int = 0
    created_at: _Moment = Field(default_factory=lambda: datetime.now(timezone.utc))
    expires_at: _Moment
    used_at: _Moment | None = None

    class Settings:
        indexes: ClassVar[list[Any]] = [
            IndexModel("digest", unique=True),
            IndexModel("subject"),
            IndexModel("expires_at"),
        ]


class BeanieBaseDeniedToken(BaseModel):
    """Mix it into a document of yours, ``class DeniedToken(BeanieBaseDeniedToken, Document)``: what
    :class:`~fastapi_users.authentication.strategy.StoreDenylist` keeps of JWTs that were ended.
    """

    digest: str
    value: str
    expires_at: _Moment | None = None

    class Settings:
        indexes: ClassVar[list[Any]] = [IndexModel("digest", unique=True), IndexModel("expires_at")]


if TYPE_CHECKING:
    # The mixins with a Document, as applications write them, are no subclasses of the two classes above.
    UP_BEANIE = TypeVar("UP_BEANIE", bound=UserProtocol[Any])
    AP_BEANIE = TypeVar("AP_BEANIE", bound=AccessTokenProtocol[Any])
else:
    UP_BEANIE = TypeVar("UP_BEANIE", bound=BeanieBaseUserDocument)
    AP_BEANIE = TypeVar("AP_BEANIE", bound=BeanieBaseAccessTokenDocument)


class ObjectIDIDMixin:
    def parse_id(self, value: Any) -> PydanticObjectId:
        """
        :raises InvalidID: anything but an ``ObjectId``, its 24 hexadecimal digits, or its 12 bytes.
        """
        try:
            parsed = PydanticObjectId(value)
        except (InvalidId, TypeError) as error:
            raise InvalidID from error
        # None would make a new id, and old versions of bson read over spaces.
        if value is None or (isinstance(value, str) and value.lower() != str(parsed)):
            raise InvalidID
        return parsed


class _NotAsExpected(Exception):
    """Nothing was written, since the document has other values by now."""


# Not an argument: `update` may be the application's, on its way to ours, and takes what it always took.
_expectation: ContextVar[tuple[Any, dict[str, Any]] | None] = ContextVar("_expectation", default=None)


class BeanieUserDatabase(BaseUserDatabase[UP_BEANIE, Any], Generic[UP_BEANIE]):
    """Users in a collection, ids of whatever type the document declares.

    An update writes what it changes and leaves the rest of the document to others. Every write counts at once, also
    inside ``transaction()``: MongoDB's own need a replica set, and would have to be repeated whenever two of them meet.
    What the database raises comes through as it is.

    :param user_model: a document that ``init_beanie`` has been given.
    :param oauth_account_model: needed by the OAuth routes, together with a field ``oauth_accounts`` of the user.
    """

    user_model: type[UP_BEANIE]
    oauth_account_model: type[BaseOAuthAccount] | None

    def __init__(self, user_model: type[UP_BEANIE], oauth_account_model: type[BaseOAuthAccount] | None = None) -> None:
        self.user_model = user_model
        self.oauth_account_model = oauth_account_model

    async def get(self, id: Any) -> UP_BEANIE | None:
        return cast("UP_BEANIE | None", await _documents(self.user_model).get(id))

    async def get_by_email(self, email: str) -> UP_BEANIE | None:
        """Of several documents that differ in letter case only, which old data may hold, it is always the same one:
        the exact spelling, else the one with the lowest id.
        """
        users = [user for user in await self._find_alike(email) if _folded(user.email) == _folded(email)]
        return min(users, key=lambda user: (user.email != email, user.id), default=None)

    async def get_by_oauth_account(self, oauth: str, account_id: str) -> UP_BEANIE | None:
        self._require_oauth_account_model()
        account = {"oauth_name": oauth, "account_id": account_id}
        users = _documents(self.user_model).find({"oauth_accounts": {"$elemMatch": account}})
        return cast("UP_BEANIE | None", await users.sort("_id").first_or_none())

    async def create(self, create_dict: dict[str, Any]) -> UP_BEANIE:
        return cast("UP_BEANIE", await _documents(self.user_model)(**create_dict).create())

    async def update(self, user: UP_BEANIE, update_dict: dict[str, Any]) -> UP_BEANIE:
        """An empty update writes nothing. Afterwards the object is what the database has, other changes included.

        :raises DocumentNotFound: the user was deleted meanwhile.
        """
        expectation = _expectation.get()
        await _update(user, update_dict, expectation[1] if expectation is not None and expectation[0] is user else None)
        return user

    async def update_where(
        self, user: UP_BEANIE, expected: dict[str, Any], update_dict: dict[str, Any]
    ) -> UP_BEANIE | None:
        """One step, which :meth:`update` makes: one of yours has to hand the user on to it."""
        if not update_dict:
            return await super().update_where(user, expected, update_dict)
        expectation = _expectation.set((user, expected))
        try:
            return await self.update(user, update_dict)
        except _NotAsExpected:
            return None
        finally:
            _expectation.reset(expectation)

    async def delete(self, user: UP_BEANIE) -> None:
        await cast("Document", user).delete()

    async def add_oauth_account(self, user: Any, create_dict: dict[str, Any]) -> Any:
        """Written first and looked at then, since MongoDB locks nothing: whoever was first stays.

        :raises OAuthAccountAlreadyLinked: another user has it. Of two at the same moment, both may be told so.
        """
        account = self._require_oauth_account_model()(**create_dict)
        await _save(user, set(), {"$push": {"oauth_accounts": _stored(account, user)}})
        same = {"oauth_name": account.oauth_name, "account_id": account.account_id}
        others = {"_id": {"$ne": user.id}, "oauth_accounts": {"$elemMatch": same}}
        is_taken = await _documents(self.user_model).find(others).count() > 0
        first = next(linked for linked in user.oauth_accounts if same.items() <= vars(linked).items())
        if is_taken or first.id != account.id:
            user = await self.delete_oauth_account(user, account)
        if is_taken:
            raise OAuthAccountAlreadyLinked
        return user

    async def update_oauth_account(self, user: Any, oauth_account: Any, update_dict: dict[str, Any]) -> Any:
        self._require_oauth_account_model()
        same = {f"account.{name}": getattr(oauth_account, name) for name in ("oauth_name", "account_id")}
        for name, value in update_dict.items():
            setattr(oauth_account, name, value)
        if update_dict:
            changes: dict[str, dict[str, Any]] = {}
            keys = _keys(type(oauth_account), update_dict)
            _add_changes(changes, _stored(oauth_account, user), keys, path="oauth_accounts.$[account].")
            await _save(user, set(), changes, array_filters=[same])
        return user

    async def delete_oauth_account(self, user: Any, oauth_account: Any) -> Any:
        self._require_oauth_account_model()
        (key,) = _keys(type(oauth_account), ["id"])
        same = {key: _stored(oauth_account, user)[key]}
        await _save(user, set(), {"$pull": {"oauth_accounts": same}})
        return user

    async def reserve_oauth_account(self, oauth: str, account_id: str) -> bool:
        return True  # see add_oauth_account

    def has_field(self, name: str) -> bool:
        model = _documents(self.user_model)
        return name in model.model_fields or model.model_config.get("extra") == "allow"

    async def reserve_email(self, email: str, owner_id: Any) -> bool:
        """The index compares more loosely than we do: for it, ``straße@`` is taken when ``strasse@`` is."""
        return all(user.id == owner_id for user in await self._find_alike(email))

    def store(self, model: type[M]) -> Store[M]:
        """:raises TypeError: it is no document."""
        _refuse_no_document(model)
        return BeanieStore(model)

    async def find_missing(self) -> Sequence[Missing]:
        return await BeanieStore(self.user_model).find_missing()

    async def _find_alike(self, email: str) -> list[UP_BEANIE]:
        documents = _documents(self.user_model)
        users = documents.find({"email": email}, collation=documents.Settings.email_collation)
        return cast("list[UP_BEANIE]", await users.to_list())

    def _require_oauth_account_model(self) -> type[BaseOAuthAccount]:
        if self.oauth_account_model is None:
            raise NotImplementedError("OAuth accounts need a model: BeanieUserDatabase(User, OAuthAccount).")
        return self.oauth_account_model


class BeanieAccessTokenDatabase(AccessTokenDatabase[AP_BEANIE], Generic[AP_BEANIE]):
    """Access tokens in a collection, for ``DatabaseStrategy``."""

    def __init__(self, access_token_model: type[AP_BEANIE]) -> None:
        self.access_token_model = access_token_model

    async def get_by_token(self, token: str, max_age: datetime | None = None) -> AP_BEANIE | None:
        where: dict[str, Any] = {"token": token}
        if max_age is not None:
            where["created_at"] = Condition(">=", max_age)
        return await self._store.get(where)

    async def create(self, create_dict: dict[str, Any]) -> AP_BEANIE:
        return await self._store.create(create_dict)

    async def update(self, access_token: AP_BEANIE, update_dict: dict[str, Any]) -> AP_BEANIE:
        """As MongoDB returns times, ``created_at`` is naive UTC afterwards, without microseconds.

        :raises DocumentNotFound: the token was deleted meanwhile.
        """
        await _update(access_token, update_dict)
        return access_token

    async def delete(self, access_token: AP_BEANIE) -> None:
        await cast("Document", access_token).delete()

    async def delete_by_token(self, token: str) -> int:
        """Without reading the document first, and tell whether there was one."""
        overrides_look_up = getattr(self.get_by_token, "__func__", None) is not BeanieAccessTokenDatabase.get_by_token
        if overrides_look_up or not self._deletes_alone:
            access_token = await self.get_by_token(token)
            if access_token is None:
                return 0
            await self.delete(access_token)
            return 1
        return await self._store.delete_where({"token": token})

    async def delete_by_user(self, user_id: Any, *, except_tokens: Sequence[str] = ()) -> int:
        """All tokens of a user but these, and tell how many those were."""
        if not self._deletes_alone:
            access_tokens = [
                access_token
                for access_token in await self._store.list({"user_id": user_id})
                if access_token.token not in except_tokens
            ]
            for access_token in access_tokens:  # in the way of the application
                await self.delete(access_token)
            return len(access_tokens)
        return await self._store.delete_where({"user_id": user_id, "token": none_of(except_tokens)})

    async def delete_created_before(self, moment: datetime) -> int:
        """Clear the collection of expired tokens, and tell how many those were."""
        return await self._store.delete_where({"created_at": Condition("<", moment)})

    async def find_missing(self) -> Sequence[Missing]:
        return await self._store.find_missing()

    @property
    def _deletes_alone(self) -> bool:
        """Whether the application has no part in it: no ``delete`` of its own, nor an action that Beanie runs."""
        model: Any = self.access_token_model
        is_ours = getattr(self.delete, "__func__", None) is BeanieAccessTokenDatabase.delete
        return (
            is_ours
            and model.delete is Document.delete
            and not any(ActionRegistry.get_action_list(model, Delete, direction) for direction in ActionDirections)
        )

    @property
    def _store(self) -> "BeanieStore[AP_BEANIE]":
        return BeanieStore(self.access_token_model)


# Comparisons never hold for a field without a value, as in SQL.
_OPERATORS = {"<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte", "in": "$in"}


class BeanieStore(Generic[M]):
    """See :class:`~fastapi_users.db.store.Store`. Names are those of the fields, values are stored as Beanie does."""

    def __init__(self, model: type[M]) -> None:
        self._model = _documents(model)

    async def find_missing(self) -> Sequence[Missing]:
        """The document, where Beanie was not told of it: collections need nothing else.

        :raises TypeError: the model is no document.
        """
        _refuse_no_document(self._model)
        try:
            self._model.get_settings()
        except CollectionWasNotInitialized:
            name = self._model.__name__
            line = f"await init_beanie(…, document_models=[…, {name}])"
            return [Missing(model=self._model, problem=f"Beanie was not told of {name}.", line=line)]
        return []

    async def get(self, where: Where) -> M | None:
        return cast("M | None", await self._model.find_one(self._filter(where)))

    async def list(self, where: Where, *, order_by: str | None = None, limit: int | None = None) -> list[M]:
        documents = self._model.find(self._filter(where), limit=limit)
        if order_by is not None:
            direction = -1 if order_by.startswith("-") else 1
            documents = documents.sort((self._key(order_by.removeprefix("-")), direction))
        return cast("list[M]", await documents.to_list())

    async def create(self, values: Mapping[str, Any]) -> M:
        return cast("M", await self._model(**values).create())

    async def update_where(self, where: Where, values: Mapping[str, Any]) -> int:
        changes: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            operator, operand = ("$inc", value.by) if isinstance(value, Increment) else ("$set", value)
            changes.setdefault(operator, {})[self._key(name)] = operand
        result = await self._model.find(self._filter(where)).update_many(changes)
        return cast("int", result.matched_count)

    async def delete_where(self, where: Where) -> int:
        result = await self._model.find(self._filter(where)).delete()
        return cast("int", result.deleted_count)

    def _filter(self, where: Where) -> dict[str, Any]:
        return {self._key(name): self._condition(value) for name, value in where.items()}

    def _condition(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, Condition):
            return {"$eq": value}  # named, so that a value that came from outside is never read as an operator
        if value.operator == "!=":
            return {"$nin": [value.operand, None]}
        if value.operator == "not in":
            return {"$nin": [*value.operand, None]}
        return {_OPERATORS[value.operator]: value.operand}

    def _key(self, name: str) -> str:
        """:raises KeyError: there is no such field. MongoDB would take it for one that is null everywhere."""
        return self._model.model_fields[name].alias or name


def _refuse_no_document(model: type[Any]) -> None:
    if not issubclass(model, Document):
        raise TypeError(
            f"{model.__name__} is no document of Beanie: write class {model.__name__}(BeanieBase…, Document), with the "
            "base class of what it keeps."
        )


def _documents(model: type[Any]) -> Any:
    """The class of documents that a type variable stands for: its methods are Beanie's."""
    return model


def _folded(email: str) -> str:
    # Not casefold(), which makes one address of straße@ and strasse@.
    return unicodedata.normalize("NFC", email).lower()


async def _update(document: Any, update_dict: Mapping[str, Any], expected: dict[str, Any] | None = None) -> None:
    previous = {name: getattr(document, name, None) for name in update_dict}
    for name, value in update_dict.items():
        setattr(document, name, value)
    if update_dict:
        try:
            await _save(document, _keys(type(document), update_dict), {}, expected=expected)
        except _NotAsExpected:
            for name, value in previous.items():
                setattr(document, name, value)
            raise


async def _save(
    document: Any,
    keys: set[str],
    changes: dict[str, dict[str, Any]],
    *,
    expected: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """What ``document.save()`` does, with its events, but writing these fields only, and those that the events set.

    :param changes: to be made besides.
    :param expected: what the document has to hold for it.
    :raises DocumentNotFound: it was deleted meanwhile. ``save()`` would bring it back.
    """
    before = _stored(document, document)
    await document.validate_self()
    await ActionRegistry.run_actions(document, Save, ActionDirections.BEFORE, exclude=[])
    if expected is not None:
        await ActionRegistry.run_actions(document, Update, ActionDirections.BEFORE, exclude=[])
    after = _stored(document, document)
    keys = keys | {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    _add_changes(changes, after, keys)
    if expected is not None:
        await _write_where(document, changes, expected)
    else:
        try:
            await document.update(changes, **options)
        except AttributeError as error:  # Beanie reads the answer, and does not look whether there is one
            if await type(document).find({"_id": document.id}).count():
                raise
            raise DocumentNotFound(f"{type(document).__name__} {document.id} is not in the database.") from error
    await ActionRegistry.run_actions(document, Save, ActionDirections.AFTER, exclude=[])


@save_state_after
async def _write_where(document: Any, changes: dict[str, dict[str, Any]], expected: dict[str, Any]) -> None:
    """What ``document.update()`` does, which takes no condition.

    :raises _NotAsExpected: and that means gone as well.
    """
    where: dict[str, Any] = {"_id": document.id}
    for name, value in expected.items():
        where |= {key: {"$eq": value} for key in _keys(type(document), [name])}
    if document.get_settings().use_revision:
        where["revision_id"] = document.revision_id
        changes.setdefault("$set", {})["revision_id"] = uuid.uuid4()
    found = await type(document).find_one(where).update(changes, response_type=UpdateResponse.NEW_DOCUMENT)
    if found is None:
        raise _NotAsExpected
    merge_models(document, found)
    await ActionRegistry.run_actions(document, Update, ActionDirections.AFTER, exclude=[])


def _stored(model: BaseModel, document: Any) -> dict[str, Any]:
    """The model as it stands in the database, by the settings of the document that it is or is embedded in."""
    settings = document.get_settings()
    encoder = Encoder(to_db=True, keep_nulls=settings.keep_nulls, custom_encoders=settings.bson_encoders)
    return cast("dict[str, Any]", encoder.encode(model))


def _add_changes(
    changes: dict[str, dict[str, Any]], stored: Mapping[str, Any], keys: Iterable[str], *, path: str = ""
) -> None:
    for key in keys:
        # What is not stored is None, in a document that keeps no nulls.
        operator, value = ("$set", stored[key]) if key in stored else ("$unset", "")
        changes.setdefault(operator, {})[path + key] = value


def _keys(model: type[BaseModel], names: Iterable[str]) -> set[str]:
    """What the fields are called in the database: ``_id`` for ``id``."""
    fields = model.model_fields
    return {(fields[name].alias if name in fields else None) or name for name in names}
