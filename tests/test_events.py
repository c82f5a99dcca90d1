import dataclasses
import logging
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from fastapi_users import events
from fastapi_users.events import (
    Deleted,
    EmailChanged,
    EmailChangeRequested,
    Event,
    LoggedIn,
    LoggedOut,
    LoginFailed,
    OAuthAccountLinked,
    PasswordChanged,
    PasswordResetRequested,
    Reauthenticated,
    Registered,
    RequestFacts,
    Subscribers,
    Updated,
    VerificationRequested,
    Verified,
    get_client_address,
    get_request_facts,
)
from fastapi_users.testing import InMemoryUserDatabase, User, weak_password_helper
from tests.router.test_oauth import begin, finish
from tests.world import PASSWORD, Note, UserManager, World

EMAIL = "ann@example.org"
CREDENTIALS = {"username": EMAIL, "password": PASSWORD}


class ObservedManager(UserManager):
    """Each test makes subscribers of its own."""

    trusted_proxies = ("10.0.0.0/8",)

    def __init__(self, user_db: Any, world: World) -> None:
        super().__init__(user_db, world)
        self.subscribers = getattr(world, "subscribers", None)


class ObservedWorld(World):
    subscribers: Subscribers


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ObservedWorld]:
    async with ObservedWorld.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=ObservedManager) as world:
        assert isinstance(world, ObservedWorld)
        world.subscribers = Subscribers()
        yield world


@pytest.fixture
def told(world: ObservedWorld) -> list[Event]:
    """Every event, after its commit."""
    told: list[Event] = []

    @world.subscribers.after_commit()
    async def remember(event: Event, user_manager: Any) -> None:
        told.append(event)

    return told


def essence(told: list[Event]) -> list[tuple[type[Event], dict[str, Any]]]:
    return [(type(event), event.data) for event in told]


async def test_everything_that_happens_to_an_account_is_told_once(world: ObservedWorld, told: list[Event]) -> None:
    client, root = world.client, await world.insert_user("root@example.org", is_superuser=True)
    user_id = (await client.post("/auth/register", json={"email": EMAIL, "password": PASSWORD})).json()["id"]
    await client.post("/auth/request-verify-token", json={"email": EMAIL})
    await client.post("/auth/verify", json={"token": world.outbox.token(to=EMAIL)})
    await client.post("/auth/jwt/login", data={**CREDENTIALS, "password": "wrong"})
    await client.post("/auth/cookie/login", data=CREDENTIALS)
    await client.post("/auth/cookie/reauthenticate", json={"password": PASSWORD})
    await client.patch("/users/me", json={"nickname": "Ann", "password": PASSWORD, "email": "new@example.org"})
    await client.post("/auth/cookie/logout")
    await client.post("/auth/forgot-password", json={"email": "new@example.org"})
    body = {"token": world.outbox.token(to="new@example.org"), "password": PASSWORD}
    await client.post("/auth/reset-password", json=body)
    by_ann, by_root = list(told), len(told)
    headers = await world.log_in("root@example.org")
    await client.patch(f"/users/{user_id}", json={"is_active": False, "is_superuser": False}, headers=headers)
    await client.delete(f"/users/{user_id}", headers=headers)

    assert {event.user_id for event in by_ann} == {uuid.UUID(user_id)}
    assert told[by_root].user_id == root.id
    assert essence(told) == [
        (Registered, {"email": EMAIL, "oauth_name": None}),
        (VerificationRequested, {}),
        (Verified, {"email": EMAIL}),
        (LoginFailed, {"identifier": EMAIL, "method": "pwd"}),
        (LoggedIn, {"methods": ("pwd",), "backend": "cookie"}),
        (Reauthenticated, {"methods": ("pwd",), "backend": "cookie"}),
        (PasswordChanged, {"is_reset": False}),
        (EmailChanged, {"old_email": EMAIL, "new_email": "new@example.org"}),
        (Updated, {"fields": ("nickname",), "flags": {}}),
        (LoggedOut, {"backend": "cookie"}),
        (PasswordResetRequested, {}),
        (PasswordChanged, {"is_reset": True}),
        (LoggedIn, {"methods": ("pwd",), "backend": "jwt"}),
        (Updated, {"fields": ("is_active", "is_superuser"), "flags": {"is_active": False}}),
        (Deleted, {"email": "new@example.org"}),
    ]
    assert PASSWORD not in repr(told)
    assert "$argon2" not in repr(told)


