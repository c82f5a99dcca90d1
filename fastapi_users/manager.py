import uuid
import warnings
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Any, Generic, cast

import jwt
from fastapi import Request, Response
from fastapi.security import OAuth2PasswordRequestForm

from fastapi_users import exceptions, models, schemas
from fastapi_users.db.base import BaseUserDatabase
from fastapi_users.jwt import SecretType, decode_jwt, generate_jwt
from fastapi_users.password import PasswordHelper, PasswordHelperProtocol, run_in_hashing_pool
from fastapi_users.types import DependencyCallable

RESET_PASSWORD_TOKEN_AUDIENCE = "fastapi-users:reset"
VERIFY_USER_TOKEN_AUDIENCE = "fastapi-users:verify"

_FLAGS = ("is_active", "is_superuser", "is_verified")


async def _or_none(look_up: Callable[..., Awaitable[models.UP]], *args: Any) -> models.UP | None:
    try:
        return await look_up(*args)
    except exceptions.UserNotExists:
        return None


class BaseUserManager(Generic[models.UP, models.ID]):
    """The use-cases of an account, and the hooks in which an application reacts to them.

    Subclass it together with an id mixin, set the two secrets, and inject it through your ``get_user_manager``
    dependency. Every use-case calls the other methods through the instance, so that an override of one is used by all.

    Common parameters: ``safe`` ignores the privileged fields (``id``, ``is_active``, ``is_superuser``, ``is_verified``,
    ``oauth_accounts``) of a schema; ``request`` is handed to the hooks, ``None`` where no request started the operation.
    Hooks are awaited before the answer is sent, and what they raise propagates.

    :cvar reset_password_token_secret: signs the mailed tokens, at least 32 random bytes. The same for
        ``verification_token_secret``; lifetimes are in seconds.
    """

    reset_password_token_secret: SecretType
    reset_password_token_lifetime_seconds: int = 3600
    reset_password_token_audience: str = RESET_PASSWORD_TOKEN_AUDIENCE

    verification_token_secret: SecretType
    verification_token_lifetime_seconds: int = 3600
    verification_token_audience: str = VERIFY_USER_TOKEN_AUDIENCE

    user_db: BaseUserDatabase[models.UP, models.ID]
    password_helper: PasswordHelperProtocol

    def __init__(
        self,
        user_db: BaseUserDatabase[models.UP, models.ID],
        password_helper: PasswordHelperProtocol | None = None,
    ) -> None:
        self.user_db = user_db
        self.password_helper = PasswordHelper() if password_helper is None else password_helper

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
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
        :raises InvalidPasswordException: ``validate_password`` refuses it.
        :raises UserAlreadyExists: the address is taken.
        """
        await self.validate_password(user_create.password, user_create)
        if await self.user_db.get_by_email(user_create.email) is not None:
            raise exceptions.UserAlreadyExists

        user_dict = user_create.create_update_dict() if safe else user_create.create_update_dict_superuser()
        password = user_dict.pop("password")
        user_dict = _without_null_flags(user_dict)
        user_dict["hashed_password"] = await self._hash(password)

        created_user = await self._write_email(
            user_dict.get("email"), lambda: self.user_db.create(user_dict), user_dict
        )
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
    ) -> models.UP:
        """The user who owns this account at the provider, created on the first login.

        The account decides before the e-mail: whoever owns it is logged in, even when the provider reports another
        address by now.

        :param associate_by_email: link an unknown account to the local user with the same address. Whoever can make
            the provider report an address gets that user's account, so switch it on only for providers that verify.
        :raises UserAlreadyExists: the address belongs to a local user and ``associate_by_email`` is off.
        """
        account = _account_dict(oauth_name, access_token, account_id, account_email, expires_at, refresh_token)
        user = await _or_none(self.get_by_oauth_account, oauth_name, account_id)
        if user is not None:
            return await self._update_oauth_account(user, account)
        user = await _or_none(self.get_by_email, account_email)
        if user is not None:
            if not associate_by_email:
                raise exceptions.UserAlreadyExists
            return await self._add_oauth_account(user, account)

        user_dict = {
            "email": account_email,
            "hashed_password": await self._hash(self.password_helper.generate()),
            "is_verified": is_verified_by_default,
        }

        async def create_with_account() -> models.UP:
            return await self._add_oauth_account(await self.user_db.create(user_dict), account)

        try:
            user = await self._write_email(account_email, create_with_account, user_dict)
        except exceptions.UserAlreadyExists:
            user = await _or_none(self.get_by_oauth_account, oauth_name, account_id)
            if user is None:
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
        account = _account_dict(oauth_name, access_token, account_id, account_email, expires_at, refresh_token)
        updated_user: Any = await self.user_db.add_oauth_account(user, account)
        await self.on_after_update(updated_user, {}, request)
        return cast("models.UOAP", updated_user)

    async def request_verify(self, user: models.UP, request: Request | None = None) -> None:
        """
        :raises UserInactive:
        :raises UserAlreadyVerified:
        """
        if not user.is_active:
            raise exceptions.UserInactive
        if user.is_verified:
            raise exceptions.UserAlreadyVerified
        token = generate_jwt(
            {"sub": str(user.id), "email": user.email, "aud": self.verification_token_audience},
            self.verification_token_secret,
            self.verification_token_lifetime_seconds,
        )
        await self.on_after_request_verify(user, token, request)

    async def verify(self, token: str, request: Request | None = None) -> models.UP:
        """The token names the address, so that it dies when the user changes that.

        :raises InvalidVerifyToken:
        :raises UserAlreadyVerified:
        """
        claims = _required_claims(
            token,
            self.verification_token_secret,
            self.verification_token_audience,
            {"sub", "email"},
            refusal=exceptions.InvalidVerifyToken,
        )
        user = await _or_none(self.get_by_email, claims["email"])
        if user is None or self._parse_id_or(claims["sub"], exceptions.InvalidVerifyToken) != user.id:
            raise exceptions.InvalidVerifyToken
        if user.is_verified:
            raise exceptions.UserAlreadyVerified

        verified_user = await self._update(user, {"is_verified": True})
        await self.on_after_verify(verified_user, request)
        return verified_user

    async def forgot_password(self, user: models.UP, request: Request | None = None) -> None:
        """:raises UserInactive:"""
        if not user.is_active:
            raise exceptions.UserInactive
        token = generate_jwt(
            {
                "sub": str(user.id),
                "password_fgpt": await self._hash(user.hashed_password),
                "aud": self.reset_password_token_audience,
            },
            self.reset_password_token_secret,
            self.reset_password_token_lifetime_seconds,
        )
        await self.on_after_forgot_password(user, token, request)

    async def reset_password(self, token: str, password: str, request: Request | None = None) -> models.UP:
        """The token carries a fingerprint of the stored hash, so that it dies with any change of the password.

        :raises InvalidResetPasswordToken:
        :raises UserNotExists:
        :raises UserInactive:
        :raises InvalidPasswordException: ``validate_password`` refuses it; the token stays usable.
        """
        claims = _required_claims(
            token,
            self.reset_password_token_secret,
            self.reset_password_token_audience,
            {"sub", "password_fgpt"},
            refusal=exceptions.InvalidResetPasswordToken,
        )
        user = await self.get(self._parse_id_or(claims["sub"], exceptions.InvalidResetPasswordToken))
        is_current, _ = await self._verify_and_update(user.hashed_password, claims["password_fgpt"])
        if not is_current:
            raise exceptions.InvalidResetPasswordToken
        if not user.is_active:
            raise exceptions.UserInactive

        updated_user = await self._update(user, {"password": password})
        await self.on_after_reset_password(user, request)
        return updated_user

    async def update(
        self,
        user_update: schemas.UU,
        user: models.UP,
        safe: bool = False,
        request: Request | None = None,
    ) -> models.UP:
        """Write the fields that were sent. A new address resets ``is_verified``.

        :raises UserAlreadyExists: the new address is taken.
        :raises InvalidPasswordException: ``validate_password`` refuses it.
        """
        update_dict = user_update.create_update_dict() if safe else user_update.create_update_dict_superuser()
        updated_user = await self._update(user, update_dict)
        await self.on_after_update(updated_user, update_dict, request)
        return updated_user

    async def delete(self, user: models.UP, request: Request | None = None) -> None:
        await self.on_before_delete(user, request)
        await self.user_db.delete(user)
        await self.on_after_delete(user, request)

    async def authenticate(self, credentials: OAuth2PasswordRequestForm) -> models.UP | None:
        """The user with this address and password, or ``None``. Flags are not looked at.

        An unknown address costs a hash as well, so that the time does not tell who has an account.
        """
        user = await _or_none(self.get_by_email, credentials.username)
        if user is None:
            with suppress(exceptions.InvalidPasswordException):
                await self._hash(credentials.password)
            return None
        is_right, upgraded_hash = await self._verify_and_update(credentials.password, user.hashed_password)
        if not is_right:
            return None
        if upgraded_hash is not None:
            await self.user_db.update(user, {"hashed_password": upgraded_hash})
        return user

    async def validate_password(self, password: str, user: Any) -> None:
        """Called before a password is stored, with the schema of a new user or the stored user. Accepts everything.

        ``user`` is ``Any`` so that an override may name its own schema: ``user: UserCreate | User``.

        :raises InvalidPasswordException: for you to raise; its reason reaches the client.
        """

    async def on_after_register(self, user: models.UP, request: Request | None = None) -> None:
        """After ``create``, and after an OAuth login that made a new user."""

    async def on_after_update(
        self,
        user: models.UP,
        update_dict: dict[str, Any],
        request: Request | None = None,
    ) -> None:
        """After ``update``, with what was submitted (a new password in clear text: never log it), and, with an empty
        dictionary, after an OAuth account was associated."""

    async def on_after_request_verify(self, user: models.UP, token: str, request: Request | None = None) -> None:
        """The place to mail the token."""

    async def on_after_verify(self, user: models.UP, request: Request | None = None) -> None: ...

    async def on_after_forgot_password(self, user: models.UP, token: str, request: Request | None = None) -> None:
        """The place to mail the token."""

    async def on_after_reset_password(self, user: models.UP, request: Request | None = None) -> None: ...

    async def on_after_login(
        self,
        user: models.UP,
        request: Request | None = None,
        response: Response | None = None,
    ) -> None:
        """``response`` is the very answer that will be sent: set headers and cookies on it."""

    async def on_before_delete(self, user: models.UP, request: Request | None = None) -> None:
        """What it raises prevents the deletion."""

    async def on_after_delete(self, user: models.UP, request: Request | None = None) -> None: ...

    async def _update(self, user: models.UP, update_dict: dict[str, Any]) -> models.UP:
        validated: dict[str, Any] = {}
        for field, value in _without_null_flags(update_dict).items():
            if field == "email":
                if value is None:
                    continue
                if value != user.email:
                    owner = await _or_none(self.get_by_email, value)
                    if owner is not None and owner.id != user.id:
                        raise exceptions.UserAlreadyExists
                    validated["is_verified"] = False
                validated["email"] = value
            elif field == "password":
                if value is not None:
                    await self.validate_password(value, user)
                    validated["hashed_password"] = await self._hash(value)
            else:
                validated[field] = value
        if validated.get("email", user.email) == user.email:
            return await self.user_db.update(user, validated)
        return await self._write_email(
            validated["email"], lambda: self.user_db.update(user, validated), validated, owner_id=user.id
        )

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
            return await write()
        user_db: Any = self.user_db
        has_transactions = isinstance(user_db, BaseUserDatabase)  # and is not just an object with the eight methods
        try:
            async with user_db.transaction() if has_transactions else nullcontext():
                if not has_transactions or await user_db.reserve_email(email, owner_id):
                    return await write()
        except Exception as error:
            # The adapter's exceptions are its own: whether this one means a lost race shows a second look.
            winner = await self.user_db.get_by_email(email)
            # A hash is salted: who has ours is the very user that was written before the error came.
            if winner is None or winner.id == owner_id or winner.hashed_password == written.get("hashed_password"):
                raise
            raise exceptions.UserAlreadyExists from error
        raise exceptions.UserAlreadyExists

    # OAuth asks more of a user than UP says, so that these two look past its type.

    async def _add_oauth_account(self, user: Any, account: dict[str, Any]) -> models.UP:
        return cast("models.UP", await self.user_db.add_oauth_account(user, account))

    async def _update_oauth_account(self, user: Any, account: dict[str, Any]) -> models.UP:
        for existing in user.oauth_accounts:
            if existing.oauth_name == account["oauth_name"] and existing.account_id == account["account_id"]:
                user = await self.user_db.update_oauth_account(user, existing, account)
        return cast("models.UP", user)

    async def _hash(self, password: str) -> str:
        """:raises InvalidPasswordException: the hasher does not take it, because it is too long for example."""
        try:
            return await run_in_hashing_pool(self.password_helper.hash, password)
        except ValueError as error:
            raise exceptions.InvalidPasswordException("The password cannot be hashed.") from error

    async def _verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        return await run_in_hashing_pool(self.password_helper.verify_and_update, plain_password, hashed_password)

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


def _account_dict(
    oauth_name: str,
    access_token: str,
    account_id: str,
    account_email: str,
    expires_at: int | None,
    refresh_token: str | None,
) -> dict[str, Any]:
    return {
        "oauth_name": oauth_name,
        "access_token": access_token,
        "account_id": account_id,
        "account_email": account_email,
        "expires_at": expires_at,
        "refresh_token": refresh_token,
    }


def _required_claims(
    token: str,
    secret: SecretType,
    audience: str,
    required: set[str],
    *,
    refusal: type[exceptions.FastAPIUsersException],
) -> dict[str, Any]:
    try:
        claims = decode_jwt(token, secret, [audience])
    except jwt.PyJWTError as error:
        raise refusal from error
    if not required <= claims.keys():
        raise refusal
    return claims


def _without_null_flags(fields: dict[str, Any]) -> dict[str, Any]:
    """A flag is true or false: ``null`` reads as "not sent", where the database would refuse it."""
    return {name: value for name, value in fields.items() if not (name in _FLAGS and value is None)}


class UUIDIDMixin:
    def parse_id(self, value: Any) -> uuid.UUID:
        """
        :raises InvalidID: anything but a ``UUID`` or its text, with or without hyphens. The other spellings that
            Python reads (braces, ``urn:uuid:``, digits of other scripts) would give one user several paths.
        """
        if isinstance(value, uuid.UUID):
            return value
        try:
            parsed = uuid.UUID(value)
        except (ValueError, TypeError, AttributeError) as error:
            raise exceptions.InvalidID from error
        if value.replace("-", "").lower() != parsed.hex:
            raise exceptions.InvalidID
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
