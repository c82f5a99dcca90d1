"""Tokens in mails: for what they were made, while that is so, and once."""

import threading
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import MagicMock

import jwt
import pytest
from fastapi.security import OAuth2PasswordRequestForm
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users.db import BaseUserDatabase
from fastapi_users.exceptions import InvalidResetPasswordToken, InvalidVerifyToken, UserNotExists
from fastapi_users.jwt import generate_jwt
from fastapi_users.password import PasswordHelper
from fastapi_users.testing import InMemoryUserDatabase, OneTimeSecret, User, frozen_clock, weak_password_helper
from tests import world as worlds
from tests.world import PASSWORD, SECRET, World

EMAIL = "ann@example.org"
NEW_PASSWORD = "another horse, another battery"
RESET, VERIFY = "fastapi-users:reset", "fastapi-users:verify"


class TableManager(worlds.UserManager):
    """Of an application that has the table of one-time secrets."""

    one_time_secret_model = worlds.OneTimeSecret


@pytest.fixture
async def tabled(tmp_path: Path) -> AsyncIterator[World]:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=TableManager) as world:
        yield world


async def reset_token(world: World, email: str = EMAIL) -> str:
    await world.client.post("/auth/forgot-password", json={"email": email})
    return world.outbox.token(to=email)


async def verify_token(world: World, email: str = EMAIL) -> str:
    await world.client.post("/auth/request-verify-token", json={"email": email})
    return world.outbox.token(to=email)


async def reset(world: World, token: str, password: str = NEW_PASSWORD) -> int:
    answer = await world.client.post("/auth/reset-password", json={"token": token, "password": password})
    assert answer.status_code == 200 or "RESET_PASSWORD" in answer.text
    return answer.status_code


async def verify(world: World, token: str) -> tuple[int, Any]:
    answer = await world.client.post("/auth/verify", json={"token": token})
    return answer.status_code, answer.json().get("detail")


async def change_email(world: World, email: str, headers: dict[str, str]) -> None:
    answer = await world.client.patch("/users/me", json={"email": email}, headers=headers)
    assert answer.status_code == 200
    headers["Authorization"] = answer.headers["authorization"]  # the old token has ended


def claims_of(token: str, audience: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, SECRET, audience=audience, algorithms=["HS256"])
    return claims


# The address


async def test_a_reset_token_dies_with_the_address_it_was_mailed_to(world: World) -> None:
    """D5, requirement 25: whoever still reads the old mailbox."""
    await world.insert_user()
    token = await reset_token(world)
    await change_email(world, "new@example.org", await world.log_in())

    assert await reset(world, token) == 400
    assert await reset(world, await reset_token(world, "new@example.org")) == 200


async def test_a_reset_token_tells_nobody_the_address_or_the_hash(world: World) -> None:
    """Requirement 60."""
    user = await world.insert_user()
    claims = claims_of(await reset_token(world), RESET)

    assert claims.keys() == {"sub", "password_fgpt", "email_fgpt", "aud", "exp"}
    assert EMAIL not in str(claims)
    assert user.hashed_password not in str(claims)


async def test_tokens_of_upstream_count_until_they_expire(world: World) -> None:
    """They have no claim for the address, and a whole hash of the hash for a fingerprint."""
    user = await world.insert_user()
    fingerprint = weak_password_helper().hash(user.hashed_password)
    claims = {"sub": str(user.id), "password_fgpt": fingerprint, "aud": RESET}
    token = generate_jwt(claims, SECRET, 3600)
    await change_email(world, "new@example.org", await world.log_in())

    assert await reset(world, token) == 200
    assert await reset(world, token) == 400


@pytest.mark.parametrize("fingerprint", [None, "", 1, "\ud800", "0" * 64])
async def test_a_claim_for_the_address_that_is_wrong_is_none_of_upstream(world: World, fingerprint: Any) -> None:
    await world.insert_user()
    claims = {**claims_of(await reset_token(world), RESET), "email_fgpt": fingerprint}

    assert await reset(world, generate_jwt(claims, SECRET)) == 400


# The fingerprint of the password


