"""Everything that an application can bring itself: user, adapter, strategy, transport, mailer, feature. Only type-checked, never run."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import APIKeyHeader
from fastapi.security.base import SecurityBase
from passlib.context import CryptContext
from pwdlib import PasswordHash
from typing_extensions import assert_type

from fastapi_users import BaseUserManager, FastAPIUsers, InvalidID, schemas
from fastapi_users.authentication import AuthenticationBackend, Strategy, Transport
from fastapi_users.authentication.login import CredentialCheck, LoginAttempt
from fastapi_users.authentication.strategy import DatabaseStrategy, StrategyDestroyNotSupportedError
from fastapi_users.authentication.strategy.db import AccessTokenProtocol
from fastapi_users.db import BaseUserDatabase
from fastapi_users.exceptions import UserNotExists
from fastapi_users.mail import Mailer, Message
from fastapi_users.models import ID, OAP, UOAP, UP, OAuthAccountProtocol, UserProtocol
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.password import PasswordHelper
from fastapi_users.testing import InMemoryAccessTokenDatabase, InMemoryUserDatabase, OAuthAccount


@dataclass
class Member:
    """A user without a base class, whose id is neither a UUID nor an integer."""

    id: str
    email: str
    hashed_password: str
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = False
    oauth_accounts: list[OAuthAccount] = field(default_factory=list)


@dataclass
class ExplicitMember(UserProtocol[str]):
    id: str
    email: str
    hashed_password: str
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = False


@dataclass
class ExplicitAccount(OAuthAccountProtocol[str]):
    id: str
    oauth_name: str
    access_token: str
    expires_at: int | None
    refresh_token: str | None
    account_id: str
    account_email: str


@dataclass
class Session(AccessTokenProtocol[str]):
    token: str
    user_id: str
    created_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


class MemberDatabase(BaseUserDatabase[Member, str]):
    """All eight methods, with parameter names of its own where it likes to."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}

    async def get(self, id: str) -> Member | None:
        return self.members.get(id)

    async def get_by_email(self, email: str) -> Member | None:
        return next((member for member in self.members.values() if member.email == email), None)

    async def get_by_oauth_account(self, oauth: str, account_id: str) -> Member | None:
        for member in self.members.values():
            if any(
                (account.oauth_name, account.account_id) == (oauth, account_id) for account in member.oauth_accounts
            ):
                return member
        return None

    async def create(self, create_dict: dict[str, Any]) -> Member:
        member = Member(id=str(len(self.members)), **create_dict)
        self.members[member.id] = member
        return member

    async def update(self, user: Member, update_dict: dict[str, Any]) -> Member:
        for name, value in update_dict.items():
            setattr(user, name, value)
        return user

    async def delete(self, user: Member) -> None:
        del self.members[user.id]

    async def add_oauth_account(self, user: UOAP, create_dict: dict[str, Any]) -> UOAP:
        user.oauth_accounts.append(OAuthAccount(**create_dict))
        return user

    async def update_oauth_account(self, user: UOAP, oauth_account: OAP, update_dict: dict[str, Any]) -> UOAP:
        oauth_account.access_token = update_dict["access_token"]
        return user


class StructuralMailer:
    async def send(self, message: Message) -> None:
        assert_type(message.html, str | None)


class ExplicitMailer(Mailer):
    async def send(self, message: Message) -> None: ...


class LockoutMixin(BaseUserManager[UP, ID]):
    """A feature for whichever user class."""

    failures: dict[ID, int]

    async def _seam_credentials_failed(self, check: CredentialCheck, user: UP | None) -> None:
        await super()._seam_credentials_failed(check, user)
        if user is not None:
            self.failures[user.id] = self.failures.get(user.id, 0) + 1

    async def _seam_before_session(self, attempt: LoginAttempt[UP, ID]) -> None:
        await super()._seam_before_session(attempt)
        self.failures.pop(attempt.user.id, None)


class MemberManager(LockoutMixin[Member, str], BaseUserManager[Member, str]):
    reset_password_token_secret = "SECRET"
    verification_token_secret = "SECRET"
    mailer = StructuralMailer()

    async def _seam_before_session(self, attempt: LoginAttempt[Member, str]) -> None:
        await super()._seam_before_session(attempt)
        assert_type(attempt.user, Member)

    async def get_locales(self, user: Member, request: Request | None = None) -> list[str]:
        return [user.id]

    def parse_id(self, value: Any) -> str:
        if not isinstance(value, str):
            raise InvalidID
        return value


