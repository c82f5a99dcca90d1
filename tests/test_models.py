import uuid
from dataclasses import dataclass, field

from fastapi_users import models


@dataclass
class Account(models.OAuthAccountProtocol[uuid.UUID]):
    id: uuid.UUID
    oauth_name: str
    access_token: str
    account_id: str
    account_email: str
    expires_at: int | None = None
    refresh_token: str | None = None


@dataclass
class Person(models.UserOAuthProtocol[uuid.UUID, Account]):
    id: uuid.UUID
    email: str
    hashed_password: str
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = False
    oauth_accounts: list[Account] = field(default_factory=list)


def test_the_protocols_are_bases_of_dataclasses() -> None:
    account = Account(uuid.uuid4(), "provider", "token", "1", "ann@example.org")
    person = Person(uuid.uuid4(), "ann@example.org", "hash", oauth_accounts=[account])

    assert person.oauth_accounts == [account]
    assert person.is_active


def test_the_protocols_declare_attributes_without_values() -> None:
    assert list(models.UserProtocol.__annotations__) == [
        "id",
        "email",
        "hashed_password",
        "is_active",
        "is_superuser",
        "is_verified",
    ]
    assert not any(hasattr(models.UserProtocol, name) for name in models.UserProtocol.__annotations__)
