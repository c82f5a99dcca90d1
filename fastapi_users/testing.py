"""What tests of accounts need: users without a database, mails without a server, time without waiting."""

import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from http.cookies import SimpleCookie
from inspect import signature
from operator import eq, ge, gt, le, lt, ne
from typing import Any, ClassVar, Generic
from unittest import mock

from fastapi import FastAPI, Request, Response
from starlette.datastructures import URLPath

from fastapi_users._lazy import needs_extra
from fastapi_users.application import Application
from fastapi_users.authentication.login import LoginAttempt
from fastapi_users.authentication.strategy.base import Authentication, Strategy, current_authentication
from fastapi_users.authentication.strategy.db import AP, AccessTokenDatabase
from fastapi_users.db.base import BaseUserDatabase, run_callbacks
from fastapi_users.db.store import (
    Condition,
    Increment,
    M,
    Store,
    Where,
    at_least,
    at_most,
    greater_than,
    less_than,
    none_of,
    one_of,
    other_than,
)
from fastapi_users.exceptions import InvalidID, UserAlreadyExists, UserNotExists
from fastapi_users.fastapi_users import FastAPIUsers
from fastapi_users.mail.memory import MemoryMailer
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from fastapi_users.password import PasswordHelper


@dataclass
class OAuthAccount:
    oauth_name: str
    access_token: str = field(repr=False)
    account_id: str
    account_email: str
    expires_at: int | None = None
    refresh_token: str | None = field(default=None, repr=False)
    id: uuid.UUID = field(default_factory=uuid.uuid4)


@dataclass
class User:
    email: str
    hashed_password: str = field(repr=False)
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = False
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    oauth_accounts: list[OAuthAccount] = field(default_factory=list)


@dataclass
class AccessToken:
    token: str = field(repr=False)
    user_id: uuid.UUID
    created_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


@dataclass
class OneTimeSecret:
    __unique__: ClassVar = ("digest",)

    digest: str = field(repr=False)
    purpose: str
    subject: str
    expires_at: datetime
    tries: int = 0
    created_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    used_at: datetime | None = None


@dataclass
class DeniedToken:
    __unique__: ClassVar = ("digest",)

    digest: str = field(repr=False)
    value: str
    expires_at: datetime | None = None


@dataclass
class _Transaction:
    undo_log: list[Callable[[], object]] = field(default_factory=list)
    callbacks: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


_open_transaction: ContextVar[_Transaction | None] = ContextVar("_open_transaction", default=None)


def _on_rollback(undo: Callable[..., object], *args: Any) -> None:
    transaction = _open_transaction.get()
    if transaction is not None:
        transaction.undo_log.append(partial(undo, *args))


def _change(row: Any, attributes: Mapping[str, Any]) -> None:
    _on_rollback(vars(row).update, dict(vars(row)))
    for name, value in attributes.items():
        setattr(row, name, value)


class InMemoryUserDatabase(BaseUserDatabase[UP, ID], Generic[UP, ID]):
    """Users in a dictionary. An address that is taken is refused with ``UserAlreadyExists``.

    The models are called with keyword arguments, like the classes of an ORM: ``User`` and ``OAuthAccount`` of this
    module, or dataclasses of yours with more fields.
    """

    def __init__(self, user_model: type[UP], oauth_account_model: type[Any] | None = None) -> None:
        self.user_model = user_model
        self.oauth_account_model = oauth_account_model
        self.users: dict[ID, UP] = {}
        self._rows: dict[type[Any], list[Any]] = {}

    async def get(self, id: ID) -> UP | None:
        return self.users.get(id)

    async def get_by_email(self, email: str) -> UP | None:
        return next((user for user in self.users.values() if user.email.lower() == email.lower()), None)

    async def get_by_oauth_account(self, oauth: str, account_id: str) -> UP | None:
        for user in self.users.values():
            accounts: list[Any] = getattr(user, "oauth_accounts", [])
            if any((account.oauth_name, account.account_id) == (oauth, account_id) for account in accounts):
                return user
        return None

    async def create(self, create_dict: dict[str, Any]) -> UP:
        if await self.get_by_email(create_dict["email"]) is not None:
            raise UserAlreadyExists
        user = self.user_model(**create_dict)
        self.users[user.id] = user
        _on_rollback(self.users.pop, user.id)
        return user

    async def update(self, user: UP, update_dict: dict[str, Any]) -> UP:
        owner = await self.get_by_email(update_dict.get("email", user.email))
        if owner is not None and owner.id != user.id:
            raise UserAlreadyExists
        _change(user, update_dict)
        return user

    async def delete(self, user: UP) -> None:
        del self.users[user.id]
        _on_rollback(self.users.setdefault, user.id, user)

    def has_field(self, name: str) -> bool:
        return name in signature(self.user_model).parameters

    async def add_oauth_account(self, user: Any, create_dict: dict[str, Any]) -> Any:
        if self.oauth_account_model is None:
            raise NotImplementedError("OAuth accounts need a model: InMemoryUserDatabase(User, OAuthAccount).")
        account = self.oauth_account_model(**create_dict)
        user.oauth_accounts.append(account)
        _on_rollback(user.oauth_accounts.remove, account)
        return user

    async def update_oauth_account(self, user: Any, oauth_account: Any, update_dict: dict[str, Any]) -> Any:
        _change(oauth_account, update_dict)
        return user

    async def delete_oauth_account(self, user: Any, oauth_account: Any) -> Any:
        user.oauth_accounts.remove(oauth_account)
        _on_rollback(user.oauth_accounts.append, oauth_account)
        return user

    async def reserve_oauth_account(self, oauth: str, account_id: str) -> bool:
        return True  # everything here answers at once: no other task comes between look-up and link

    def store(self, model: type[M]) -> Store[M]:
        return InMemoryStore(model, self._rows.setdefault(model, []))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        if _open_transaction.get() is not None:
            yield
            return
        transaction = _Transaction()
        token = _open_transaction.set(transaction)
        try:
            yield
        except BaseException:
            for undo in reversed(transaction.undo_log):
                undo()
            raise
        finally:
            _open_transaction.reset(token)
        await run_callbacks(transaction.callbacks)

    async def after_commit(self, callback: Callable[[], Awaitable[None]]) -> None:
        transaction = _open_transaction.get()
        if transaction is None:
            await callback()
        else:
            transaction.callbacks.append(callback)