class Cheap(PasswordHelper):
    """As our own helper offers it."""

    def __init__(self) -> None:
        super().__init__(weak_password_helper().password_hash)
        self.calls: list[str] = []

    def hash(self, password: str) -> str:
        self.calls.append("hash")
        return super().hash(password)

    def fingerprint(self, hashed_password: str) -> str:
        self.calls.append("fingerprint")
        return f"cheap:{hash(hashed_password)}"

    def verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        if hashed_password.startswith("cheap:"):
            return hashed_password == f"cheap:{hash(plain_password)}", None
        return super().verify_and_update(plain_password, hashed_password)


class OwnVerification(Cheap):
    """Of an application that derives from ours, and knows nothing of fingerprints."""

    def verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        return self.password_hash.verify_and_update(plain_password, hashed_password)


class Forgetful(Cheap):
    def fingerprint(self, hashed_password: str) -> str:
        self.calls.append("fingerprint")
        return "unknown to it"

    def verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        return PasswordHelper.verify_and_update(self, plain_password, hashed_password)


class Manager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET

    def __init__(self, user_db: Any, password_helper: Any = None) -> None:
        super().__init__(user_db, password_helper or weak_password_helper())
        self.tokens: list[str] = []
        self.hooks: list[str] = []

    async def on_after_forgot_password(self, user: User, token: str, request: Any = None) -> None:
        self.tokens.append(token)

    async def on_after_request_verify(self, user: User, token: str, request: Any = None) -> None:
        self.tokens.append(token)

    async def on_after_request_email_change(self, user: User, new_email: str, token: str, request: Any = None) -> None:
        self.tokens.append(token)

    async def on_after_reset_password(self, user: User, request: Any = None) -> None:
        self.hooks.append(f"reset {user.hashed_password[:3]}")

    async def on_after_password_changed(self, user: User, request: Any = None) -> None:
        self.hooks.append(f"changed {user.hashed_password[:3]}")


async def new_user(manager: Manager, email: str = EMAIL, **fields: Any) -> User:
    hashed_password = weak_password_helper().hash(PASSWORD)
    return await manager.user_db.create({"email": email, "hashed_password": hashed_password, **fields})


def in_memory(helper: Any = None) -> Manager:
    return Manager(InMemoryUserDatabase[User, uuid.UUID](User), helper)


@pytest.mark.parametrize(
    ("helper", "calls"),
    [
        (Cheap(), ["fingerprint", "hash"]),
        (OwnVerification(), ["hash", "hash"]),
        (Forgetful(), ["fingerprint", "hash", "hash"]),
    ],
    ids=lambda helper: type(helper).__name__,
)
async def test_the_fingerprint_is_a_cheap_one_where_the_helper_recognises_its_own(
    helper: Cheap, calls: list[str]
) -> None:
    """CONTRACT 16 row 24."""
    manager = in_memory(helper)
    user = await new_user(manager)
    await manager.forgot_password(user)
    (token,) = manager.tokens

    for fingerprint in (claims_of(token, RESET)["password_fgpt"], weak_password_helper().hash(user.hashed_password)):
        assert helper.verify_and_update(user.hashed_password, fingerprint)[0]
    assert await manager.reset_password(token, NEW_PASSWORD) is user
    assert helper.calls == calls
    with pytest.raises(InvalidResetPasswordToken):
        await manager.reset_password(token, NEW_PASSWORD)


async def test_a_helper_that_is_a_mock_has_no_fingerprint() -> None:
    manager = in_memory(MagicMock(wraps=weak_password_helper()))
    user = await new_user(manager)
    await manager.forgot_password(user)

    assert await manager.reset_password(manager.tokens[0], NEW_PASSWORD) is user


# What another one changed meanwhile


class Copies(BaseUserDatabase[User, uuid.UUID]):
    """An adapter that gives another object each time, as one without an identity map does."""

    def __init__(self) -> None:
        self.memory = InMemoryUserDatabase[User, uuid.UUID](User)

    async def get(self, id: uuid.UUID) -> User | None:
        user = await self.memory.get(id)
        return None if user is None else replace(user)

    async def get_by_email(self, email: str) -> User | None:
        user = await self.memory.get_by_email(email)
        return None if user is None else replace(user)

    async def create(self, create_dict: dict[str, Any]) -> User:
        return replace(await self.memory.create(create_dict))

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        return replace(await self.memory.update(self.memory.users[user.id], update_dict))


