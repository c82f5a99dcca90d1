import hashlib
import hmac
import logging
import time
import uuid
import warnings
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import datetime, timezone
from functools import cache, lru_cache, partial
from inspect import isasyncgenfunction, isgeneratorfunction
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, NoReturn, TypeVar, cast
from weakref import WeakValueDictionary

import anyio
import jwt
from fastapi import Request, Response, params
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import SecretStr

from fastapi_users import events, exceptions, models, schemas
from fastapi_users.background import Work, is_unseen
from fastapi_users.db.base import BaseUserDatabase, is_adapter
from fastapi_users.insecure import endless, refuse_weak_secret, warn_of_weak_secret, warn_once
from fastapi_users.jwt import (
    SecretsType,
    SecretType,  # noqa: F401 -- applications import it from here, as from upstream's
    _get_secret_value,
    decode_jwt,
    generate_jwt,
    get_secret_values,
)
from fastapi_users.mail import Mailer, Message, accepted_locales
from fastapi_users.mail.delivery import send_later
from fastapi_users.one_time import OneTimeSecrets, Purpose, delete_all, delete_expired, end_all
from fastapi_users.password import (
    PasswordHelper,
    PasswordHelperProtocol,
    check_login,
    is_fingerprint,
    is_quick_to_mark,
    is_quick_to_verify,
    normalize_password,
    pad_failed_login,
    refuse_unfit_password,
    run_in_hashing_pool,
    spellings_to_verify,
)
from fastapi_users.password_policy import PasswordPolicy
from fastapi_users.types import DependencyCallable

if TYPE_CHECKING:
    from fastapi_users.authentication.login import CredentialCheck, LoginAttempt
    from fastapi_users.cipher import TokenCipher
    from fastapi_users.mail import MailTemplates

R = TypeVar("R")

mail_logger = logging.getLogger("fastapi_users.mail")

RESET_PASSWORD_TOKEN_AUDIENCE = "fastapi-users:reset"
VERIFY_USER_TOKEN_AUDIENCE = "fastapi-users:verify"
EMAIL_CHANGE_TOKEN_AUDIENCE = "fastapi-users:email-change"

_MASK = "**********"
# Of a dependency that was named, or called by hand.
_UNSOLVED = (params.Depends, AsyncGenerator, Coroutine, Generator)
_FLAGS = ("is_active", "is_superuser", "is_verified")
_NOT_FROM_A_PROFILE = frozenset({*_FLAGS, "id", "email", "hashed_password", "oauth_accounts"})

_session_ender: ContextVar[Callable[[Any], Awaitable[None]] | None] = ContextVar("session_ender", default=None)


@contextmanager
def ending_sessions(end_sessions: Callable[[Any], Awaitable[None]] | None) -> Iterator[None]:
    """Inside, whoever changes the credentials of a user ends the sessions of that user, once the change counts.

    With ``None``, of a route that knows no backends, only those that a feature of the manager keeps.

    The manager knows no strategies, and a route does not see what happens inside of the manager. It is no attribute of
    the manager, because tests and scripts share one among many requests.
    """
    token = _session_ender.set(end_sessions)
    try:
        yield
    finally:
        _session_ender.reset(token)


def is_ending_sessions() -> bool:
    """Whether whoever changes credentials now ends sessions by that: inside of :func:`ending_sessions`."""
    return _session_ender.get() is not None


async def _end_sessions(user: Any) -> None:
    end_sessions = _session_ender.get()
    if end_sessions is not None:
        await end_sessions(user)


class _Condition(NamedTuple):
    user_id: Any
    expected: dict[str, Any]
    writes: str
    refusal: type[exceptions.FastAPIUsersException]


# Of what `_update` is about to write. It is no argument, since applications override `_update` and are called with two;
# it is no property of the dictionary either, since they hand a copy on. An override that writes in its own way, past
# `super()`, writes without it.
_condition: ContextVar[_Condition | None] = ContextVar("_condition", default=None)


@contextmanager
def _only_if(
    user: models.UserProtocol[Any],
    expected: dict[str, Any],
    *,
    writes: str,
    refusal: type[exceptions.FastAPIUsersException],
) -> Iterator[None]:
    """Inside, this field of the user is written only if the others are still as expected, in one step."""
    token = _condition.set(_Condition(user.id, expected, writes, refusal))
    try:
        yield
    finally:
        _condition.reset(token)


async def _or_none(look_up: Callable[..., Awaitable[models.UP]], *args: Any) -> models.UP | None:
    try:
        return await look_up(*args)
    except exceptions.UserNotExists:
        return None


class _MissingSecret:
    """Says which attribute of which class is missing, when it is used. For ``hasattr`` it is not there."""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type[Any]) -> NoReturn:
        raise exceptions.MissingSetting(
            f"{owner.__name__} has no {self.name}: set it to 32 random bytes or more, made once by "
            "secrets.token_urlsafe(32), and keep them out of the code."
        )