class InMemoryStore(Generic[M]):
    """See :class:`~fastapi_users.db.store.Store`. A dataclass may declare ``__unique__ = ("column", …)``."""

    def __init__(self, model: type[M], rows: list[M]) -> None:
        self.model = model
        self.rows = rows

    async def get(self, where: Where) -> M | None:
        return next((row for row in self.rows if _matches(row, where)), None)

    async def list(self, where: Where, *, order_by: str | None = None, limit: int | None = None) -> "list[M]":
        found = [row for row in self.rows if _matches(row, where)]
        if order_by is not None:
            found.sort(key=lambda row: getattr(row, order_by.removeprefix("-")), reverse=order_by.startswith("-"))
        return found[:limit]

    async def create(self, values: Mapping[str, Any]) -> M:
        row = self.model(**values)
        for name in getattr(self.model, "__unique__", ()):
            if await self.get({name: getattr(row, name)}) is not None:
                raise ValueError(f"There is a {self.model.__name__} with this {name} already.")
        self.rows.append(row)
        _on_rollback(self.rows.remove, row)
        return row

    async def update_where(self, where: Where, values: Mapping[str, Any]) -> int:
        found = await self.list(where)
        for name in set(getattr(self.model, "__unique__", ())) & values.keys():
            taken = await self.get({name: values[name]})
            if found and (len(found) > 1 or taken not in (None, found[0])):
                raise ValueError(f"There is a {self.model.__name__} with this {name} already.")
        for row in found:
            changes = {
                name: getattr(row, name) + value.by if isinstance(value, Increment) else value
                for name, value in values.items()
            }
            _change(row, changes)
        return len(found)

    async def delete_where(self, where: Where) -> int:
        found = await self.list(where)
        for row in found:
            self.rows.remove(row)
            _on_rollback(self.rows.append, row)
        return len(found)


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge, "!=": ne}


def _matches(row: Any, where: Where) -> bool:
    return all(_holds(getattr(row, name), value) for name, value in where.items())


def _holds(found: Any, wanted: Any) -> bool:
    if not isinstance(wanted, Condition):
        return bool(eq(found, wanted))
    if wanted.operator == "in":
        return found in wanted.operand
    if wanted.operator == "not in":
        return found is not None and found not in wanted.operand
    if found is None:
        return False  # as in SQL, null is neither less nor more than anything, nor different
    return _OPERATORS[wanted.operator](found, wanted.operand)


class InMemoryAccessTokenDatabase(AccessTokenDatabase[AP], Generic[AP]):
    """Access tokens in a dictionary, for ``DatabaseStrategy``."""

    def __init__(self, access_token_model: type[AP]) -> None:
        self.access_token_model = access_token_model
        self.access_tokens: dict[str, AP] = {}

    async def get_by_token(self, token: str, max_age: datetime | None = None) -> AP | None:
        access_token = self.access_tokens.get(token)
        if access_token is not None and max_age is not None and access_token.created_at < max_age:
            return None
        return access_token

    async def create(self, create_dict: dict[str, Any]) -> AP:
        access_token = self.access_token_model(**create_dict)
        if access_token.token in self.access_tokens:
            raise UserAlreadyExists
        self.access_tokens[access_token.token] = access_token
        return access_token

    async def update(self, access_token: AP, update_dict: dict[str, Any]) -> AP:
        for name, value in update_dict.items():
            setattr(access_token, name, value)
        return access_token

    async def delete(self, access_token: AP) -> None:
        del self.access_tokens[access_token.token]

    async def delete_by_token(self, token: str) -> int:
        return 0 if self.access_tokens.pop(token, None) is None else 1

    async def delete_by_user(self, user_id: Any, *, except_tokens: Sequence[str] = ()) -> int:
        own = [
            token
            for token, access_token in self.access_tokens.items()
            if access_token.user_id == user_id and token not in except_tokens
        ]
        for token in own:
            del self.access_tokens[token]
        return len(own)

    async def delete_created_before(self, moment: datetime) -> int:
        expired = [token for token, access_token in self.access_tokens.items() if access_token.created_at < moment]
        for token in expired:
            del self.access_tokens[token]
        return len(expired)