class Silent(Copies):
    """Its `update` gives nothing back."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        await super().update(user, update_dict)
        return cast("User", None)


class Underived:
    """An adapter that derives from nothing, and so has no conditions."""

    def __init__(self) -> None:
        self.adapter = Copies()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.adapter, name)


class ThroughSuper(Manager):
    """As applications extend what is written."""

    async def _update(self, user: User, update_dict: dict[str, Any]) -> User:
        assert update_dict in ({"password": NEW_PASSWORD}, {"is_verified": True})
        return await super()._update(await self.get(user.id), {**update_dict, "is_superuser": False})


class PastSuper(Manager):
    async def _update(self, user: User, update_dict: dict[str, Any]) -> User:
        return await self.user_db.update(user, {"hashed_password": "own"})


async def meanwhile(manager: Manager, **changes: Any) -> None:
    """Somebody else's change, between the look at the token and the write."""
    user_db: Any = manager.user_db

    async def change(password: str, user: Any) -> None:
        await user_db.memory.update(user_db.memory.users[user.id], changes)

    manager.validate_password = change  # type: ignore[method-assign]  # a place in between


@pytest.mark.parametrize("manager_class", [Manager, ThroughSuper])
@pytest.mark.parametrize("changes", [{"hashed_password": "theirs"}, {"email": "new@example.org"}])
async def test_a_reset_that_comes_too_late_writes_nothing(
    manager_class: type[Manager], changes: dict[str, str]
) -> None:
    """Requirement 24: the condition goes with the override that an application makes of ``_update``."""
    manager = manager_class(Copies())
    user = await new_user(manager)
    await manager.forgot_password(user)
    await meanwhile(manager, **changes)

    with pytest.raises(InvalidResetPasswordToken):
        await manager.reset_password(manager.tokens[0], NEW_PASSWORD)
    stored = await manager.get(user.id)
    assert {name: getattr(stored, name) for name in changes} == changes
    assert stored.hashed_password in (user.hashed_password, "theirs")
    assert manager.hooks == []


@pytest.mark.parametrize(
    ("manager_class", "adapter"), [(PastSuper, Copies()), (Manager, Underived())], ids=["past super", "underived"]
)
async def test_what_knows_no_condition_writes_without_one(manager_class: type[Manager], adapter: Any) -> None:
    manager = manager_class(adapter)
    user = await new_user(manager)
    await manager.forgot_password(user)
    if manager_class is Manager:
        manager.user_db = adapter.adapter
        await meanwhile(manager, is_superuser=True)
        manager.user_db = adapter

    updated = await manager.reset_password(manager.tokens[0], NEW_PASSWORD)

    assert updated.hashed_password == (await manager.get(user.id)).hashed_password != user.hashed_password


async def test_the_hooks_of_a_reset_get_the_user_before_and_after() -> None:
    """E13: the first as the contract (8.6) has it, and the second as it is."""
    manager = PastSuper(Copies())
    await manager.forgot_password(await new_user(manager))

    await manager.reset_password(manager.tokens[0], NEW_PASSWORD)

    assert manager.hooks == ["reset $ar", "changed own"]


async def test_a_user_whose_address_changes_at_that_moment_is_not_verified() -> None:
    """As Devise's CVE-2026-32700: nobody has shown to read the mails of the new address."""

    class Slow(Manager):
        async def _update(self, user: User, update_dict: dict[str, Any]) -> User:
            adapter: Any = self.user_db
            await adapter.memory.update(adapter.memory.users[user.id], {"email": "new@example.org"})
            return await super()._update(user, update_dict)

    manager = Slow(Copies())
    user = await new_user(manager)
    await manager.request_verify(user)

    with pytest.raises(InvalidVerifyToken):
        await manager.verify(manager.tokens[0])
    assert not (await manager.get(user.id)).is_verified


# The upgrade of a hash


async def test_a_placeholder_for_a_hash_keeps_nobody_waiting(world: World) -> None:
    """What has no fingerprint is hashed, and that verified: beside the event loop."""
    threads: list[int] = []

    class Watched(PasswordHelper):
        def fingerprint(self, hashed_password: str) -> str:
            threads.append(threading.get_ident())
            return super().fingerprint(hashed_password)

        def verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
            threads.append(threading.get_ident())
            return super().verify_and_update(plain_password, hashed_password)

    user = await world.insert_user()
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        manager.password_helper = Watched(weak_password_helper().password_hash)
        imported = await manager.user_db.update(await manager.get(user.id), {"hashed_password": "pbkdf2_sha256$1$x$y"})
        await manager.forgot_password(imported)

    assert len(threads) == 2
    assert threading.get_ident() not in threads