class OpaqueStrategy(Strategy[Member, str]):
    """Derives from the protocol."""

    async def read_token(self, token: str | None, user_manager: BaseUserManager[Member, str]) -> Member | None:
        if token is None:
            return None
        try:
            return await user_manager.get(user_manager.parse_id(token))
        except (InvalidID, UserNotExists):
            return None

    async def write_token(self, user: Member) -> str:
        return user.id

    async def destroy_token(self, token: str, user: Member) -> None:
        raise StrategyDestroyNotSupportedError


class StructuralStrategy:
    """Has the methods of the protocol and no base class."""

    async def read_token(self, token: str | None, user_manager: BaseUserManager[Member, str]) -> Member | None:
        return None if token is None else await user_manager.get(token)

    async def write_token(self, user: Member) -> str:
        return user.id

    async def destroy_token(self, token: str, user: Member) -> None: ...


class HeaderTransport(Transport):
    scheme: SecurityBase

    def __init__(self, name: str) -> None:
        self.scheme = APIKeyHeader(name=name, auto_error=False)

    async def get_login_response(self, token: str) -> Response:
        return Response(headers={"x-token": token})

    async def get_logout_response(self) -> Response:
        return Response()

    @staticmethod
    def get_openapi_login_responses_success() -> OpenAPIResponseType:
        return {200: {"description": "The token is in the header x-token."}}

    @staticmethod
    def get_openapi_logout_responses_success() -> OpenAPIResponseType:
        return {}


def get_structural_strategy() -> StructuralStrategy:
    return StructuralStrategy()


members = MemberDatabase()
sessions = InMemoryAccessTokenDatabase(Session)


def get_member_manager() -> MemberManager:
    return MemberManager(members)


async def yield_member_manager() -> AsyncIterator[MemberManager]:
    yield get_member_manager()


opaque_backend = AuthenticationBackend[Member, str]("opaque", HeaderTransport("x-token"), OpaqueStrategy)
structural_backend = AuthenticationBackend[Member, str](
    "structural", HeaderTransport("x-other-token"), get_structural_strategy
)
database_backend = AuthenticationBackend[Member, str](
    "database", HeaderTransport("x-session"), lambda: DatabaseStrategy(sessions, 3600)
)

fastapi_users = FastAPIUsers[Member, str](get_member_manager, [opaque_backend, structural_backend, database_backend])
FastAPIUsers[Member, str](yield_member_manager, [opaque_backend])
FastAPIUsers[Member, str](lambda: MemberManager(members), (opaque_backend,))


class MemberRead(schemas.BaseUser[str]):
    pass


app = FastAPI()
app.include_router(fastapi_users.get_auth_router(opaque_backend))
app.include_router(fastapi_users.get_users_router(MemberRead, schemas.BaseUserUpdate))


@app.get("/protected")
async def protected(member: Member = Depends(fastapi_users.current_user())) -> str:
    return member.email


async def called_by_hand(manager: MemberManager, token: str | None) -> None:
    member = await manager.get(manager.parse_id("1"))
    assert_type(manager.parse_id("1"), str)
    assert_type(member, Member)
    assert_type(await members.add_oauth_account(member, {}), Member)
    assert_type(
        await manager.oauth_associate_callback(member, "google", "TOKEN", "1", "ann@example.org", None, None), Member
    )
    assert_type(await OpaqueStrategy().read_token(token, manager), Member | None)
    assert_type(await fastapi_users.current_user(optional=True)(), Member | None)


def an_explicit_member_will_do_as_well(account: ExplicitAccount) -> None:
    in_memory = InMemoryUserDatabase[ExplicitMember, str](ExplicitMember)
    assert_type(BaseUserManager[ExplicitMember, str](in_memory).user_db, BaseUserDatabase[ExplicitMember, str])
    assert_type(account.id, str)


def every_mailer_fits(manager: MemberManager) -> None:
    mailers: list[Mailer] = [StructuralMailer(), ExplicitMailer()]
    assert_type(manager.failures, dict[str, int])
    with_any_mailer = BaseUserManager[Member, str](members)
    with_any_mailer.mailer = mailers[0]
    with_any_mailer.mailer = None


def every_hasher_fits_the_helper(manager: MemberManager) -> None:
    MemberManager(members, PasswordHelper(CryptContext(["argon2"])))
    MemberManager(members, PasswordHelper(PasswordHash.recommended()))
    assert_type(manager.password_helper.verify_and_update("secret", "hash"), tuple[bool, str | None])