class Outbox(MemoryMailer):
    """Stands for the mail server: make it your manager's mailer, and read what a user got."""

    def token(self, to: str) -> str:
        """The first token (a JWT) in the text of the last mail to this address.

        :raises LookupError: there is no mail, or no token in it.
        """
        mail = self.last(to)
        found = re.search(r"eyJ[\w-]*\.[\w-]+\.[\w-]+", mail.text, re.ASCII)  # {" in base64
        if found is None:
            raise LookupError(f"There is no token in the mail {mail.subject!r} to {to}.")
        return found[0]


class Clock:
    """The time of the whole process, which stands still until you move it: made by :func:`frozen_clock`."""

    def __init__(self, traveller: Any) -> None:
        self._traveller = traveller

    @property
    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def advance(self, *, seconds: float) -> None:
        self._traveller.shift(timedelta(seconds=seconds))


@contextmanager
def frozen_clock(at: datetime | None = None) -> Iterator[Clock]:
    """Stop the time, at the given moment or now, so that lifetimes can be tested without waiting.

    The clock of the event loop goes on, so that timeouts still work.

    :raises ModuleNotFoundError: time-machine is not installed (extra ``testing``).
    """
    with needs_extra("testing"):
        import time_machine  # noqa: PLC0415 -- an optional package

    with time_machine.travel(at or datetime.now(timezone.utc), tick=False) as traveller:
        yield Clock(traveller)


def weak_password_helper() -> PasswordHelper:
    """Real argon2id hashes with the smallest settings there are: a hundred times faster, for tests only."""
    from pwdlib import PasswordHash  # noqa: PLC0415 -- a second library for hashes, needed here only
    from pwdlib.hashers.argon2 import Argon2Hasher  # noqa: PLC0415 -- the same

    return PasswordHelper(PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)))


class Accounts:
    """The accounts of an application, in its tests: made by :func:`accounts_under_test`.

    Users are made, and sessions begun, through the dependencies of the application, hence in its database, or in the one
    that ``app.dependency_overrides`` put there.
    """

    password = "correct horse battery staple"
    """Of every user that is made without another one."""

    def __init__(self, application: Application, outbox: Outbox) -> None:
        self.application = application
        self.outbox = outbox

    async def create_user(self, email: str | None = None, password: str | None = None, **fields: Any) -> Any:
        """A user with these columns. It is just there: no policy, no hooks, no mails, no events."""

        async def create(user_manager: Any, _strategies: list[Any]) -> Any:
            hashed_password = user_manager.password_helper.hash(password or self.password)
            columns = {"email": email or f"{uuid.uuid4().hex[:12]}@example.com", "hashed_password": hashed_password}
            return await user_manager.user_db.create({**columns, **fields})

        return await self.application.call_with_parts(create)

    async def login_as(self, client: Any, user: Any, *, backend: str | None = None) -> Any:
        """Give a client of httpx a session of this user, and the client back.

        There is no login: nobody asks for a second factor, no hook is called. What the session does is real, and what
        features give a client with it comes too, such as the cookie that refreshes it.

        :param backend: its name; the first one, if there is none.
        :raises LookupError: there is no such backend; or a cookie belongs to one route, whose address only the FastAPI
            of the application knows, and that was not named.
        """
        names = [each.name for each in self.application.backends]
        if backend is not None and backend not in names:
            raise LookupError(f"There is no backend {backend!r}: those of the application are {', '.join(names)}.")
        position = 0 if backend is None else names.index(backend)
        transport = self.application.backends[position].transport
        authentication = Authentication(methods=("pwd",), time=datetime.now(timezone.utc).replace(microsecond=0))

        async def begin_session(user_manager: Any, strategies: list[Any]) -> Response:
            stored = await user_manager.get(user.id)
            token = await strategies[position].write_token(stored)
            answer = await transport.get_login_response(token)
            if "set-cookie" not in answer.headers:
                client.headers["Authorization"] = f"Bearer {token}"
            attempt = LoginAttempt[Any, Any](
                user=stored,
                methods=authentication.methods,
                auth_time=authentication.time,
                backend=self.application.backends[position],
                request=_request_of(self.application.app),
            )
            await user_manager._seam_after_login(attempt, answer)
            return answer

        reset = current_authentication.set(authentication)
        try:
            answer = await self.application.call_with_parts(begin_session)
        finally:
            current_authentication.reset(reset)
        cookies = SimpleCookie()
        for header in answer.headers.getlist("set-cookie"):
            cookies.load(header)
        if any(cookie["path"] == _UNKNOWN_PATH for cookie in cookies.values()):
            self._require_app()  # at another path, it would stay beside the one that the route itself sets later
        for name, cookie in cookies.items():
            client.cookies.set(name, cookie.value, path=cookie["path"] or "/")
        return client

    @contextmanager
    def acting_as(self, user: Any) -> Iterator[None]:
        """Inside, every ``current_user(…)`` of the application gives this user, whatever the request brings.

        What they ask for counts: of a user who is no superuser, a route for superusers answers 403. A user who is
        stored comes as it is stored, in the session of the request; another one comes as it is. Sockets do not know of
        this: see ``login_as``.
        """
        app = self._require_app()
        overrides: dict[Any, Any] = {}
        for backend in self.application.backends:
            overrides[backend.transport.scheme] = lambda: "token"
            overrides[backend.get_strategy] = lambda: _ActingStrategy(user)
        with _overridden(app, overrides):
            yield

    @contextmanager
    def in_memory(
        self,
        manager_class: type[BaseUserManager[Any, Any]],
        user_model: type[Any] = User,
        oauth_account_model: type[Any] | None = OAuthAccount,
    ) -> "Iterator[InMemoryUserDatabase[Any, Any]]":
        """Inside, the application keeps its users in a dictionary, which is empty at first."""
        users = InMemoryUserDatabase[Any, Any](user_model, oauth_account_model)
        get_user_manager = self.application.fastapi_users.get_user_manager
        with _overridden(self._require_app(), {get_user_manager: lambda: manager_class(users)}):
            yield users

    def _require_app(self) -> FastAPI:
        if self.application.app is None:
            raise LookupError("Name the FastAPI of the application for this, and not only its FastAPIUsers.")
        return self.application.app