class Upgrading(PasswordHelper):
    """For which every hash is outdated; ``meanwhile`` is called after one was verified."""

    meanwhile: Callable[[], None]

    def __init__(self) -> None:
        super().__init__(weak_password_helper().password_hash)
        self.meanwhile = lambda: None

    def verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        is_right = super().verify_and_update(plain_password, hashed_password)[0]
        self.meanwhile()
        return is_right, "upgraded"


CREDENTIALS = OAuth2PasswordRequestForm(username=EMAIL, password=PASSWORD)


@pytest.mark.parametrize("adapter_class", [Copies, Underived, Silent])
async def test_whoever_logs_in_with_an_outdated_hash_has_the_new_one(adapter_class: type[Any]) -> None:
    """What the session is bound to is made of it."""
    manager = Manager(adapter_class(), Upgrading())
    user = await new_user(manager)

    found = await manager.authenticate(CREDENTIALS)

    assert found is not None
    assert found.id == user.id
    assert (await manager.get(user.id)).hashed_password == "upgraded"
    assert found.hashed_password == ("upgraded" if adapter_class is not Silent else user.hashed_password)


async def test_an_adapter_whose_update_gives_anything_back_logs_the_right_user_in() -> None:
    manager = in_memory(Upgrading())
    user = await new_user(manager)

    async def anything(user: User, update_dict: dict[str, Any]) -> Any:
        return MagicMock()

    manager.user_db.update = anything  # type: ignore[method-assign]  # as the tests of applications do

    assert await manager.authenticate(CREDENTIALS) is user


async def test_the_upgrade_of_a_hash_does_not_bring_an_old_password_back(world: World) -> None:
    """CONTRACT 8.9: the owner changes the password while somebody logs in with the old one."""
    user = await world.insert_user()
    async with world.session_maker() as session, world.session_maker() as others_session:
        manager, others = world.make_manager(session), world.make_manager(others_session)
        manager.password_helper = helper = Upgrading()
        looked_up = manager.get_by_email

        async def slow_get_by_email(email: str) -> Any:
            found = await looked_up(email)
            await others.user_db.update(await others.get(user.id), {"hashed_password": "theirs"})
            return found

        manager.get_by_email = slow_get_by_email
        assert await manager.authenticate(CREDENTIALS) is None
        manager.get_by_email = looked_up
        assert helper.verify_and_update("", "")[1] == "upgraded"

    stored = await world.reload(user)
    assert stored is not None
    assert stored.hashed_password == "theirs"


async def test_logins_that_upgrade_a_hash_at_the_same_moment_all_succeed(world: World) -> None:
    """The one that comes too late finds another hash of the same password."""
    user = await world.insert_user()
    async with world.session_maker() as session, world.session_maker() as others_session:
        manager, others = world.make_manager(session), world.make_manager(others_session)
        manager.password_helper = Upgrading()
        looked_up = manager.get_by_email
        upgraded = weak_password_helper().hash(PASSWORD)

        async def slow_get_by_email(email: str) -> Any:
            found = await looked_up(email)
            await others.user_db.update(await others.get(user.id), {"hashed_password": upgraded})
            return found

        manager.get_by_email = slow_get_by_email
        found = await manager.authenticate(CREDENTIALS)

    assert (found.id, found.hashed_password) == (user.id, upgraded)


# With the table of one-time secrets


async def test_with_the_table_a_newer_reset_token_ends_the_older_one(tabled: World) -> None:
    """Requirement 25."""
    await tabled.insert_user()
    older, newer = await reset_token(tabled), await reset_token(tabled)

    assert [await reset(tabled, older), await reset(tabled, newer), await reset(tabled, newer)] == [400, 200, 400]