async def test_a_change_of_the_address_that_is_confirmed_is_told_at_both_ends(
    world: ObservedWorld, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens: list[str] = []

    async def keep(self: Any, user: Any, new_email: str, token: str, request: Any) -> None:
        tokens.append(token)

    monkeypatch.setattr(ObservedManager, "email_change_requires_confirmation", True)
    monkeypatch.setattr(ObservedManager, "on_after_request_email_change", keep)
    await world.insert_user()
    await world.client.patch("/users/me", json={"email": "new@example.org"}, headers=await world.log_in())
    await world.client.post("/auth/verify", json={"token": tokens[0]})

    assert essence(told)[1:] == [
        (EmailChangeRequested, {"new_email": "new@example.org"}),
        (EmailChanged, {"old_email": EMAIL, "new_email": "new@example.org"}),
        (Verified, {"email": "new@example.org"}),
    ]
    assert tokens[0] not in repr(told)


async def test_logins_through_a_provider_are_told_like_others(world: ObservedWorld, told: list[Event]) -> None:
    await finish(world.client, "oauth", state=await begin(world.client, "oauth"))
    await world.insert_user("bob@example.org")
    headers = await world.log_in("bob@example.org")
    world.provider.account = ("account-2", "bob@example.org")
    await finish(world.client, "associate", headers, state=await begin(world.client, "associate", headers))

    assert essence(told) == [
        (Registered, {"email": EMAIL, "oauth_name": "provider"}),
        (LoggedIn, {"methods": ("fed",), "backend": "cookie"}),
        (LoggedIn, {"methods": ("pwd",), "backend": "jwt"}),
        (OAuthAccountLinked, {"oauth_name": "provider", "account_id": "account-2"}),
    ]


@pytest.mark.parametrize(
    ("username", "identifier"),
    [("bob@example.org", "bob@example.org"), ("correct@horse@a.bc", None), ("P@ssw0rd!", None), ("@" * 9, None)],
)
async def test_a_password_that_was_typed_into_the_wrong_field_is_not_told(
    world: ObservedWorld, told: list[Event], username: str, identifier: str | None
) -> None:
    await world.client.post("/auth/jwt/login", data={"username": username, "password": "x"})

    assert [(event.user_id, event.data) for event in told] == [(None, {"identifier": identifier, "method": "pwd"})]


async def test_an_event_knows_where_its_request_came_from(world: ObservedWorld, told: list[Event]) -> None:
    await world.client.post(
        "/auth/register",
        json={"email": EMAIL, "password": PASSWORD},
        headers={"User-Agent": "curl/8\t" + "x" * 1000, "X-Forwarded-For": "203.0.113.9"},
    )

    (registered,) = told
    # The client is 127.0.0.1, which is no proxy of this application: its word does not count.
    assert registered.request == RequestFacts(address="127.0.0.1", agent="curl/8 " + "x" * 249)
    assert registered.time.tzinfo is timezone.utc


async def test_what_subscribers_write_in_the_transaction_counts_together_with_the_change(world: ObservedWorld) -> None:
    """E7: after a hook that fails, the user is there all the same."""

    @world.subscribers.in_transaction(Deleted, Verified)
    @world.subscribers.after_commit(Deleted)
    async def never(event: Event, user_manager: Any) -> None: ...

    @world.subscribers.in_transaction(Registered)
    async def write_down(event: Registered, user_manager: Any) -> None:
        await user_manager.user_db.store(Note).create({"name": event.email, "number": 1})
        if event.email == "bob@example.org":
            raise OSError

    @world.subscribers.after_commit(Registered)
    async def never_for_bob(event: Registered, user_manager: Any) -> None:
        assert event.email == EMAIL

    await world.client.post("/auth/register", json={"email": EMAIL, "password": PASSWORD})
    with pytest.raises(OSError):
        await world.client.post("/auth/register", json={"email": "bob@example.org", "password": PASSWORD})

    async with world.session_maker() as session:
        manager = world.make_manager(session)
        assert [note.name for note in await manager.user_db.store(Note).list({})] == [EMAIL]
        assert await manager.user_db.get_by_email("bob@example.org") is None
    assert world.hooks == [("registered", EMAIL)]


@pytest.mark.parametrize("change", [{"password": PASSWORD}, {"email": "new@example.org"}, {"nickname": "Ann"}])
async def test_a_subscriber_in_the_transaction_undoes_an_update(world: ObservedWorld, change: dict[str, str]) -> None:
    @world.subscribers.in_transaction(PasswordChanged, EmailChanged, Updated)
    async def refuse(event: Event, user_manager: Any) -> None:
        raise OSError

    user = await world.insert_user()
    with pytest.raises(OSError):
        await world.client.patch("/users/me", json=change, headers=await world.log_in())

    kept = await world.reload(user)
    assert kept is not None
    assert (kept.email, kept.nickname, kept.hashed_password) == (EMAIL, None, user.hashed_password)


async def test_a_subscriber_that_fails_after_the_commit_is_logged_and_breaks_nothing(
    world: ObservedWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """E7: after a hook that fails, the answer is a 500."""
    called: list[str] = []

    @world.subscribers.after_commit(Registered)
    async def fail(event: Registered, user_manager: Any) -> None:
        raise OSError("the webhook is down")

    @world.subscribers.after_commit(Registered)
    async def fail_in_the_database(event: Registered, user_manager: Any) -> None:
        """What it leaves in the session of the request has to be cleared away."""
        session = user_manager.user_db.session
        session.add_all([Note(name="twice", number=1), Note(name="twice", number=2)])
        await session.flush()

    @world.subscribers.after_commit(Registered, Deleted)
    async def go_on(event: Event, user_manager: Any) -> None:
        async with world.session_maker() as session:  # what is told after the commit can be seen by others
            assert await world.make_manager(session).get_by_email(EMAIL)
        called.append(event.name)

    with caplog.at_level(logging.ERROR, "fastapi_users.events"):
        answer = await world.client.post("/auth/register", json={"email": EMAIL, "password": PASSWORD})

    assert answer.status_code == 201
    assert called == ["registered"]
    assert [record.getMessage() for record in caplog.records] == [
        "A subscriber of 'registered' failed after the commit."
    ] * 2
    assert world.hooks == [("registered", EMAIL)]


async def test_inside_a_transaction_of_the_application_they_wait_for_its_end(
    world: ObservedWorld, told: list[Event]
) -> None:
    user = await world.insert_user()
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        async with manager.user_db.transaction():
            await manager.delete(await manager.get(user.id))
            assert told == []
        assert [event.name for event in told] == ["deleted"]


async def test_an_adapter_that_is_just_an_object_is_told_at_once() -> None:
    class EightMethods:
        def __init__(self) -> None:
            self.database = InMemoryUserDatabase[User, uuid.UUID](User)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.database, name)

    told: list[str] = []
    subscribers = Subscribers()

    @subscribers.after_commit()
    async def remember(event: Event, user_manager: Any) -> None:
        told.append(event.name)
        raise OSError

    adapter: Any = EightMethods()
    user = await adapter.create({"email": EMAIL, "hashed_password": weak_password_helper().hash(PASSWORD)})
    world: Any = None
    manager = UserManager(adapter, world)
    manager.subscribers = subscribers
    manager.note = lambda *_: None  # type: ignore[method-assign]  # there is no world to note it in
    await manager.delete(user)

    assert told == ["deleted"]


def test_a_decorator_without_its_parentheses_is_an_error() -> None:
    subscribers = Subscribers()
    with pytest.raises(TypeError, match=r"Write @subscribers\.after_commit\(\)"):

        @subscribers.after_commit  # type: ignore[arg-type]  # that is what is tested
        async def never(event: Event, user_manager: Any) -> None: ...


async def test_an_attribute_of_the_application_that_has_the_name_is_left_alone(world: ObservedWorld) -> None:
    subscribers_of_a_newsletter: Any = ["ann@example.org"]
    world.subscribers = subscribers_of_a_newsletter

    assert (await world.client.post("/auth/register", json={"email": EMAIL, "password": PASSWORD})).status_code == 201


def kinds_of_events() -> list[type[Event]]:
    return [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]


def test_every_kind_of_event_has_a_name_of_its_own_and_cannot_be_changed() -> None:
    kinds = set(kinds_of_events()) - {Event}
    event = Verified(user_id=1, email=EMAIL)

    assert len({kind.name for kind in kinds}) == len(kinds) == 16
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.email = "other@example.org"  # type: ignore[misc]  # that is what is tested


def connection(client: str | None, *forwarded: str, agent: str | None = None) -> HTTPConnection:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    if agent is not None:
        headers.append((b"user-agent", agent.encode("latin-1")))
    return HTTPConnection({"type": "http", "client": client and (client, 1234), "headers": headers})


PROXIES = ("10.0.0.0/8", "2001:db8::/32")


@pytest.mark.parametrize(
    ("client", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),  # not from a proxy of ours
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),  # the left part is the sender's own word
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),  # several headers are one list
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db9::1]:4711"], "2001:db9::1"),
        ("2001:db8::1", ["2001:DB9:0::1"], "2001:db9::1"),
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("testclient", ["203.0.113.9"], None),
        (None, ["203.0.113.9"], None),
    ],
)
def test_the_address_is_the_nearest_that_is_no_proxy_of_ours(
    client: str | None, forwarded: list[str], address: str | None
) -> None:
    assert get_client_address(connection(client, *forwarded), PROXIES) == address


@given(client=st.text(max_size=50), forwarded=st.lists(st.text(st.characters(max_codepoint=255))))
def test_whatever_is_forwarded_is_an_address_or_nothing(client: str, forwarded: list[str]) -> None:
    facts = get_request_facts(connection(client or "10.0.0.1", *forwarded), PROXIES)

    assert facts is not None
    assert facts.address is None or set(facts.address) <= set("0123456789abcdef:.%") | set(client)


def test_a_network_that_is_none_is_an_error_of_the_application() -> None:
    with pytest.raises(ValueError, match="everywhere"):
        get_client_address(connection("10.0.0.1"), ["everywhere"])


@pytest.mark.parametrize(("agent", "told"), [(None, None), ("a\x00b\nc", "a b c")])
def test_the_agent_is_one_printable_line(agent: str | None, told: str | None) -> None:
    facts = get_request_facts(connection("192.0.2.1", agent=agent))

    assert facts == RequestFacts(address="192.0.2.1", agent=told)


def test_what_is_no_request_has_no_facts() -> None:
    anything: Any = "a request of the tests of an application"

    assert get_request_facts(anything) is None
    assert Event(user_id=1).time - Event(user_id=1).time < timedelta(minutes=1)