@contextmanager
def accounts_under_test(app: FastAPI | None, fastapi_users: FastAPIUsers[Any, Any]) -> Iterator[Accounts]:
    """Inside, passwords are hashed in no time, and what goes to a mailer is in the ``outbox``.

    It is so for every manager that is made inside, also where it gets its mailer later: one with a password helper of its
    own keeps that, and one without a mailer sends no mails.
    """
    outbox, helper, init = Outbox(), weak_password_helper(), BaseUserManager.__init__

    def init_for_tests(self: Any, user_db: Any, password_helper: Any = None) -> None:
        init(self, user_db, helper if password_helper is None else password_helper)
        if self.mailer is not None:
            self.mailer = outbox

    def setattr_for_tests(self: Any, name: str, value: Any) -> None:
        is_real_mailer = name == "mailer" and value is not None and not isinstance(value, MemoryMailer)
        object.__setattr__(self, name, outbox if is_real_mailer else value)

    with (
        mock.patch.object(BaseUserManager, "__init__", init_for_tests),
        mock.patch.object(BaseUserManager, "__setattr__", setattr_for_tests),
    ):
        yield Accounts(Application(fastapi_users, app), outbox)


_UNKNOWN_PATH = "/of-an-unknown-application"


class _UnknownApp:
    """Stands for an application that was not named, and says so where an address of it is asked for."""

    def url_path_for(self, _name: str, /, **_: Any) -> URLPath:
        return URLPath(_UNKNOWN_PATH)


def _request_of(app: FastAPI | None) -> Request:
    """Whoever gives a client a cookie may want to know the address of a route, and of the client."""
    return Request(
        {
            "type": "http",
            "method": "POST",
            "scheme": "https",
            "path": "/",
            "root_path": "" if app is None else app.root_path,
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 0),
            "app": app or _UnknownApp(),
        }
    )


class _ActingStrategy(Strategy[Any, Any]):
    """Knows one user, whose every token counts."""

    def __init__(self, user: Any) -> None:
        self._user = user

    async def read_token(self, token: str | None, user_manager: Any) -> Any:
        try:
            user_id = user_manager.parse_id(str(self._user.id))
        except NotImplementedError:  # a manager without a mixin for ids, which other strategies may do without
            user_id = self._user.id
        except InvalidID:
            return self._user
        try:
            return await user_manager.get(user_id)
        except UserNotExists:
            return self._user

    async def read_authentication(self, token: str) -> Authentication:
        return Authentication(methods=("pwd",), time=datetime.now(timezone.utc))

    async def write_token(self, user: Any) -> str:
        return "token"

    async def destroy_token(self, token: str, user: Any) -> None:
        """There is nothing to end."""


@contextmanager
def _overridden(app: FastAPI, overrides: dict[Any, Any]) -> Iterator[None]:
    before = [(each, dict(each.dependency_overrides)) for each in _with_mounted(app)]
    for each, _ in before:
        each.dependency_overrides.update(overrides)
    try:
        yield
    finally:
        for each, own in before:
            each.dependency_overrides.clear()
            each.dependency_overrides.update(own)


def _with_mounted(app: FastAPI) -> Iterator[FastAPI]:
    """And those below it, each of which has overrides of its own."""
    yield app
    for route in app.routes:
        mounted = getattr(route, "app", None)
        if isinstance(mounted, FastAPI):
            yield from _with_mounted(mounted)