async def test_with_the_table_a_login_with_the_password_ends_reset_tokens(tabled: World) -> None:
    """Requirement 25: whoever knows the password needs no new one, but whoever reads the mails may want one."""
    user = await tabled.insert_user(is_verified=True)
    token = await reset_token(tabled)
    tabled.provider.account = ("account-1", EMAIL)
    async with tabled.session_maker() as session:
        found = await tabled.make_manager(session).get(user.id)
        await tabled.make_manager(session).oauth_associate_callback(found, "provider", "t", "account-1", EMAIL)
    state = (await tabled.client.get("/oauth/authorize")).json()["authorization_url"].split("state=")[1].split("&")[0]
    assert (await tabled.client.get(f"/oauth/callback?code=CODE&state={state}")).status_code == 204
    assert await reset(tabled, token, PASSWORD) == 200  # a login at a provider tells nothing of the password

    token = await reset_token(tabled)
    await tabled.log_in()
    assert await reset(tabled, token) == 400


async def test_with_the_table_a_refused_password_leaves_the_reset_token_usable(tabled: World) -> None:
    await tabled.insert_user()
    token = await reset_token(tabled)

    assert [await reset(tabled, token, "short"), await reset(tabled, token)] == [400, 200]


async def test_with_the_table_a_verify_token_does_not_come_back_to_life(tabled: World) -> None:
    """Requirement 25: the address went away and came back."""
    await tabled.insert_user()
    headers = await tabled.log_in()
    used, unused = await verify_token(tabled), ""
    assert await verify(tabled, used) == (200, None)
    assert await verify(tabled, used) == (400, "VERIFY_USER_ALREADY_VERIFIED")
    for email in ("new@example.org", EMAIL):
        await change_email(tabled, email, headers)
    assert await verify(tabled, used) == (400, "VERIFY_USER_BAD_TOKEN")
    unused = await verify_token(tabled)
    for email in ("new@example.org", EMAIL):
        await change_email(tabled, email, headers)
    assert await verify(tabled, unused) == (400, "VERIFY_USER_BAD_TOKEN")

    older, newer = await verify_token(tabled), await verify_token(tabled)
    assert await verify(tabled, older) == (400, "VERIFY_USER_BAD_TOKEN")
    assert await verify(tabled, newer) == (200, None)


async def test_with_the_table_a_change_of_the_address_ends_reset_tokens_for_good(tabled: World) -> None:
    await tabled.insert_user()
    headers = await tabled.log_in()
    token = await reset_token(tabled)
    for email in ("new@example.org", EMAIL):
        await change_email(tabled, email, headers)

    assert await reset(tabled, token) == 400