class BaseUserManager(Generic[models.UP, models.ID]):
    """The use-cases of an account, and the hooks in which an application reacts to them.

    Subclass it together with an id mixin, set the two secrets, and inject it through your ``get_user_manager``
    dependency. Every use-case calls the other methods through the instance, so that an override of one is used by all.

    Common parameters: ``safe`` ignores the privileged fields (``id``, ``is_active``, ``is_superuser``, ``is_verified``,
    ``oauth_accounts``) of a schema; ``request`` is handed to the hooks, ``None`` where no request started the operation.
    Hooks are awaited before the answer is sent, and what they raise propagates, but for the work of routes whose answer
    must not tell who has an account: see ``on_background_error``.

    The methods named ``_seam_…`` are the places where features hook in, apart from the hooks of applications. The list
    is closed. An override awaits ``super()``, and may come in any order with the others.

    :cvar reset_password_token_secret: signs the mailed tokens, at least 32 random bytes. The same for
        ``verification_token_secret``; lifetimes are in seconds. Secrets may be lists: see ``SecretsType``.
    :cvar strict: a class with weak or missing secrets, or with tokens that never expire, is refused when it is made.
    :cvar subscribers: who is told of the events.
    :cvar trusted_proxies: networks whose ``X-Forwarded-For`` says where a request came from: without them the address
        in events and mails is that of the connection.
    :cvar mailer: sends the mails of the hooks that the application does not override; ``None`` sends none.
    :cvar mail_templates: ``None`` means those of the library, without links.
    :cvar notify_new_login: tell the user of every login by mail.
    :cvar password_policy: which passwords the default ``validate_password`` takes; ``None`` takes all.
    :cvar password_normalization: ``"NFKC"`` puts passwords into that form before anything else.
    :cvar one_time_secret_model: the table of single-use secrets, which features need that interrupt a login or send codes.
        With it, a mailed token counts once, and only as long as no newer one was asked for.
    :cvar mask_passwords_in_hooks: ``on_after_update`` gets asterisks in place of a new password, which by default it gets
        in clear text.
    :cvar email_change_requires_confirmation: users who change their address keep the old one until they confirm the new.
    :cvar oauth_token_cipher: keeps the tokens of providers encrypted; its ``decrypt`` reads them.
    :cvar sessions_end_with_credentials: a change of password or address, a reset and deactivation end the sessions of the
        user, as a deletion always does, but for the one that made the change (OWASP ASVS 5.0, 7.4.2 and 7.4.3).
    :cvar login_ticket_secret: signs the tickets of interrupted logins; ``reset_password_token_secret`` where it is ``None``.
    """

    # SecretsType; Any, since a mixin of the application may well declare upstream's SecretType.
    reset_password_token_secret: Any = _MissingSecret()
    reset_password_token_lifetime_seconds: int = 3600
    reset_password_token_audience: str = RESET_PASSWORD_TOKEN_AUDIENCE

    verification_token_secret: Any = _MissingSecret()
    verification_token_lifetime_seconds: int = 3600
    verification_token_audience: str = VERIFY_USER_TOKEN_AUDIENCE
    email_change_requires_confirmation: bool = False

    strict: bool = False

    subscribers: events.Subscribers | None = None
    trusted_proxies: Sequence[str] = ()

    password_policy: PasswordPolicy | None = None
    password_normalization: Literal["NFKC"] | None = None

    mailer: Mailer | None = None
    mail_templates: "MailTemplates | None" = None
    notify_new_login: bool = False

    one_time_secret_model: type[Any] | None = None
    login_ticket_secret: Any = None
    login_ticket_lifetime_seconds: int = 300

    oauth_token_cipher: "TokenCipher | None" = None

    mask_passwords_in_hooks: bool = False
    sessions_end_with_credentials: bool = True

    user_db: BaseUserDatabase[models.UP, models.ID]
    password_helper: PasswordHelperProtocol

    _required_settings: ClassVar[tuple[str, ...]] = ()
    """Of a feature: what an application has to set beside it."""

    _optional_secrets: ClassVar[tuple[str, ...]] = ("login_ticket_secret",)
    """Of a feature, too: settings that hold a secret, in place of which ``None`` has another one do."""

    def __init__(
        self,
        user_db: BaseUserDatabase[models.UP, models.ID],
        password_helper: PasswordHelperProtocol | None = None,
    ) -> None:
        if not is_adapter(user_db) and (
            isinstance(user_db, _UNSOLVED) or isasyncgenfunction(user_db) or isgeneratorfunction(user_db)
        ):
            raise TypeError(
                f"{type(self).__name__} got something that FastAPI has not solved for a user_db: take it as a parameter of "
                "a dependency, as in def get_user_manager(user_db=Depends(get_user_db)), and give that to FastAPIUsers."
            )
        self.user_db = user_db
        self.password_helper = PasswordHelper() if password_helper is None else password_helper

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _refuse_hidden_id_mixin(cls)
        _refuse_missing_settings(cls)
        _refuse_classes(cls)
        _check_secrets(cls)
        if isinstance(cls.trusted_proxies, Sequence):  # and not a property
            events.parse_networks(tuple(cls.trusted_proxies))
        if "user_db_model" in vars(cls):
            warnings.warn(
                f"{cls.__name__} is written for fastapi-users 9 or before (it sets user_db_model). It works, with UUIDs "
                f"as ids. Today one writes: class {cls.__name__}(UUIDIDMixin, BaseUserManager[User, uuid.UUID]), where "
                "User is the class of the database, and no user_db_model.",
                DeprecationWarning,
                stacklevel=2,
            )

    def parse_id(self, value: Any) -> models.ID:
        """The id that a token or a path names.

        :raises InvalidID: it is none. An id mixin, or an override of yours, knows how ids look here.
        """
        if hasattr(self, "user_db_model"):  # the spelling of 9.x, when every id was a UUID
            legacy_id: models.ID = UUIDIDMixin().parse_id(value)  # type: ignore[assignment]  # ID is UUID there
            return legacy_id
        raise NotImplementedError(
            f"{type(self).__name__} does not know how to read an id: list UUIDIDMixin or IntegerIDMixin before "
            "BaseUserManager in its bases, or override parse_id."
        )

    async def get(self, id: models.ID) -> models.UP:
        """:raises UserNotExists:"""
        return self._found(await self.user_db.get(id))

    async def get_by_email(self, user_email: str) -> models.UP:
        """:raises UserNotExists:"""
        return self._found(await self.user_db.get_by_email(user_email))

    async def get_by_oauth_account(self, oauth: str, account_id: str) -> models.UP:
        """:raises UserNotExists:"""
        return self._found(await self.user_db.get_by_oauth_account(oauth, account_id))

    async def create(
        self,
        user_create: schemas.UC,
        safe: bool = False,
        request: Request | None = None,
    ) -> models.UP:
        """
        :raises InvalidPasswordException: ``validate_password`` refuses it, or it is empty or too long for anybody.
        :raises UserAlreadyExists: the address is taken.
        """
        await self._validate(user_create.password, user_create)
        if await self.user_db.get_by_email(user_create.email) is not None:
            raise exceptions.UserAlreadyExists

        user_dict = user_create.create_update_dict() if safe else user_create.create_update_dict_superuser()
        password = user_dict.pop("password")
        user_dict = self._without_unknown_extras(user_create, _without_null_flags(user_dict))
        user_dict["hashed_password"] = await self._hash(self._fit(password))

        async def write() -> models.UP:
            user = await self.user_db.create(user_dict)
            await self._seam_event(
                events.Registered(user_id=user.id, request=await self._facts(request), email=user.email)
            )
            return user

        created_user = await self._write_email(user_dict.get("email"), write, user_dict)
        await self.on_after_register(created_user, request)
        return created_user

    async def oauth_callback(
        self,
        oauth_name: str,
        access_token: str,
        account_id: str,
        account_email: str,
        expires_at: int | None = None,
        refresh_token: str | None = None,
        request: Request | None = None,
        *,
        associate_by_email: bool = False,
        is_verified_by_default: bool = False,
        link_policy: Literal["default", "verified"] = "default",
        profile: Mapping[str, Any] | None = None,
    ) -> models.UP:
        """The user who owns this account at the provider, created on the first login.

        The account decides before the e-mail: whoever owns it is logged in, even when the provider reports another
        address by now.

        :param associate_by_email: link an unknown account to the local user with the same address. Whoever can make
            the provider report an address gets that user's account, so switch it on only for providers that verify.
        :param link_policy: what becomes of a local user who never verified the address, and may be somebody else who
            waits for its owner (account pre-hijacking). By default all that this user could log in with ends: the
            password, other accounts, one-time secrets. ``"verified"`` refuses to link.
        :param profile: what the provider tells of the user, for ``get_oauth_user_fields``.
        :raises UserAlreadyExists: the address belongs to a local user, who is not to be linked.
        """
        account = self._account_dict(oauth_name, access_token, account_id, account_email, expires_at, refresh_token)
        user = await _or_none(self.get_by_oauth_account, oauth_name, account_id)
        if user is not None:
            return await self._update_oauth_account(user, account)
        user = await _or_none(self.get_by_email, account_email)
        if user is not None:
            if _has_account(user, account):
                return user  # linked since the first look, by the same login in another tab
            if not associate_by_email:
                raise exceptions.UserAlreadyExists
            return await self._link_by_email(user, account, request, link_policy=link_policy)

        fields = {} if profile is None else await self.get_oauth_user_fields(oauth_name, profile)
        _refuse_privileged_fields(fields)
        user_dict = {
            **fields,
            "email": account_email,
            "hashed_password": await self._hash(self.password_helper.generate()),
            "is_verified": is_verified_by_default,
        }

        async def create_with_account() -> models.UP:
            created_user = await self.user_db.create(user_dict)
            # Not before: a row that is inserted beside one on which others wait is a deadlock on MariaDB.
            if await self._reserve_oauth_account(account) and await self._owner_of(account) is not None:
                raise exceptions.OAuthAccountAlreadyLinked
            user = await self._add_oauth_account(created_user, account)
            await self._seam_event(
                events.Registered(
                    user_id=user.id, request=await self._facts(request), email=user.email, oauth_name=oauth_name
                )
            )
            return user

        try:
            user = await self._write_email(account_email, create_with_account, user_dict)
        except Exception as error:
            # As with addresses: whether this was a lost race shows a second look.
            user = await self._owner_of(account)
            if user is None and isinstance(error, exceptions.OAuthAccountAlreadyLinked):
                raise exceptions.UserAlreadyExists from error
            if user is None or user.hashed_password == user_dict["hashed_password"]:
                raise
            return user  # the same first login, in another tab, was faster
        await self.on_after_register(user, request)
        return user

    async def oauth_associate_callback(
        self,
        user: models.UOAP,
        oauth_name: str,
        access_token: str,
        account_id: str,
        account_email: str,
        expires_at: int | None = None,
        refresh_token: str | None = None,
        request: Request | None = None,
    ) -> models.UOAP:
        """Link an account to a user. One that is this user's already gets the new tokens.

        :raises OAuthAccountAlreadyLinked: it is another user's.
        """
        account = self._account_dict(oauth_name, access_token, account_id, account_email, expires_at, refresh_token)
        user_id = user.id
        owner: Any = await self._link(cast("Any", user), account, request)
        if owner.id != user_id:
            raise exceptions.OAuthAccountAlreadyLinked
        await self.on_after_update(owner, {}, request)
        return cast("models.UOAP", owner)

    async def oauth_remove_account(
        self, user: models.UOAP, account_id: Any, *, request: Request | None = None
    ) -> models.UOAP:
        """Unlink an own account.

        :param account_id: the ``id`` of its row, or the text of that, as in ``user.oauth_accounts``.
        :raises OAuthAccountNotExists: the user has none with this id.
        :raises LastLoginMethod: it is the last one, and there is no password: see ``has_usable_password``.
        :raises NotImplementedError: the adapter has no ``delete_oauth_account``.
        """
        owner: Any = user
        async with self._transaction():
            # Of two removals at the same moment, each would leave the account that the other one takes.
            await self._reserve_oauth_account({"oauth_name": "", "account_id": str(user.id)})
            owner, account = await self._find_own_account(owner, str(account_id))
            is_last = len(owner.oauth_accounts) == 1
            may_go = account is not None and (not is_last or await self.has_usable_password(owner))
            if may_go:
                owner = await self._unlink(owner, account, request)
                await self._seam_credentials_changed(owner, {"oauth"}, request)
        if account is None:
            raise exceptions.OAuthAccountNotExists
        if not may_go:
            raise exceptions.LastLoginMethod
        await self.on_after_update(owner, {}, request)
        return cast("models.UOAP", owner)

    async def get_oauth_access_token(
        self, user: models.UOAP, oauth_client: Any, *, account_id: str | None = None, min_lifetime_seconds: float = 60
    ) -> str:
        """A token of the user's account at a provider, in clear text, which counts for a while yet.

        It is refreshed where it does not, once, however many ask: others wait, also in other processes (with
        SQLAlchemy, by a lock on the row; on SQLite, every writer waits).

        :param oauth_client: of httpx-oauth.
        :param account_id: of the account at the provider, where the user has several there.
        :raises OAuthAccountNotExists: the user has none there.
        :raises OAuthTokenNotAvailable: it has expired and cannot be refreshed.
        """
        account = next(
            (
                linked
                for linked in user.oauth_accounts
                if linked.oauth_name == oauth_client.name and account_id in (None, linked.account_id)
            ),
            None,
        )
        if account is None:
            raise exceptions.OAuthAccountNotExists
        if not _has_expired(account, min_lifetime_seconds):
            return self._decrypt(account.access_token)
        async with _alone_in_process(account):
            return await self._refresh_under_lock(user, account, oauth_client, min_lifetime_seconds)

    async def _refresh_under_lock(self, user: Any, account: Any, oauth_client: Any, min_lifetime_seconds: float) -> str:
        async with self._transaction():
            user_db: Any = self.user_db
            is_ours = is_adapter(user_db)
            lock = user_db.lock_oauth_account if is_ours else partial(BaseUserDatabase.lock_oauth_account, user_db)
            owner, account = await lock(user, account)
            if not _has_expired(account, min_lifetime_seconds):
                return self._decrypt(account.access_token)  # by somebody who was faster
            try:
                token = await self._refresh_token(account, oauth_client)
            except exceptions.OAuthTokenNotAvailable:
                if _has_expired(account, 0):
                    raise
                return self._decrypt(account.access_token)
            stored = self._account_dict(
                account.oauth_name,
                token["access_token"],
                account.account_id,
                account.account_email,
                token.get("expires_at"),
                # Not every provider gives a new one each time (RFC 6749, section 6).
                token.get("refresh_token") or self._decrypt(account.refresh_token),
            )
            await self.user_db.update_oauth_account(owner, account, stored)
            return cast("str", token["access_token"])

    async def _refresh_token(self, account: Any, oauth_client: Any) -> Mapping[str, Any]:
        if account.refresh_token is None:
            raise exceptions.OAuthTokenNotAvailable
        try:
            token: Mapping[str, Any] = await oauth_client.refresh_token(self._decrypt(account.refresh_token))
        except Exception as error:  # the client's or the network's
            raise exceptions.OAuthTokenNotAvailable from error
        if not isinstance(token.get("access_token"), str):  # some providers answer errors with 200
            raise exceptions.OAuthTokenNotAvailable
        return token

    def _decrypt(self, token: str) -> str:
        return token if self.oauth_token_cipher is None else self.oauth_token_cipher.decrypt(token)

    async def get_oauth_user_fields(self, oauth_name: str, profile: Mapping[str, Any]) -> dict[str, Any]:
        """Columns of a user who is created by the first login at a provider, from what that tells: none.

        Whatever is in the profile is the provider's word, or that of the person who typed it in there. Columns that
        the library knows, such as flags, are refused with ``ValueError``.
        """
        return {}

    async def has_usable_password(self, user: models.UP) -> bool:
        """Whether the user may be left without any account at a provider, having a password to log in with.

        Nothing in the tables tells a chosen password from the generated one of a user who came through a provider, so
        that by default it is never taken for one. Override it where you know better.
        """
        return False

    async def request_verify(self, user: models.UP, request: Request | None = None) -> None:
        """
        :raises UserInactive:
        :raises UserAlreadyVerified:
        """
        if not user.is_active:
            raise exceptions.UserInactive
        if user.is_verified:
            raise exceptions.UserAlreadyVerified
        lifetime = self.verification_token_lifetime_seconds
        token = generate_jwt(
            {
                "sub": str(user.id),
                "email": user.email,
                "aud": self.verification_token_audience,
                **await self._bind_to_row("verify", user, lifetime),
            },
            self.verification_token_secret,
            lifetime,
        )
        await self._seam_event(events.VerificationRequested(user_id=user.id, request=await self._facts(request)))
        await self.on_after_request_verify(user, token, request)

    async def verify(self, token: str, request: Request | None = None) -> models.UP:
        """The token names the address, so that it dies when the user changes that.

        It may also be one for a change of the address, which is made here: see ``email_change_requires_confirmation``.

        :raises InvalidVerifyToken:
        :raises UserAlreadyVerified:
        """
        refusal = exceptions.InvalidVerifyToken
        claims = _required_claims(
            token,
            self.verification_token_secret,
            [self.verification_token_audience, EMAIL_CHANGE_TOKEN_AUDIENCE],
            {"sub", "email"},
            refusal=refusal,
        )
        if claims.get("aud") == EMAIL_CHANGE_TOKEN_AUDIENCE:
            return await self._confirm_email_change(claims, request)
        user = await _or_none(self.get_by_email, claims["email"])
        if user is None or self._parse_id_or(claims["sub"], refusal) != user.id:
            raise refusal
        if user.is_verified:
            raise exceptions.UserAlreadyVerified

        async with self._unit_of_work():
            await self._require_row("verify", claims, refusal)
            with _only_if(user, {"email": user.email}, writes="is_verified", refusal=refusal):
                verified_user = await self._update(user, {"is_verified": True})
            await self._seam_event(
                events.Verified(user_id=user.id, request=await self._facts(request), email=claims["email"])
            )
        await self.on_after_verify(verified_user, request)
        return verified_user

    async def _confirm_email_change(self, claims: dict[str, Any], request: Request | None) -> models.UP:
        """:raises InvalidVerifyToken: also when the address was taken meanwhile."""
        refusal = exceptions.InvalidVerifyToken
        user = await _or_none(self.get, self._parse_id_or(claims["sub"], refusal))
        if (
            user is None
            or not user.is_active
            or not self._is_bound_to(user.email, claims, "email_fgpt")
            or not self._is_bound_to(user.hashed_password, claims, "hash_fgpt")
        ):
            raise refusal
        old_email, new_email = user.email, claims["email"]
        expected = {"email": old_email, "hashed_password": user.hashed_password}
        async with self._unit_of_work():
            await self._require_row("email-change", claims, refusal)
            try:
                with _only_if(user, expected, writes="email", refusal=refusal):
                    updated_user = await self._update(user, {"email": new_email, "is_verified": True})
            except exceptions.UserAlreadyExists as error:
                raise refusal from error
            await self._seam_credentials_changed(updated_user, {"email"}, request)
            facts = await self._facts(request)
            await self._seam_event(
                events.EmailChanged(user_id=user.id, request=facts, old_email=old_email, new_email=new_email)
            )
            await self._seam_event(events.Verified(user_id=user.id, request=facts, email=new_email))
        await self.on_after_email_changed(updated_user, old_email, request)
        await self.on_after_verify(updated_user, request)
        return updated_user

    async def forgot_password(self, user: models.UP, request: Request | None = None) -> None:
        """:raises UserInactive:"""
        if not user.is_active:
            raise exceptions.UserInactive
        lifetime = self.reset_password_token_lifetime_seconds
        token = generate_jwt(
            {
                "sub": str(user.id),
                "password_fgpt": await self._password_fingerprint(user.hashed_password),
                "email_fgpt": self._fingerprint(user.email, "email_fgpt"),
                "aud": self.reset_password_token_audience,
                **await self._bind_to_row("reset-password", user, lifetime),
            },
            self.reset_password_token_secret,
            lifetime,
        )
        await self._seam_event(events.PasswordResetRequested(user_id=user.id, request=await self._facts(request)))
        await self.on_after_forgot_password(user, token, request)

    async def reset_password(self, token: str, password: str, request: Request | None = None) -> models.UP:
        """The token carries fingerprints of the stored hash and of the address, so that it dies with any change of them.

        :raises InvalidResetPasswordToken:
        :raises UserNotExists:
        :raises UserInactive:
        :raises InvalidPasswordException: ``validate_password`` refuses it; the token stays usable.
        """
        refusal = exceptions.InvalidResetPasswordToken
        claims = _required_claims(
            token,
            self.reset_password_token_secret,
            [self.reset_password_token_audience],
            {"sub", "password_fgpt"},
            refusal=refusal,
        )
        user = await self.get(self._parse_id_or(claims["sub"], refusal))
        expected = {"email": user.email, "hashed_password": user.hashed_password}
        is_current, _ = await self._verify_and_update(expected["hashed_password"], claims["password_fgpt"])
        is_mailed_to_it = "email_fgpt" not in claims or self._is_bound_to(expected["email"], claims, "email_fgpt")
        if not is_current or not is_mailed_to_it:
            raise refusal
        if not user.is_active:
            raise exceptions.UserInactive

        async with self._unit_of_work():
            # Not used up here: a password that is refused may be followed by a better one.
            await self._require_row("reset-password", claims, refusal, consume=False)
            with _only_if(user, expected, writes="hashed_password", refusal=refusal):
                updated_user = await self._update(user, {"password": password})
            await self._seam_credentials_changed(updated_user, {"password"}, request)
            await self._seam_event(
                events.PasswordChanged(user_id=user.id, request=await self._facts(request), is_reset=True)
            )
        await self.on_after_reset_password(user, request)
        await self.on_after_password_changed(updated_user, request)
        return updated_user

    async def update(
        self,
        user_update: schemas.UU,
        user: models.UP,
        safe: bool = False,
        request: Request | None = None,
    ) -> models.UP:
        """Write the fields that were sent. A new address resets ``is_verified``.

        With ``email_change_requires_confirmation``, a safe update leaves the address as it is, and asks the new one.

        :raises UserAlreadyExists: the new address is taken.
        :raises InvalidPasswordException: ``validate_password`` refuses it.
        """
        update_dict = user_update.create_update_dict() if safe else user_update.create_update_dict_superuser()
        update_dict = self._without_unknown_extras(user_update, update_dict)
        old_email = user.email
        has_new_email = update_dict.get("email") not in (None, old_email)
        wanted_email: str | None = None
        if has_new_email and safe and self.email_change_requires_confirmation:
            await self._refuse_taken_email(update_dict["email"], user)
            wanted_email, has_new_email = update_dict.pop("email"), False
        has_new_password = update_dict.get("password") is not None
        flags = {
            name: value
            for name, value in _without_null_flags(update_dict).items()
            if name in _FLAGS and value != getattr(user, name)
        }
        credentials = {
            *(["email"] if has_new_email else []),
            *(["password"] if has_new_password else []),
            *(["is_active"] if flags.get("is_active") is False else []),
        }
        others = tuple(sorted(update_dict.keys() - {"email", "password"}))
        is_masked = self.mask_passwords_in_hooks and has_new_password
        shown = {**update_dict, "password": _MASK} if is_masked else update_dict
        facts = await self._facts(request)
        token = ""
        async with self._unit_of_work():
            updated_user = await self._update(user, self._with_proof(user_update, update_dict))
            if credentials:
                await self._seam_credentials_changed(updated_user, credentials, request)
            if has_new_password:
                await self._seam_event(events.PasswordChanged(user_id=user.id, request=facts, is_reset=False))
            if has_new_email:
                new_email = update_dict["email"]
                await self._seam_event(
                    events.EmailChanged(user_id=user.id, request=facts, old_email=old_email, new_email=new_email)
                )
            if wanted_email is not None:
                token = await self._email_change_token(updated_user, wanted_email)
                await self._seam_event(
                    events.EmailChangeRequested(user_id=user.id, request=facts, new_email=wanted_email)
                )
            if others:
                await self._seam_event(events.Updated(user_id=user.id, request=facts, fields=others, flags=flags))
        await self.on_after_update(updated_user, shown, request)
        if has_new_password:
            await self.on_after_password_changed(updated_user, request)
        if has_new_email:
            await self.on_after_email_changed(updated_user, old_email, request)
        if wanted_email is not None:
            await self.on_after_request_email_change(updated_user, wanted_email, token, request)
        return updated_user

    def _with_proof(self, user_update: Any, update_dict: dict[str, Any]) -> dict[str, Any]:
        """With the ``current_password`` that the application's schema declares, for an ``_update`` of it that looks there."""
        name = "current_password"
        is_added = isinstance(user_update, schemas.AddedCurrentPasswordMixin)
        is_declared = name in getattr(type(user_update), "model_fields", ()) and not is_added
        if not is_declared or name not in user_update.model_fields_set or not _overrides(self, "_update"):
            return update_dict
        return {**update_dict, name: getattr(user_update, name)}

    async def _email_change_token(self, user: models.UP, new_email: str) -> str:
        """It dies with any other change of the address or the password, and with it, of several, all but the first."""
        lifetime = self.verification_token_lifetime_seconds
        return generate_jwt(
            {
                "sub": str(user.id),
                "email": new_email,
                "email_fgpt": self._fingerprint(user.email, "email_fgpt"),
                "hash_fgpt": self._fingerprint(user.hashed_password, "hash_fgpt"),
                "aud": EMAIL_CHANGE_TOKEN_AUDIENCE,
                **await self._bind_to_row("email-change", user, lifetime),
            },
            self.verification_token_secret,
            lifetime,
        )

    async def delete(self, user: models.UP, request: Request | None = None) -> None:
        user_id, email = user.id, user.email  # some sessions forget the user when the hook commits
        await self.on_before_delete(user, request)
        await self._restore(user)
        await _end_sessions(user)  # which may be commits of their own
        await self._restore(user)
        async with self._unit_of_work():
            await self._seam_before_delete(user, request)
            await self.user_db.delete(user)
            await self._seam_event(events.Deleted(user_id=user_id, request=await self._facts(request), email=email))
        await self.on_after_delete(user, request)

    async def authenticate(self, credentials: OAuth2PasswordRequestForm) -> models.UP | None:
        """The user with this address and password, or ``None``. Flags are not looked at.

        An unknown address costs a hash as well, and every failure takes as long as the slowest hash there may be, so
        that the time does not tell who has an account.
        """
        started = perf_counter()
        user = await _or_none(self.get_by_email, credentials.username)
        look_up_seconds = perf_counter() - started  # longer for an unknown address, where there is no index
        stored_hash = "" if user is None else user.hashed_password
        is_right, upgraded_hash = await self._check_login(user, credentials.password, look_up_seconds=look_up_seconds)
        if user is None or not is_right:
            return None
        if upgraded_hash is None:
            return user
        upgraded_user = await self._upgrade_hash(user, stored_hash, upgraded_hash)
        if upgraded_user is None:  # changed meanwhile: by its owner, or by a login that was faster to upgrade it
            upgraded_user = await _or_none(self.get, user.id)
            is_right, _ = await self._check_login(upgraded_user, credentials.password)
        return upgraded_user if is_right else None

    async def check_password(self, user: models.UP, password: str) -> bool:
        """Whether it is this user's, for a proof in the midst of a session.

        It asks ``authenticate`` with the e-mail address: override it where yours wants something else for a name.
        """
        found = await self.authenticate(OAuth2PasswordRequestForm(username=user.email, password=password))
        return found is not None and found.id == user.id

    async def validate_password(self, password: str, user: Any) -> None:
        """Called before a password is stored, with the schema of a new user or the stored user. Asks the
        ``password_policy``; without one it accepts everything. What nobody can want (nothing, more than 4096 bytes,
        NUL, half a surrogate pair) is refused before.

        ``user`` is ``Any`` so that an override may name its own schema: ``user: UserCreate | User``.

        :raises InvalidPasswordException: for you to raise; its reason reaches the client.
        """
        if isinstance(self.password_policy, PasswordPolicy):  # an application may have an attribute of this name
            await self.password_policy.check(_get_secret_value(password), user=user)

    async def on_after_register(self, user: models.UP, request: Request | None = None) -> None:
        """After ``create``, and after an OAuth login that made a new user."""

    async def on_after_update(
        self,
        user: models.UP,
        update_dict: dict[str, Any],
        request: Request | None = None,
    ) -> None:
        """After ``update``, with what was submitted (a new password in clear text, unless ``mask_passwords_in_hooks``:
        never log it), and, with an empty dictionary, after an OAuth account was associated."""

    async def on_after_request_verify(self, user: models.UP, token: str, request: Request | None = None) -> None:
        """Mails the token, if there is a ``mailer``; without one it is yours to mail."""
        await self._mail("verify", user, request, token=token, lifetime=self.verification_token_lifetime_seconds)

    async def on_after_verify(self, user: models.UP, request: Request | None = None) -> None: ...

    async def on_after_forgot_password(self, user: models.UP, token: str, request: Request | None = None) -> None:
        """Mails the token, if there is a ``mailer``; without one it is yours to mail."""
        lifetime = self.reset_password_token_lifetime_seconds
        await self._mail("reset_password", user, request, token=token, lifetime=lifetime)

    async def on_after_reset_password(self, user: models.UP, request: Request | None = None) -> None: ...

    async def on_after_password_changed(self, user: models.UP, request: Request | None = None) -> None:
        """After ``update`` and after ``reset_password``. Tells the user by mail (OWASP ASVS 5.0, 6.3.7)."""
        await self._mail("password_changed", user, request)

    async def on_after_email_changed(self, user: models.UP, old_email: str, request: Request | None = None) -> None:
        """After ``update``, or the confirmation of a new address. Tells the old one by mail, since the new one may be a
        thief's (OWASP ASVS 5.0, 6.3.7)."""
        await self._mail("email_changed", user, request, to=old_email, new_email=user.email)

    async def on_after_duplicate_registration(self, user: models.UP, request: Request | None = None) -> None:
        """Somebody registered with the address of this user, at a router with ``neutral=True``, which tells only the
        reader of its mails."""
        await self._mail("already_registered", user, request)

    async def on_after_failed_login(self, email: str, user: models.UP | None, request: Request | None = None) -> None:
        """A password was wrong, or the right one of an inactive user: at the login or in the midst of a session.

        After the answer, so that it tells nothing. ``user`` is the one with this address, if there is one.

        :param email: what was claimed to be the address, up to 320 characters. Some type their password there: never
            log it unless there is such a ``user``.
        """

    async def on_background_error(self, error: Exception, request: Request | None = None) -> None:
        """For your error tracker: what failed after the answer, of which the client heard nothing, or a mail.

        It is logged already, without the text, which may quote addresses, tokens and what else was in a statement. The
        database may be out of reach here. What this raises is logged as well.
        """

    async def on_after_request_email_change(
        self, user: models.UP, new_email: str, token: str, request: Request | None = None
    ) -> None:
        """After ``update``, with ``email_change_requires_confirmation``. Mails the token to the new address, and a
        warning to the old one, if there is a ``mailer``; without one both are yours to mail."""
        lifetime = self.verification_token_lifetime_seconds
        await self._mail("email_change", user, request, to=new_email, token=token, lifetime=lifetime)
        await self._mail("email_change_requested", user, request, new_email=new_email)

    async def on_after_login(
        self,
        user: models.UP,
        request: Request | None = None,
        response: Response | None = None,
    ) -> None:
        """``response`` is the very answer that will be sent: set headers and cookies on it."""
        if self.notify_new_login:
            await self._mail("new_login", user, request)

    async def on_after_reauthenticate(
        self,
        user: models.UP,
        request: Request | None = None,
        response: Response | None = None,
    ) -> None:
        """After the user of a running session proved again who it is. ``response`` as in ``on_after_login``."""

    async def on_before_delete(self, user: models.UP, request: Request | None = None) -> None:
        """What it raises prevents the deletion."""

    async def on_after_delete(self, user: models.UP, request: Request | None = None) -> None: ...

    async def get_locales(self, user: models.UP, request: Request | None = None) -> list[str]:
        """In which languages the user reads mails, the best one first: those of the browser, unless you know better."""
        return accepted_locales(None if request is None else request.headers.get("accept-language"))

    async def _seam_before_credentials(self, check: "CredentialCheck") -> None:
        """Before a secret is checked. May refuse, with an ``HTTPException``."""

    async def _seam_credentials_failed(self, check: "CredentialCheck", user: models.UP | None) -> None:
        """A secret was wrong. ``user`` is whom it was meant for, where that is known."""

    async def _seam_before_session(self, attempt: "LoginAttempt[models.UP, models.ID]") -> None:
        """In the door, identity proven. May refuse, with an ``HTTPException``, or raise ``LoginInterrupted``."""

    async def _seam_after_login(self, attempt: "LoginAttempt[models.UP, models.ID]", response: Response) -> None:
        """A session exists; the hook of the application is called after it."""
        # Who knows the password needs no new one.
        if self.one_time_secret_model is not None and "pwd" in attempt.methods:
            await self._restore(attempt.user)  # which the commit of the session may have expired
            await self._mailed_token_rows("reset-password", None).end(str(attempt.user.id))

    async def _seam_factors(self, user: models.UP) -> list[str]:
        """By which methods (RFC 8176) this user can prove who it is."""
        return ["pwd"]

    async def _seam_credentials_changed(self, user: models.UP, changed: set[str], request: Request | None) -> None:
        """``changed`` names what: ``password``, ``email``, a factor, or ``is_active`` when that was taken.

        In the transaction of the change. What was issued for the old credentials ends here.
        """
        if self.one_time_secret_model is not None:
            await end_all(self.user_db.store(self.one_time_secret_model), str(user.id))
        if self.sessions_end_with_credentials:
            # Strategies may write in sessions of their own, which would wait for this transaction.
            await self._after_commit(partial(_end_sessions, user))

    async def _seam_before_delete(self, user: models.UP, request: Request | None) -> None:
        """In the transaction of the deletion, once the application has not prevented it: delete what is the user's."""
        if self.one_time_secret_model is not None:
            await delete_all(self.user_db.store(self.one_time_secret_model), str(user.id))

    async def _seam_event(self, event: events.Event) -> None:
        """Every event, once, in the transaction of what happened."""
        if isinstance(self.subscribers, events.Subscribers):  # an application may have an attribute of this name
            await self.subscribers.tell_in_transaction(event, self)
            tell = partial(self.subscribers.tell_after_commit, event, self, recover=self._recover)
            await self._after_commit(tell)

    # `fastapi-users cleanup` calls every method of such a name, of features as well, and prints what it counts.
    async def _cleanup_one_time_secrets(self) -> int:
        model = self.one_time_secret_model
        return 0 if model is None else await delete_expired(self.user_db.store(model))

    async def _facts(self, request: Request | None) -> events.RequestFacts | None:
        """A coroutine, so that a manager that is all mocks answers something."""
        return events.get_request_facts(request, self.trusted_proxies)

    async def _mail(
        self,
        name: str,
        user: models.UP,
        request: Request | None,
        *,
        to: str | None = None,
        lifetime: int | None = None,
        **context: Any,
    ) -> None:
        """Nothing here breaks what the mail is about: of a template that fails is told, as of a server that does."""
        if self.mailer is None:
            return
        facts = await self._facts(request) or events.RequestFacts(address=None, agent=None)
        on_error = partial(self._tell_of_background_error, request=request)
        written: list[Message] = []

        async def write() -> None:
            templates = self.mail_templates if self.mail_templates is not None else _default_mail_templates()
            message = templates.render(
                name,
                to=to or user.email,
                locales=await self.get_locales(user, request),
                context={
                    "user": user,
                    "expires_in_minutes": lifetime // 60 if lifetime else None,
                    "address": facts.address,
                    "agent": facts.agent,
                    "time": datetime.now(timezone.utc),
                    **context,
                },
            )
            written.append(message)

        await Work(do=write, failure=f"A mail was not written: {name}", on_error=on_error, logger=mail_logger)()
        for message in written:
            await send_later(self.mailer, message, request=request, on_error=on_error)

    async def _after_commit(self, callback: Callable[[], Awaitable[None]]) -> None:
        if is_adapter(self.user_db):
            await self.user_db.after_commit(callback)
        else:
            await callback()

    async def _restore(self, user: models.UP) -> None:
        if is_adapter(self.user_db):
            await self.user_db.restore(user)

    async def _recover(self, error: Exception) -> None:
        if is_adapter(self.user_db):
            await self.user_db.recover(error)

    async def _tell_of_background_error(self, error: Exception, request: Request | None) -> None:
        try:
            await self._recover(error)
        finally:
            await self.on_background_error(error, request)

    def _unit_of_work(self) -> AbstractAsyncContextManager[None]:
        """A transaction, if anything but the change itself belongs to it: an application without features and
        subscribers writes as it did without us, also where it overrides what is called inside.
        """
        has_company = (
            self.subscribers is not None
            or self.one_time_secret_model is not None
            or _overrides(self, "_seam_credentials_changed", "_seam_before_delete", "_seam_event")
        )
        return self._transaction() if has_company else nullcontext()

    def _transaction(self) -> AbstractAsyncContextManager[None]:
        """Of the adapter; none where that is just an object with the eight methods."""
        user_db: Any = self.user_db
        return user_db.transaction() if is_adapter(user_db) else nullcontext()

    def _one_time_secrets(self, purpose: Purpose) -> OneTimeSecrets:
        """
        :raises NotImplementedError: there is no ``one_time_secret_model``, or the adapter has no ``store``.
        """
        if self.one_time_secret_model is None:
            raise NotImplementedError(
                f"{type(self).__name__} has no one_time_secret_model, which is needed for {purpose.name!r}: make a table "
                "from SQLAlchemyBaseOneTimeSecretTable or a document from BeanieBaseOneTimeSecret, and set it."
            )
        store = self.user_db.store(self.one_time_secret_model)
        return OneTimeSecrets(store, key=self._derived_keys("one-time-secrets"), purpose=purpose)

    def _mailed_token_rows(self, kind: str, lifetime_seconds: int | None) -> OneTimeSecrets:
        return self._one_time_secrets(Purpose(name=kind, lifetime_seconds=lifetime_seconds or 0))

    async def _bind_to_row(self, kind: str, user: models.UP, lifetime_seconds: int | None) -> dict[str, str]:
        """The claim by which a mailed token counts once, and older ones of its kind no more.

        There is none where the application has no table for it, or wants a token that never ends.
        """
        if self.one_time_secret_model is None or not lifetime_seconds:
            return {}
        rows = self._mailed_token_rows(kind, lifetime_seconds)
        async with self._transaction():
            await rows.end(str(user.id))
            return {"jti": await rows.issue_token(str(user.id))}

    async def _require_row(
        self,
        kind: str,
        claims: dict[str, Any],
        refusal: type[exceptions.FastAPIUsersException],
        *,
        consume: bool = True,
    ) -> None:
        """Tokens without the claim are of a time before the table, or of an override: their lifetime alone ends them."""
        if self.one_time_secret_model is None or "jti" not in claims:
            return
        rows = self._mailed_token_rows(kind, None)
        try:
            await (rows.consume_token if consume else rows.look_at_token)(str(claims["jti"]))
        except exceptions.InvalidOneTimeSecret as error:
            raise refusal from error

    def _is_bound_to(self, value: str, claims: dict[str, Any], claim: str) -> bool:
        """Whether it is the value that the token was made for."""
        return self._fits_fingerprint(str(claims.get(claim)), value, claim)

    async def _password_fingerprint(self, hashed_password: str) -> str:
        """For ``verify_and_update`` of the helper to recognise: a hash of the hash, or something cheaper of the helper's.

        That is only asked where ``verify_and_update`` comes from the same class: a subclass that overrides this one may
        know nothing of fingerprints.
        """
        helper: Any = self.password_helper
        if _has_own_fingerprint(type(helper)):
            is_quick = is_quick_to_mark(helper, hashed_password)
            # Otherwise in the pool, since a helper may hash what it has no fingerprint for.
            fingerprint: str = (
                helper.fingerprint(hashed_password)
                if is_quick
                else await self._in_hashing_pool(helper.fingerprint, hashed_password)
            )
            if (await self._verify_and_update(hashed_password, fingerprint))[0]:
                return fingerprint
        return await self._hash(hashed_password)

    def _fingerprint(self, value: str, purpose: str) -> str:
        """Whether a value is still the same can be told from it, but not the value."""
        return self._fingerprints(value, purpose)[0]

    def _fits_fingerprint(self, fingerprint: str, value: str, purpose: str) -> bool:
        """Also one from before the secret was rotated."""
        known = fingerprint.encode("utf-8", "surrogatepass")
        return any(hmac.compare_digest(each.encode(), known) for each in self._fingerprints(value, purpose))

    def _fingerprints(self, value: str, purpose: str) -> list[str]:
        keys = self._derived_keys(f"fingerprint:{purpose}")
        return [hmac.new(key.encode(), value.encode(), hashlib.sha256).hexdigest() for key in keys]

    def _derived_keys(self, label: str) -> list[str]:
        """One of each secret, the newest first: what is made takes that one, what is checked may take any."""
        secrets: list[Any] = get_secret_values(self._login_ticket_secret())  # PyJWT takes bytes as well
        keys = [secret if isinstance(secret, bytes) else secret.encode() for secret in secrets]
        return [hmac.new(key, label.encode(), hashlib.sha256).hexdigest() for key in keys]

    def _login_ticket_secret(self) -> SecretsType:
        secret: SecretsType | None = self.login_ticket_secret or getattr(self, "reset_password_token_secret", None)
        if secret is None:
            raise exceptions.MissingSetting(
                f"{type(self).__name__} has neither login_ticket_secret nor reset_password_token_secret: set the latter to "
                "32 random bytes or more, made once by secrets.token_urlsafe(32), and keep them out of the code."
            )
        return secret

    async def _update(self, user: models.UP, update_dict: dict[str, Any]) -> models.UP:
        validated: dict[str, Any] = {}
        for field, value in _without_null_flags(update_dict).items():
            if field == "email":
                if value is None:
                    continue
                validated["email"] = value
                if value != user.email:
                    await self._refuse_taken_email(value, user)
                    validated["is_verified"] = False
            elif field == "password":
                if value is not None:
                    await self._validate(value, user)
                    validated["hashed_password"] = await self._hash(self._fit(value))
            elif field != "current_password":  # a proof, which has been looked at
                validated[field] = value
        if validated.get("email", user.email) == user.email:
            return await self._write(user, validated)
        return await self._write_email(
            validated["email"], lambda: self._write(user, validated), validated, owner_id=user.id
        )

    async def _write(self, user: models.UP, fields: dict[str, Any]) -> models.UP:
        """If there is a condition, on it: its refusal is raised when the user has changed meanwhile."""
        user_db: Any = self.user_db
        condition = _condition.get()
        if (
            condition is None
            or condition.user_id != user.id
            or condition.writes not in fields
            or not is_adapter(user_db)
        ):
            return cast("models.UP", await user_db.update(user, fields))
        updated_user: models.UP | None = await user_db.update_where(user, condition.expected, fields)
        if updated_user is None:
            raise condition.refusal
        return updated_user

    async def _upgrade_hash(self, user: models.UP, stored_hash: str, upgraded_hash: str) -> models.UP | None:
        """The user with the new hash; ``None`` when another one has been stored meanwhile."""
        user_db: Any = self.user_db
        user_id, fields = user.id, {"hashed_password": upgraded_hash}
        if is_adapter(user_db):
            updated_user: Any = await user_db.update_where(user, {"hashed_password": stored_hash}, fields)
            if updated_user is None:
                return None
        else:
            updated_user = await user_db.update(user, fields)
        # Adapters may give another object back, which alone has the new hash; those of tests give back anything.
        return updated_user if getattr(updated_user, "id", None) == user_id else user

    async def _refuse_taken_email(self, email: str, user: models.UP) -> None:
        owner = await _or_none(self.get_by_email, email)
        if owner is not None and owner.id != user.id:
            raise exceptions.UserAlreadyExists

    async def _write_email(
        self,
        email: str | None,
        write: Callable[[], Awaitable[models.UP]],
        written: dict[str, Any],
        *,
        owner_id: models.ID | None = None,
    ) -> models.UP:
        """Write an address that was free a moment ago, all of it or nothing.

        :raises UserAlreadyExists: it is not free any more. What else the database refuses comes through.
        """
        if email is None:  # a schema of the application may do without
            async with self._transaction():
                return await write()
        user_db: Any = self.user_db
        is_ours = is_adapter(user_db)
        tries = 3 if is_ours and owner_id is None and user_db.may_commit() else 1
        while True:
            tries -= 1
            try:
                async with self._transaction():
                    if not is_ours or await user_db.reserve_email(email, owner_id):
                        return await write()
            except Exception as error:
                if tries > 0 and user_db.is_worth_another_try(error):
                    await self._recover(error)
                    continue
                # The adapter's exceptions are its own: whether this one means a lost race shows a second look.
                winner = await self.user_db.get_by_email(email)
                # A hash is salted: who has ours is the very user that was written before the error came.
                if winner is None or winner.id == owner_id or winner.hashed_password == written.get("hashed_password"):
                    raise
                raise exceptions.UserAlreadyExists from error
            raise exceptions.UserAlreadyExists

    async def _link_by_email(
        self, user: models.UP, account: dict[str, Any], request: Request | None, *, link_policy: str
    ) -> models.UP:
        password_hash: str | None = None
        if not user.is_verified:
            has_others = len(getattr(user, "oauth_accounts", ())) > 0
            if link_policy != "default" or (has_others and not self._can_unlink):
                raise exceptions.UserAlreadyExists
            password_hash = await self._hash(self.password_helper.generate())
        try:
            return await self._link(user, account, request, password_hash=password_hash)
        except exceptions.OAuthAccountAlreadyLinked as error:
            raise exceptions.UserAlreadyExists from error

    async def _link(
        self, user: models.UP, account: dict[str, Any], request: Request | None, *, password_hash: str | None = None
    ) -> models.UP:
        """Whose the account is afterwards: this user's, unless it was another one's before, who stays as it is.

        :param password_hash: takes the place of all that the user had to log in with.
        """
        user_id = user.id
        try:
            async with self._transaction():
                owner = await self._find_owner(user, account)
                if owner is None:
                    if password_hash is not None:
                        user = await self._end_ways_in(user, password_hash, request)
                    owner = await self._add_oauth_account(user, account)
                    await self._tell_of_account(events.OAuthAccountLinked, user_id, account, request)
                else:
                    owner = await self._update_oauth_account(owner, account) if owner.id == user_id else owner
        except Exception:
            # As with addresses: whether this was a lost race shows a second look.
            owner = await self._owner_of(account)
            if owner is None or owner.id == user_id:
                raise
        return owner

    async def _find_owner(self, user: models.UP, account: dict[str, Any]) -> models.UP | None:
        """In the transaction that will link the account, if it is nobody's."""
        is_reserved = await self._reserve_oauth_account(account)
        # An adapter that promises nothing is called as upstream calls it: an own account gets one row more.
        if not is_reserved and _has_account(user, account):
            return None
        return await self._owner_of(account)

    async def _end_ways_in(self, user: Any, password_hash: str, request: Request | None) -> models.UP:
        accounts = list(getattr(user, "oauth_accounts", ()))
        for account in accounts:
            user = await self._unlink(user, account, request)
        user = await self.user_db.update(user, {"hashed_password": password_hash})
        await self._seam_credentials_changed(user, {"password", *(["oauth"] if accounts else [])}, request)
        if not self.sessions_end_with_credentials:  # then that has not ended those of whoever waits inside
            await self._after_commit(partial(_end_sessions, user))
        return cast("models.UP", user)

    async def _unlink(self, user: Any, account: Any, request: Request | None) -> Any:
        account_dict = {"oauth_name": account.oauth_name, "account_id": account.account_id}
        user = await self.user_db.delete_oauth_account(user, account)
        await self._tell_of_account(events.OAuthAccountUnlinked, user.id, account_dict, request)
        return user

    async def _tell_of_account(
        self,
        kind: type[events.OAuthAccountLinked | events.OAuthAccountUnlinked],
        user_id: models.ID,
        account: dict[str, Any],
        request: Request | None,
    ) -> None:
        await self._seam_event(
            kind(
                user_id=user_id,
                request=await self._facts(request),
                oauth_name=account["oauth_name"],
                account_id=account["account_id"],
            )
        )

    async def _find_own_account(self, user: Any, account_id: str) -> tuple[Any, Any]:
        """The user as it is now, and the account, or ``None``."""
        known = next((account for account in user.oauth_accounts if str(account.id) == account_id), None)
        if known is None:
            return user, None
        owner: Any = await _or_none(self.get_by_oauth_account, known.oauth_name, known.account_id)
        is_anothers = owner is not None and owner.id != user.id  # linked to both, as upstream allowed
        stored = () if owner is None else [known] if is_anothers else owner.oauth_accounts
        current = user if owner is None or is_anothers else owner
        return current, next((account for account in stored if str(account.id) == account_id), None)

    async def _owner_of(self, account: dict[str, Any]) -> models.UP | None:
        return await _or_none(self.get_by_oauth_account, account["oauth_name"], account["account_id"])

    async def _reserve_oauth_account(self, account: dict[str, Any]) -> bool:
        user_db: Any = self.user_db
        return is_adapter(user_db) and await user_db.reserve_oauth_account(account["oauth_name"], account["account_id"])

    @property
    def _can_unlink(self) -> bool:
        method = getattr(self.user_db, "delete_oauth_account", None)
        return method is not None and getattr(method, "__func__", None) is not BaseUserDatabase.delete_oauth_account

    def _account_dict(
        self,
        oauth_name: str,
        access_token: str,
        account_id: str,
        account_email: str,
        expires_at: int | None,
        refresh_token: str | None,
    ) -> dict[str, Any]:
        tokens: dict[str, str | None] = {"access_token": access_token, "refresh_token": refresh_token}
        if self.oauth_token_cipher is not None:
            tokens = {name: token and self.oauth_token_cipher.encrypt(token) for name, token in tokens.items()}
        return {
            "oauth_name": oauth_name,
            "access_token": tokens["access_token"],
            "account_id": account_id,
            "account_email": account_email,
            "expires_at": expires_at,
            "refresh_token": tokens["refresh_token"],
        }

    # OAuth asks more of a user than UP says, so that these look past its type.

    async def _add_oauth_account(self, user: Any, account: dict[str, Any]) -> models.UP:
        return cast("models.UP", await self.user_db.add_oauth_account(user, account))

    async def _update_oauth_account(self, user: Any, account: dict[str, Any]) -> models.UP:
        for existing in user.oauth_accounts:
            if _is_same_account(existing, account):
                if account["refresh_token"] is None:  # many providers give one with the first login only
                    account = {**account, "refresh_token": existing.refresh_token}
                # Some adapters return nothing.
                user = await self.user_db.update_oauth_account(user, existing, account) or user
        return cast("models.UP", user)

    async def _validate(self, password: Any, user: Any) -> None:
        """:raises InvalidPasswordException:"""
        typed = self._fit(_get_secret_value(password))
        # A schema of the application may wrap it, and then its override knows that.
        validate: Callable[..., Awaitable[Any]] = self.validate_password
        verdict = await validate(typed if isinstance(password, str) else password, user)
        if verdict is False:  # which version 15 took for a yes
            warn_once(
                f"{type(self).__name__}.validate_password returned False, which refuses nothing: raise "
                "InvalidPasswordException(reason) instead."
            )

    def _fit(self, password: str) -> str:
        """In normal form, if there is one.

        :raises InvalidPasswordException: see ``refuse_unfit_password``.
        """
        refuse_unfit_password(password)
        normalized = normalize_password(password, self.password_normalization)
        refuse_unfit_password(normalized)  # there are characters that become eighteen
        return normalized

    async def _check_login(
        self, user: models.UP | None, password: str, *, look_up_seconds: float = 0
    ) -> tuple[bool, str | None]:
        """Whether it is this user's password, and the hash to store instead. Nobody's costs as much as a wrong one."""
        spellings = spellings_to_verify(password, self.password_normalization)
        if not spellings:
            return False, None
        stored_hash = None if user is None or is_fingerprint(user.hashed_password) else user.hashed_password
        check = await self._in_hashing_pool(check_login, self.password_helper, spellings, stored_hash)
        # A right password of somebody inactive, who will be refused, has to take as long as the other failures.
        if not check.is_right or not getattr(user, "is_active", True):
            await pad_failed_login(self.password_helper, look_up_seconds + check.seconds, tries=len(spellings))
        return check.is_right, check.upgraded_hash

    def _without_unknown_extras(self, schema: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """What a client sends beyond what its schema declares is written where there is a place for it, or not at all."""
        extra = getattr(schema, "model_extra", None)
        if not extra or not is_adapter(self.user_db):
            return fields
        has_field = self.user_db.has_field
        return {name: value for name, value in fields.items() if name not in extra or has_field(name)}

    async def _hash(self, password: str) -> str:
        """:raises InvalidPasswordException: the hasher does not take it, because it is too long for example."""
        try:
            return await self._in_hashing_pool(self.password_helper.hash, password)
        except ValueError as error:
            raise exceptions.InvalidPasswordException("The password cannot be hashed.") from error

    async def _verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        verify_and_update = self.password_helper.verify_and_update
        if is_quick_to_verify(self.password_helper, hashed_password):
            return verify_and_update(plain_password, hashed_password)
        return await self._in_hashing_pool(verify_and_update, plain_password, hashed_password)

    async def _in_hashing_pool(self, function: Callable[..., R], *args: Any) -> R:
        """With the connection given back: logins that wait here would keep all others from the database.

        :raises HashingQueueFull: unless the client would hear nothing of it.
        """
        if is_adapter(self.user_db):
            await self.user_db.release_connection()
        return await run_in_hashing_pool(function, *args, is_patient=is_unseen())

    def _parse_id_or(self, value: Any, refusal: type[exceptions.FastAPIUsersException]) -> models.ID:
        try:
            return self.parse_id(value)
        except exceptions.InvalidID as error:
            raise refusal from error

    @staticmethod
    def _found(user: models.UP | None) -> models.UP:
        if user is None:
            raise exceptions.UserNotExists
        return user


def _refuse_hidden_id_mixin(manager_class: type[BaseUserManager[Any, Any]]) -> None:
    """:raises TypeError: the base hides the method of an id mixin, so that no token could be read."""
    if manager_class.parse_id is not BaseUserManager.parse_id:
        return
    bases = manager_class.__mro__
    for base in bases[bases.index(BaseUserManager) :]:
        if base is not BaseUserManager and "parse_id" in vars(base):
            raise TypeError(
                f"{manager_class.__name__} lists {base.__name__} after BaseUserManager, which hides it: write "
                f"class {manager_class.__name__}({base.__name__}, BaseUserManager[…])."
            )


def _refuse_missing_settings(manager_class: type[BaseUserManager[Any, Any]]) -> None:
    """When the class is made, and not in the middle of somebody's login.

    :raises TypeError: a feature among the bases needs a setting.
    """
    if "_required_settings" in vars(manager_class):
        return  # the feature itself
    for base in manager_class.__mro__:
        for setting in vars(base).get("_required_settings", ()):
            if getattr(manager_class, setting, None) is None:
                raise TypeError(f"{manager_class.__name__} uses {base.__name__}: set {setting} in it.")


def _refuse_classes(manager_class: type[BaseUserManager[Any, Any]]) -> None:
    """:raises TypeError: a setting is a class of ours, which would do nothing there."""
    for name in ("mail_templates", "mailer", "oauth_token_cipher", "password_policy"):
        value = getattr(manager_class, name, None)
        if isinstance(value, type) and value.__module__.startswith("fastapi_users."):
            raise TypeError(f"{manager_class.__name__}.{name} is a class: write {name} = {value.__name__}(…).")


def _overrides(manager: Any, *names: str) -> bool:
    return any(getattr(type(manager), name) is not getattr(BaseUserManager, name) for name in names)


_LIFETIMES = ("reset_password_token_lifetime_seconds", "verification_token_lifetime_seconds")


def _check_secrets(manager_class: type[BaseUserManager[Any, Any]]) -> None:
    """What stands in the class: secrets and lifetimes that are properties, or set on the instance, are not seen.

    :raises TypeError: the class is strict, and has no secret. Generic classes and features leave that to a subclass.
    :raises ValueError: the class is strict, and a secret is weak, or a lifetime not more than 0.
    """
    is_strict = manager_class.strict is True
    check = refuse_weak_secret if is_strict else warn_of_weak_secret
    # What a base has is known already, unless it is this class that is strict.
    names = secret_settings(manager_class)
    for name in (name for name in names if is_strict or name in vars(manager_class)):
        secret: Any = getattr(manager_class, name, None)
        place = f"{manager_class.__name__}.{name}"
        if isinstance(secret, str | SecretStr | list | tuple):
            for value in get_secret_values(secret):
                check(value, place)
        elif secret is None and names[name] and not _is_incomplete(manager_class):
            if is_strict:
                raise TypeError(f"{manager_class.__name__} is strict: set {name} in it.")
            warn_of_weak_secret(None, place)
    for name in (name for name in _LIFETIMES if is_strict or name in vars(manager_class)):
        lifetime, place = getattr(manager_class, name), f"{manager_class.__name__}.{name}"
        if isinstance(lifetime, int | None) and not lifetime:
            if is_strict:
                raise ValueError(f"{place} has to be more than 0, since the class is strict.")
            warn_once(endless(place))


def secret_settings(manager_class: type[BaseUserManager[Any, Any]]) -> dict[str, bool]:
    """By their names, and whether there has to be one."""
    optional = [name for base in manager_class.__mro__[::-1] for name in vars(base).get("_optional_secrets", ())]
    return {"reset_password_token_secret": True, "verification_token_secret": True, **dict.fromkeys(optional, False)}


def _is_incomplete(manager_class: type[Any]) -> bool:
    return bool(manager_class.__parameters__) or "_required_settings" in vars(manager_class)


@cache
def _default_mail_templates() -> "MailTemplates":
    from fastapi_users.mail import MailTemplates  # noqa: PLC0415 -- needs the extra "mail"

    return MailTemplates()


def _has_expired(account: Any, min_lifetime_seconds: float) -> bool:
    """Of a token whose end the provider did not tell, nothing is known."""
    return account.expires_at is not None and account.expires_at < time.time() + min_lifetime_seconds


_refreshing: WeakValueDictionary[tuple[str, str], anyio.Lock] = WeakValueDictionary()


def _lock_in_process(account: Any) -> anyio.Lock:
    return _refreshing.setdefault((account.oauth_name, account.account_id), anyio.Lock())


@asynccontextmanager
async def _alone_in_process(account: Any) -> AsyncIterator[None]:
    async with _lock_in_process(account):
        # Whoever has spent a refresh token has to keep the next one, also if the client has gone meanwhile.
        with anyio.CancelScope(shield=True):
            yield


def _is_same_account(linked: Any, account: dict[str, Any]) -> bool:
    return bool(linked.oauth_name == account["oauth_name"] and linked.account_id == account["account_id"])


def _has_account(user: Any, account: dict[str, Any]) -> bool:
    """Among those that are loaded: reading an attribute that an adapter has not loaded may be an error."""
    accounts: Sequence[Any] = getattr(user, "__dict__", {}).get("oauth_accounts", ())
    return any(_is_same_account(linked, account) for linked in accounts)


def _refuse_privileged_fields(fields: dict[str, Any]) -> None:
    refused = sorted(_NOT_FROM_A_PROFILE & fields.keys())
    if refused:
        raise ValueError(f"get_oauth_user_fields must not set {', '.join(refused)}.")


def _has_own_fingerprint(helper_class: type[Any]) -> bool:
    verifying = next((base for base in helper_class.__mro__ if "verify_and_update" in vars(base)), object)
    return callable(vars(verifying).get("fingerprint"))


def _required_claims(
    token: str,
    secret: SecretsType,
    audience: list[str],
    required: set[str],
    *,
    refusal: type[exceptions.FastAPIUsersException],
) -> dict[str, Any]:
    try:
        claims = decode_jwt(token, secret, audience)
    except jwt.PyJWTError as error:
        raise refusal from error
    if not all(isinstance(claims.get(name), str) for name in required):
        raise refusal
    return claims


def _without_null_flags(fields: dict[str, Any]) -> dict[str, Any]:
    """A flag is true or false: ``null`` reads as "not sent", where the database would refuse it."""
    return {name: value for name, value in fields.items() if not (name in _FLAGS and value is None)}


class UUIDIDMixin:
    def parse_id(self, value: Any) -> uuid.UUID:
        """
        :raises InvalidID: anything but a ``UUID`` or its text, with or without hyphens. The other spellings that
            Python reads (braces, ``urn:uuid:``, stray hyphens, digits of other scripts) would give one user several paths.
        """
        if isinstance(value, uuid.UUID):
            return value
        try:
            return _parse_uuid(value)
        except (ValueError, TypeError, AttributeError) as error:
            raise exceptions.InvalidID from error


@lru_cache(maxsize=1024)  # the same user comes again with every request
def _parse_uuid(text: str) -> uuid.UUID:
    parsed = uuid.UUID(text)
    if text.lower() not in (str(parsed), parsed.hex):
        raise ValueError("Another spelling")
    return parsed


class IntegerIDMixin:
    def parse_id(self, value: Any) -> int:
        """
        :raises InvalidID: anything but an ``int`` or its plain decimal text, and numbers that no database column
            holds (more than 64 bits).
        """
        if isinstance(value, float):
            raise exceptions.InvalidID
        try:
            parsed = int(value)
        except (ValueError, TypeError) as error:
            raise exceptions.InvalidID from error
        if str(parsed) != str(value) or not -(2**63) <= parsed < 2**63:
            raise exceptions.InvalidID
        return parsed


UserManagerDependency = DependencyCallable[BaseUserManager[models.UP, models.ID]]