class UserDatabaseSuite:
    """What every adapter does alike. Run it on yours: subclass it in a test module and give it a fixture ``user_db``.

    The adapter must have OAuth accounts and be empty. The tests are coroutines: run them with anyio's pytest plugin or
    another one.
    """

    duplicate_error: type[Exception] = Exception
    """What the database raises for an address that is taken."""

    @staticmethod
    def unknown_id() -> Any:
        return uuid.uuid4()

    account = {  # noqa: RUF012 -- copied where it is changed
        "oauth_name": "provider",
        "access_token": "access",
        "account_id": "1",
        "account_email": "ann@example.org",
        "expires_at": None,
        "refresh_token": None,
    }

    async def create(self, user_db: Any, email: str = "ann@example.org") -> Any:
        return await user_db.create({"email": email, "hashed_password": "hash"})

    async def test_a_created_user_has_the_defaults_and_is_found(self, user_db: Any) -> None:
        user = await self.create(user_db, "Ann@example.org")

        assert (user.email, user.hashed_password) == ("Ann@example.org", "hash")
        assert (user.is_active, user.is_superuser, user.is_verified) == (True, False, False)
        assert list(user.oauth_accounts) == []
        assert (await user_db.get(user.id)).id == user.id

    async def test_nobody_is_none(self, user_db: Any) -> None:
        assert await user_db.get(self.unknown_id()) is None
        assert await user_db.get_by_email("ann@example.org") is None
        assert await user_db.get_by_oauth_account("provider", "1") is None

    async def test_an_address_is_found_in_every_letter_case_and_never_as_a_pattern(self, user_db: Any) -> None:
        user = await self.create(user_db, "Ann_Lee@example.org")

        for email in ("Ann_Lee@example.org", "ann_lee@example.org", "ANN_LEE@EXAMPLE.ORG"):
            assert (await user_db.get_by_email(email)).id == user.id
        for email in ("AnnxLee@example.org", "%@example.org", "Ann.Lee@example.org", "ann_lee@example.or", ""):
            assert await user_db.get_by_email(email) is None

    async def test_letter_case_beyond_ascii_is_folded_and_accents_are_not(self, user_db: Any) -> None:
        user = await self.create(user_db, "J\u00fcrgen@example.org")

        assert (await user_db.get_by_email("j\u00dcrgen@example.org")).id == user.id
        assert await user_db.get_by_email("jurgen@example.org") is None

    async def test_an_address_is_unique_and_a_refused_write_leaves_the_adapter_usable(self, user_db: Any) -> None:
        await self.create(user_db, "ann@example.org")
        bob = await self.create(user_db, "bob@example.org")

        with _raises(self.duplicate_error):
            await self.create(user_db, "ann@example.org")
        with _raises(self.duplicate_error):
            await user_db.update(bob, {"email": "ann@example.org"})
        assert (await user_db.get_by_email("bob@example.org")).id == bob.id
        assert (await self.create(user_db, "cleo@example.org")).email == "cleo@example.org"

    async def test_an_update_changes_the_given_fields_and_returns_the_user(self, user_db: Any) -> None:
        user = await self.create(user_db)

        assert await user_db.update(user, {"is_verified": True}) is user
        assert await user_db.update(user, {}) is user
        found = await user_db.get(user.id)
        assert (found.is_verified, found.is_active, found.email) == (True, True, "ann@example.org")

    async def test_an_update_on_a_condition_writes_all_or_nothing(self, user_db: Any) -> None:
        user = await self.create(user_db)
        condition, change = {"hashed_password": "hash"}, {"hashed_password": "new", "is_verified": True}

        assert await user_db.update_where(user, {**condition, "email": "ann@example.com"}, change) is None
        assert (user.email, user.hashed_password, user.is_verified) == ("ann@example.org", "hash", False)
        assert await user_db.update_where(user, {**condition, "email": "ann@example.org"}, change) is user
        assert (user.hashed_password, user.is_verified) == ("new", True)
        assert await user_db.update_where(user, condition, {"hashed_password": "newer"}) is None
        assert await user_db.update_where(user, {"hashed_password": "new"}, {}) is user
        assert await user_db.update_where(user, condition, {}) is None
        found = await user_db.get(user.id)
        assert (found.hashed_password, found.is_verified) == ("new", True)

    async def test_a_condition_looks_at_letter_case_and_accents(self, user_db: Any) -> None:
        user = await self.create(user_db, "J\u00fcrgen@example.org")

        for email in ("j\u00fcrgen@example.org", "Jurgen@example.org", ""):
            assert await user_db.update_where(user, {"email": email}, {"is_verified": True}) is None
        assert await user_db.update_where(user, {"email": "J\u00fcrgen@example.org"}, {"is_verified": True}) is user

    async def test_of_many_updates_on_the_same_condition_one_is_made(self, user_db: Any) -> None:
        user = await self.create(user_db)

        expected = {"hashed_password": "hash"}
        made = [await user_db.update_where(user, expected, {"hashed_password": new}) for new in "abc"]

        assert [updated is not None for updated in made] == [True, False, False]
        assert (await user_db.get(user.id)).hashed_password == "a"

    async def test_a_deleted_user_is_gone_with_the_accounts_and_can_still_be_read(self, user_db: Any) -> None:
        user = await self.create(user_db)
        user = await user_db.add_oauth_account(user, dict(self.account))

        await user_db.delete(user)

        assert await user_db.get(user.id) is None
        assert await user_db.get_by_oauth_account("provider", "1") is None
        assert user.email == "ann@example.org"

    async def test_accounts_are_found_by_name_and_id_of_the_same_account(self, user_db: Any) -> None:
        user = await self.create(user_db)
        user = await user_db.add_oauth_account(user, dict(self.account))
        user = await user_db.add_oauth_account(user, {**self.account, "oauth_name": "other", "account_id": "2"})

        assert len(user.oauth_accounts) == 2
        assert (await user_db.get_by_oauth_account("provider", "1")).id == user.id
        assert (await user_db.get_by_oauth_account("other", "2")).id == user.id
        assert await user_db.get_by_oauth_account("provider", "2") is None

    async def test_one_account_is_changed_and_the_others_stay(self, user_db: Any) -> None:
        user = await self.create(user_db)
        user = await user_db.add_oauth_account(user, dict(self.account))
        user = await user_db.add_oauth_account(user, {**self.account, "oauth_name": "other"})
        account = next(account for account in user.oauth_accounts if account.oauth_name == "provider")

        user = await user_db.update_oauth_account(user, account, {"access_token": "new", "expires_at": 7})

        found = await user_db.get_by_oauth_account("provider", "1")
        assert sorted((account.oauth_name, account.access_token) for account in found.oauth_accounts) == [
            ("other", "access"),
            ("provider", "new"),
        ]

    async def test_an_account_is_found_by_its_exact_id(self, user_db: Any) -> None:
        user = await self.create(user_db)
        await user_db.add_oauth_account(user, {**self.account, "account_id": "aB"})

        for account_id in ("Ab", "ab", "aB ", "\u00e1B", "%", ""):
            assert await user_db.get_by_oauth_account("provider", account_id) is None
        assert (await user_db.get_by_oauth_account("provider", "aB")).id == user.id

    async def test_one_account_is_deleted_and_the_others_stay(self, user_db: Any) -> None:
        user = await self.create(user_db)
        user = await user_db.add_oauth_account(user, dict(self.account))
        user = await user_db.add_oauth_account(user, {**self.account, "oauth_name": "other"})
        account = next(account for account in user.oauth_accounts if account.oauth_name == "provider")

        user = await user_db.delete_oauth_account(user, account)

        assert [account.oauth_name for account in user.oauth_accounts] == ["other"]
        assert await user_db.get_by_oauth_account("provider", "1") is None
        found = await user_db.get_by_oauth_account("other", "1")
        assert [account.oauth_name for account in found.oauth_accounts] == ["other"]


