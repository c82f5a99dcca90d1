"""A manager as applications write it today, and as they wrote it up to 9.x: both go through everything."""

import uuid
import warnings
from pathlib import Path
from typing import Any

import jwt
import pytest
from fastapi import Request, Response

from fastapi_users import BaseUserManager, InvalidPasswordException, UUIDIDMixin, schemas
from fastapi_users.jwt import SecretType
from fastapi_users.mail import Message
from fastapi_users.testing import weak_password_helper
from tests.world import PASSWORD, User, UserCreate, World

RESET_SECRET = "the secret for resets, longer than 32 bytes"
VERIFY_SECRET = "the secret for verifications, longer than 32 bytes"
HOOKS = {
    "validate_password",
    "on_after_register",
    "on_after_update",
    "on_after_request_verify",
    "on_after_verify",
    "on_after_forgot_password",
    "on_after_reset_password",
    "on_after_login",
    "on_before_delete",
    "on_after_delete",
}


class Overridden:
    """Every attribute and every hook; the name of each hook that is called, and the tokens, go to the world."""

    world: World
    reset_password_token_secret: SecretType = RESET_SECRET
    reset_password_token_lifetime_seconds = 60
    reset_password_token_audience = "app:reset"
    verification_token_secret: SecretType = VERIFY_SECRET
    verification_token_lifetime_seconds = 120
    verification_token_audience = "app:verify"

    def note(self, hook: str, *details: Any) -> None:
        self.world.hooks.append((hook, *details))

    async def validate_password(self, password: str, user: UserCreate | User) -> None:
        self.note("validate_password")
        if user.email in password:
            raise InvalidPasswordException(reason="Your address is no password")

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        self.note("on_after_register", user, request)

    async def on_after_update(self, user: User, update_dict: dict[str, Any], request: Request | None = None) -> None:
        self.note("on_after_update", user, request)

    async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None:
        await self.world.outbox.send(Message(to=user.email, subject="Verify", text=token))
        self.note("on_after_request_verify", user, request)

    async def on_after_verify(self, user: User, request: Request | None = None) -> None:
        self.note("on_after_verify", user, request)

    async def on_after_forgot_password(self, user: User, token: str, request: Request | None = None) -> None:
        await self.world.outbox.send(Message(to=user.email, subject="Reset", text=token))
        self.note("on_after_forgot_password", user, request)

    async def on_after_reset_password(self, user: User, request: Request | None = None) -> None:
        self.note("on_after_reset_password", user, request)

    async def on_after_login(
        self, user: User, request: Request | None = None, response: Response | None = None
    ) -> None:
        self.note("on_after_login", user, request, response)

    async def on_before_delete(self, user: User, request: Request | None = None) -> None:
        self.note("on_before_delete", user, request)

    async def on_after_delete(self, user: User, request: Request | None = None) -> None:
        self.note("on_after_delete", user, request)


class Current(Overridden, UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    def __init__(self, user_db: Any, world: World) -> None:
        super().__init__(user_db, weak_password_helper())
        self.world = world


with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")

    class UserDB(schemas.BaseUser[uuid.UUID]):
        """What 9.x called the stored user."""

    class Older(Overridden, BaseUserManager[UserCreate, UserDB]):  # type: ignore[type-var,misc]  # schemas were users then
        user_db_model = UserDB

        def __init__(self, user_db: Any, world: World) -> None:
            super().__init__(user_db, weak_password_helper())
            self.world = world


def test_only_the_older_spelling_is_told_what_to_write_today() -> None:
    assert [(warning.category, "UUIDIDMixin" in str(warning.message)) for warning in told] == [
        (DeprecationWarning, True)
    ]


@pytest.mark.parametrize("manager_class", [Current, Older])
async def test_a_manager_with_everything_overridden_goes_through_everything(
    tmp_path: Path, manager_class: type[Any]
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, manager_class=manager_class) as world:
        post, email = world.client.post, "ann@example.org"

        refused = await post("/auth/register", json={"email": email, "password": f"{email}!"})
        assert refused.json()["detail"]["reason"] == "Your address is no password"
        registered = await post("/auth/register", json={"email": email, "password": PASSWORD})
        assert registered.status_code == 201

        await post("/auth/request-verify-token", json={"email": email})
        token = world.outbox.token(to=email)
        assert jwt.decode(token, VERIFY_SECRET, audience="app:verify", algorithms=["HS256"])["email"] == email
        assert (await post("/auth/verify", json={"token": token})).json()["is_verified"]

        await post("/auth/forgot-password", json={"email": email})
        token = world.outbox.token(to=email)
        assert jwt.decode(token, RESET_SECRET, audience="app:reset", algorithms=["HS256"])["sub"]
        assert (await post("/auth/reset-password", json={"token": token, "password": "new " + PASSWORD})).is_success

        headers = await world.log_in(password="new " + PASSWORD)
        changed = await world.client.patch("/users/me", json={"nickname": "Ann"}, headers=headers)
        assert changed.json()["nickname"] == "Ann"

        await world.insert_user("root@example.org", is_superuser=True)
        headers = await world.log_in("root@example.org")
        deleted = await world.client.delete(f"/users/{registered.json()['id']}", headers=headers)
        assert deleted.status_code == 204

        assert {hook for hook, *_ in world.hooks} == HOOKS
        assert all(None not in details for _, *details in world.hooks)