async def test_the_table_can_be_switched_on_and_off_while_tokens_are_on_their_way(
    tabled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tabled.insert_user()
    with_row = await verify_token(tabled)
    monkeypatch.setattr(TableManager, "one_time_secret_model", None)
    without_row = await reset_token(tabled)
    assert await verify(tabled, with_row) == (200, None)

    monkeypatch.setattr(TableManager, "one_time_secret_model", worlds.OneTimeSecret)
    assert "jti" not in claims_of(without_row, RESET)
    assert await reset(tabled, without_row) == 200


async def test_tokens_that_an_override_makes_count_with_the_table_too(tabled: World) -> None:
    user = await tabled.insert_user()
    own = {"sub": str(user.id), "password_fgpt": weak_password_helper().hash(user.hashed_password), "aud": RESET}

    assert await reset(tabled, generate_jwt({**own, "jti": "of another one"}, SECRET, 60)) == 400
    assert await reset(tabled, generate_jwt(own, SECRET, 60)) == 200


async def test_a_token_that_never_ends_has_no_row(tabled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TableManager, "verification_token_lifetime_seconds", 0)
    await tabled.insert_user()

    claims = claims_of(await verify_token(tabled), VERIFY)

    assert claims.keys() == {"sub", "email", "aud"}


async def test_the_row_of_a_token_lives_as_long_as_the_token(tabled: World) -> None:
    await tabled.insert_user()
    with frozen_clock() as clock:
        reset_it, verify_it = await reset_token(tabled), await verify_token(tabled)
        clock.advance(seconds=3599)
        assert await verify(tabled, verify_it) == (200, None)
        assert await reset(tabled, reset_it) == 200


async def test_of_a_mailed_token_the_table_holds_a_digest(tabled: World) -> None:
    user = await tabled.insert_user()
    token = await reset_token(tabled)
    async with tabled.session_maker() as session:
        manager = tabled.make_manager(session)
        (row,) = await manager.user_db.store(worlds.OneTimeSecret).list({})

    assert (row.purpose, row.subject) == ("reset-password", str(user.id))
    assert claims_of(token, RESET)["jti"] not in (row.digest, token)


# Whatever else comes for a token


class EmailChange(Manager):
    email_change_requires_confirmation = True


async def one_of_each(manager: Manager, user: User) -> dict[str, str]:
    manager.tokens.clear()
    await manager.forgot_password(user)
    await manager.request_verify(user)
    update: Any = MagicMock(create_update_dict=lambda: {"email": f"new.{user.email}"})
    await manager.update(update, user, safe=True)
    return dict(zip(("reset", "verify", "email-change"), manager.tokens, strict=True))


async def effect_of(manager: Manager, token: str, route: str) -> str | None:
    """Which kind of token it was taken for."""
    try:
        if route == "reset":
            await manager.reset_password(token, NEW_PASSWORD)
            return "reset"
        verified = await manager.verify(token)
    except (InvalidResetPasswordToken, InvalidVerifyToken, UserNotExists):
        return None
    return "email-change" if verified.email.startswith("new.") else "verify"


KINDS = st.sampled_from(["reset", "verify", "email-change"])


@given(
    kind=KINDS,
    route=st.sampled_from(["reset", "verify"]),
    has_table=st.booleans(),
    change=st.sampled_from(["none", "cut", "padded", "flipped", "other secret", "other user", "other audience"]),
    place=st.floats(0, 0.999),
)
async def test_a_token_does_what_it_was_made_for_and_nothing_else(
    kind: str, route: str, has_table: bool, change: str, place: float
) -> None:
    """Swapped kinds, other users, broken texts: requirement 55."""
    manager = EmailChange(InMemoryUserDatabase[User, uuid.UUID](User))
    manager.one_time_secret_model = OneTimeSecret if has_table else None
    ann, bob = await new_user(manager), await new_user(manager, "bob@example.org")
    token = (await one_of_each(manager, ann))[kind]
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    at = int(place * len(token))
    flipped = "A" if token[at] != "A" else "B"
    changed = {
        "none": token,
        "cut": token[:at],
        "padded": f"{token[:at]} {token[at:]}",
        "flipped": f"{token[:at]}{flipped}{token[at + 1 :]}",
        "other secret": generate_jwt(claims, "another secret, also longer than 32 bytes"),
        "other user": generate_jwt({**claims, "sub": str(bob.id)}, SECRET),
        "other audience": generate_jwt({**claims, "aud": "fastapi-users:auth"}, SECRET),
    }[change]

    effect = await effect_of(manager, changed, route)

    is_at_its_route = (kind == "reset") == (route == "reset")
    # The last character of a signature has bits that mean nothing, so that a flip there may be none.
    may_count = is_at_its_route and (change == "none" or (change == "flipped" and at == len(token) - 1))
    assert effect == kind if is_at_its_route and change == "none" else effect in ({kind, None} if may_count else {None})
    assert (bob.email, bob.is_verified) == ("bob@example.org", False)
    assert weak_password_helper().verify_and_update(PASSWORD, bob.hashed_password)[0]


@given(token=st.text() | st.binary().map(lambda value: value.decode("latin-1")))
async def test_what_is_no_token_is_refused(token: str) -> None:
    manager = in_memory()

    assert await effect_of(manager, token, "reset") is None
    assert await effect_of(manager, token, "verify") is None


@given(
    claims=st.fixed_dictionaries(
        {"aud": st.sampled_from([RESET, VERIFY, "fastapi-users:email-change"])},
        optional={
            name: st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())
            for name in ("email", "email_fgpt", "hash_fgpt", "jti", "password_fgpt")
        }
        | {"sub": st.none() | st.text() | st.just("ann")},
    ),
    has_table=st.booleans(),
)
async def test_claims_of_any_kind_are_refused_and_are_no_error(claims: dict[str, Any], has_table: bool) -> None:
    """Signed by us: an application that signs other things with the same secret."""
    manager = in_memory()
    manager.one_time_secret_model = OneTimeSecret if has_table else None
    ann = await new_user(manager)
    if claims.get("sub") == "ann":
        claims["sub"] = str(ann.id)
    token = generate_jwt(claims, SECRET)

    assert await effect_of(manager, token, "reset") is None
    assert await effect_of(manager, token, "verify") is None