class TransactionSuite(UserDatabaseSuite):
    """For adapters with ``transaction()``."""

    async def test_writes_of_a_transaction_count_together(self, user_db: Any) -> None:
        async with user_db.transaction():
            user = await self.create(user_db)
            await user_db.add_oauth_account(user, dict(self.account))

        assert (await user_db.get_by_oauth_account("provider", "1")).email == "ann@example.org"

    async def test_writes_of_a_transaction_that_fails_are_undone(self, user_db: Any) -> None:
        bob = await self.create(user_db, "bob@example.org")
        bob_id = bob.id

        with _raises(LookupError):
            async with user_db.transaction():
                await self.create(user_db)
                async with user_db.transaction():  # joins the outer one
                    await user_db.update(bob, {"is_verified": True})
                raise LookupError

        assert await user_db.get_by_email("ann@example.org") is None
        assert not (await user_db.get(bob_id)).is_verified

    async def test_an_update_on_a_condition_belongs_to_the_transaction(self, user_db: Any) -> None:
        user = await self.create(user_db)
        condition = {"hashed_password": "hash"}

        async with user_db.transaction():
            assert await user_db.update_where(user, {"hashed_password": "other"}, {"is_verified": True}) is None
            assert await user_db.update_where(user, condition, {"is_superuser": True}) is user
        with _raises(LookupError):
            async with user_db.transaction():
                assert await user_db.update_where(user, condition, {"hashed_password": "new"}) is user
                assert await user_db.update_where(user, condition, {"hashed_password": "newer"}) is None
                raise LookupError

        assert (user.hashed_password, user.is_verified, user.is_superuser) == ("hash", False, True)
        found = await user_db.get(user.id)
        assert (found.hashed_password, found.is_verified, found.is_superuser) == ("hash", False, True)

    async def test_accounts_in_a_transaction_that_fails_stay_as_they_were(self, user_db: Any) -> None:
        user = await self.create(user_db)
        user = await user_db.add_oauth_account(user, dict(self.account))

        with _raises(LookupError):
            async with user_db.transaction():
                assert await user_db.reserve_oauth_account("provider", "1")
                user = await user_db.delete_oauth_account(user, user.oauth_accounts[0])
                assert await user_db.get_by_oauth_account("provider", "1") is None
                raise LookupError

        found = await user_db.get_by_oauth_account("provider", "1")
        assert [account.account_id for account in found.oauth_accounts] == ["1"]

    async def test_what_waits_for_the_commit_runs_after_the_outermost_one_in_order(self, user_db: Any) -> None:
        seen: list[str] = []

        async def write(name: str) -> None:
            async with user_db.transaction():  # of its own
                await self.create(user_db, f"{name}@example.org")
            seen.append(name)

        await user_db.after_commit(partial(write, "now"))
        assert seen == ["now"]
        async with user_db.transaction():
            await user_db.after_commit(partial(write, "first"))
            async with user_db.transaction():
                await user_db.after_commit(partial(write, "second"))
            await self.create(user_db)
            assert seen == ["now"]

        assert seen == ["now", "first", "second"]
        for name in ("ann", *seen):
            assert await user_db.get_by_email(f"{name}@example.org") is not None

    async def test_what_waits_for_a_commit_that_never_comes_is_forgotten(self, user_db: Any) -> None:
        seen: list[str] = []

        async def note(name: str) -> None:
            seen.append(name)

        with _raises(LookupError):
            async with user_db.transaction():
                await user_db.after_commit(partial(note, "outer"))
                async with user_db.transaction():
                    await user_db.after_commit(partial(note, "inner"))
                raise LookupError
        async with user_db.transaction():
            await user_db.after_commit(partial(note, "later"))

        assert seen == ["later"]

    async def test_one_that_raises_after_the_commit_stops_no_other_and_undoes_nothing(self, user_db: Any) -> None:
        seen: list[str] = []

        async def fail(error: Exception) -> None:
            seen.append("failed")
            raise error

        with _raises(LookupError):
            async with user_db.transaction():
                await self.create(user_db)
                await user_db.after_commit(partial(fail, LookupError()))
                await user_db.after_commit(partial(fail, ValueError()))

        assert seen == ["failed", "failed"]
        assert await user_db.get_by_email("ann@example.org") is not None


class StoreSuite:
    """For the stores of adapters: give it a fixture ``store`` of a model with ``id``, ``name`` (unique), ``number`` and
    ``moment`` (which may be null)."""

    duplicate_error: type[Exception] = Exception

    async def fill(self, store: Any) -> None:
        for name, number in (("a", 1), ("b", 2), ("c", 3)):
            await store.create({"name": name, "number": number})

    async def names(self, store: Any, where: Where, **options: Any) -> list[str]:
        return [row.name for row in await store.list(where, **options)]

    async def test_a_row_is_found_by_its_columns(self, store: Any) -> None:
        await self.fill(store)

        assert (await store.get({"name": "b", "number": 2})).name == "b"
        assert await store.get({"name": "b", "number": 3}) is None
        assert (await store.get({"moment": None, "number": 1})).name == "a"

    async def test_conditions_select_rows(self, store: Any) -> None:
        await self.fill(store)
        expected = {
            less_than(2): ["a"],
            at_most(2): ["a", "b"],
            greater_than(2): ["c"],
            at_least(2): ["b", "c"],
            other_than(2): ["a", "c"],
        }

        for condition, names in expected.items():
            assert await self.names(store, {"number": condition}, order_by="name") == names
        assert await self.names(store, {"name": one_of(["a", "c", "x"])}, order_by="name") == ["a", "c"]
        assert await self.names(store, {"name": one_of([])}) == []
        assert await self.names(store, {"name": none_of(["a", "c", "x"])}) == ["b"]
        assert await self.names(store, {"name": none_of([])}, order_by="name") == ["a", "b", "c"]

    async def test_null_is_neither_less_nor_more(self, store: Any) -> None:
        moment = datetime(2030, 1, 1, tzinfo=timezone.utc)
        await store.create({"name": "never", "number": 0})
        await store.create({"name": "then", "number": 0, "moment": moment})

        assert await self.names(store, {"moment": less_than(moment + timedelta(days=1))}) == ["then"]
        assert await self.names(store, {"moment": other_than(None)}) == ["then"]
        assert await self.names(store, {"moment": other_than(moment + timedelta(days=1))}) == ["then"]
        assert await self.names(store, {"moment": none_of([moment + timedelta(days=1)])}) == ["then"]
        assert await self.names(store, {"moment": None}) == ["never"]

    async def test_lists_are_ordered_and_limited(self, store: Any) -> None:
        await self.fill(store)

        assert await self.names(store, {}, order_by="-number") == ["c", "b", "a"]
        assert await self.names(store, {}, order_by="number", limit=2) == ["a", "b"]

    async def test_a_duplicate_is_refused_and_leaves_the_store_usable(self, store: Any) -> None:
        await self.fill(store)

        with _raises(self.duplicate_error):
            await store.create({"name": "a", "number": 9})
        assert await self.names(store, {"name": "a", "number": 1}) == ["a"]
        assert (await store.create({"name": "d", "number": 4})).name == "d"

    async def test_an_update_tells_how_many_it_changed_and_is_seen_at_once(self, store: Any) -> None:
        await self.fill(store)
        row = await store.get({"name": "a"})

        assert await store.update_where({"number": at_most(2)}, {"number": 7}) == 2
        assert await store.update_where({"number": at_most(2)}, {"number": 8}) == 0
        assert (await store.get({"id": row.id})).number == 7
        assert await self.names(store, {"number": 7}, order_by="name") == ["a", "b"]

    async def test_a_refused_update_changes_nothing_and_leaves_the_store_usable(self, store: Any) -> None:
        await self.fill(store)

        with _raises(self.duplicate_error):
            await store.update_where({"name": "a"}, {"name": "b"})
        assert await self.names(store, {}, order_by="name") == ["a", "b", "c"]
        assert await store.update_where({"name": "a"}, {"name": "z"}) == 1

    async def test_what_is_taken_once_cannot_be_taken_again(self, store: Any) -> None:
        await self.fill(store)
        now = datetime(2030, 1, 1, tzinfo=timezone.utc)

        taken = [await store.update_where({"name": "a", "moment": None}, {"moment": now}) for _ in range(3)]

        assert taken == [1, 0, 0]

    async def test_the_database_counts(self, store: Any) -> None:
        await self.fill(store)

        assert await store.update_where({"name": "a"}, {"number": Increment()}) == 1
        assert await store.update_where({"name": "a"}, {"number": Increment(5)}) == 1
        assert (await store.get({"name": "a"})).number == 7

    async def test_rows_are_deleted_by_condition(self, store: Any) -> None:
        await self.fill(store)

        assert await store.delete_where({"number": at_least(2)}) == 2
        assert await store.delete_where({"number": at_least(2)}) == 0
        assert await self.names(store, {}) == ["a"]


class AccessTokenDatabaseSuite:
    """For adapters of access tokens: give it fixtures ``access_tokens`` and ``user_id``."""

    duplicate_error: type[Exception] = Exception

    async def test_a_token_is_found_while_it_is_young(self, access_tokens: Any, user_id: Any) -> None:
        row = await access_tokens.create({"token": "T", "user_id": user_id})
        now = datetime.now(timezone.utc)

        assert (row.token, row.user_id) == ("T", user_id)
        assert (await access_tokens.get_by_token("T")).user_id == user_id
        assert await access_tokens.get_by_token("U") is None
        assert await access_tokens.get_by_token("T", now - timedelta(hours=1)) is not None
        assert await access_tokens.get_by_token("T", now + timedelta(hours=1)) is None

    async def test_a_token_is_changed_and_deleted(self, access_tokens: Any, user_id: Any) -> None:
        row = await access_tokens.create({"token": "T", "user_id": user_id})
        yesterday = datetime.now(timezone.utc) - timedelta(days=1)

        assert await access_tokens.update(row, {"created_at": yesterday}) is row
        assert await access_tokens.get_by_token("T", yesterday + timedelta(hours=1)) is None
        await access_tokens.delete(row)
        assert await access_tokens.get_by_token("T") is None

    async def test_a_token_is_unique(self, access_tokens: Any, user_id: Any) -> None:
        await access_tokens.create({"token": "T", "user_id": user_id})

        with _raises(self.duplicate_error):
            await access_tokens.create({"token": "T", "user_id": user_id})
        assert (await access_tokens.get_by_token("T")).user_id == user_id

    async def test_tokens_are_deleted_by_key_and_by_age(self, access_tokens: Any, user_id: Any) -> None:
        now = datetime.now(timezone.utc)
        for token, age in (("new", 0), ("old", 10), ("older", 20)):
            await access_tokens.create({"token": token, "user_id": user_id, "created_at": now - timedelta(days=age)})

        assert await access_tokens.delete_by_token("older") == 1
        assert await access_tokens.delete_by_token("older") == 0
        assert await access_tokens.delete_created_before(now - timedelta(days=5)) == 1
        assert await access_tokens.get_by_token("old") is None
        assert await access_tokens.get_by_token("new") is not None

    async def test_all_tokens_of_a_user_are_deleted(self, access_tokens: Any, user_id: Any) -> None:
        for token in ("T", "U"):
            await access_tokens.create({"token": token, "user_id": user_id})

        assert await access_tokens.delete_by_user(user_id) == 2
        assert await access_tokens.delete_by_user(user_id) == 0
        assert await access_tokens.get_by_token("T") is None

    async def test_all_tokens_of_a_user_but_the_exempt_ones_are_deleted(self, access_tokens: Any, user_id: Any) -> None:
        for token in ("T", "U", "V", "W"):
            await access_tokens.create({"token": token, "user_id": user_id})

        assert await access_tokens.delete_by_user(user_id, except_tokens=["U", "W", "unknown"]) == 2
        assert await access_tokens.get_by_token("V") is None
        for token in ("U", "W"):
            assert await access_tokens.get_by_token(token) is not None


@contextmanager
def _raises(error: type[Exception]) -> Iterator[None]:
    try:
        yield
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")
