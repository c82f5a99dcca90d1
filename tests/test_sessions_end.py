"""Sessions end when the credentials change behind them, but for the one that made the change."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from httpx import ASGITransport, AsyncClient, Response
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import text, update

from fastapi_users import FastAPIUsers
from fastapi_users.authentication import (
    AuthenticationBackend,
    BearerTransport,
    CookieTransport,
    JWTStrategy,
    RedisStrategy,
)
from fastapi_users.authentication.strategy import DatabaseStrategy, InMemoryDenylist
from fastapi_users.db import SQLAlchemyUserDatabase
from fastapi_users.jwt import generate_jwt
from fastapi_users.mail import Message
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase
from tests.services import connect_redis
from tests.world import PASSWORD, SECRET, AccessToken, OAuthAccount, User, UserManager, UserRead, UserUpdate, World

NEW_PASSWORD = "another horse, another battery"
BACKENDS = ("jwt_bearer", "jwt_cookie", "database_bearer", "database_cookie", "redis_cookie")


class LenientManager(UserManager):
    sessions_end_with_credentials = False


class Application:
    """Every transport with every strategy, each with routes of its own."""

    def __init__(
        self, world: World, redis: Any, manager_class: type[Any] = UserManager, *, denylist: Any = None
    ) -> None:
        self.world = world
        self.redis = redis
        prefix = f"test {uuid.uuid4()} "

        async def get_session() -> AsyncIterator[Any]:
            async with world.session_maker() as session:
                yield session

        def get_user_manager(session: Any = Depends(get_session)) -> Any:
            return manager_class(SQLAlchemyUserDatabase(session, User, OAuthAccount), world)

        def get_database_strategy(session: Any = Depends(get_session)) -> Any:
            return DatabaseStrategy(SQLAlchemyAccessTokenDatabase(session, AccessToken), 3600)

        def get_jwt_strategy() -> Any:
            return JWTStrategy(SECRET, 3600, revoke=denylist)

        def get_redis_strategy() -> Any:
            return RedisStrategy(redis, 3600, key_prefix=prefix)

        strategies = {"jwt": get_jwt_strategy, "database": get_database_strategy, "redis": get_redis_strategy}
        self.backends = {}
        for name in BACKENDS:
            strategy, transport = name.split("_")
            self.backends[name] = AuthenticationBackend[User, uuid.UUID](
                name,
                CookieTransport(cookie_name=name) if transport == "cookie" else BearerTransport("login"),
                strategies[strategy],
            )
        users = FastAPIUsers[User, uuid.UUID](get_user_manager, list(self.backends.values()))
        self.app = FastAPI()
        for name, backend in self.backends.items():
            self.app.include_router(users.get_auth_router(backend), prefix=f"/{name}")
        self.app.include_router(users.get_users_router(UserRead, UserUpdate), prefix="/users")
        self.app.include_router(users.get_reset_password_router())
        self.app.include_router(users.get_verify_router(UserRead))
        self.app.include_router(
            users.get_oauth_router(world.provider, self.backends["jwt_cookie"], SECRET, associate_by_email=True),
            prefix="/oauth",
        )

    def new_client(self) -> AsyncClient:
        return AsyncClient(transport=ASGITransport(self.app), base_url="https://app.test")

    async def log_in(self, backend: str, email: str = "ann@example.org", password: str = PASSWORD) -> AsyncClient:
        """A browser, or a script, with a session of its own."""
        client = self.new_client()
        answer = await client.post(f"/{backend}/login", data={"username": email, "password": password})
        assert answer.is_success, answer.text
        if backend.endswith("bearer"):
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    async def log_in_everywhere(self, **credentials: str) -> dict[str, AsyncClient]:
        return {name: await self.log_in(name, **credentials) for name in BACKENDS}


@pytest.fixture
async def application(tmp_path: Path) -> AsyncIterator[Application]:
    redis = await connect_redis(decode_responses=True)
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}") as world:
        yield Application(world, redis)
    await redis.aclose()


async def alive(sessions: dict[str, AsyncClient]) -> set[str]:
    answers = {name: await client.get("/users/me") for name, client in sessions.items()}
    assert {answer.status_code for answer in answers.values()} <= {200, 401}
    return {name for name, answer in answers.items() if answer.status_code == 200}


async def execute(application: Application, statement: str) -> None:
    async with application.world.session_maker() as session:
        await session.execute(text(statement))
        await session.commit()


def take_reissued_token(client: AsyncClient, answer: Response) -> None:
    """What a script has to do with a bearer token; a browser takes a new cookie by itself."""
    if "authorization" in answer.headers:
        client.headers["Authorization"] = answer.headers["authorization"]


@pytest.mark.parametrize("change", [{"password": NEW_PASSWORD}, {"email": "new@example.org"}])
@pytest.mark.parametrize("changing", BACKENDS)
async def test_a_change_ends_all_sessions_but_the_one_that_made_it(
    application: Application, changing: str, change: dict[str, str]
) -> None:
    """D4, requirements 45 and 44; ASVS 7.4.3."""
    await application.world.insert_user()
    sessions = await application.log_in_everywhere()
    own = sessions["own"] = await application.log_in(changing)
    assert await alive(sessions) == {*BACKENDS, "own"}

    answer = await own.patch("/users/me", json=change)
    assert answer.status_code == 200
    take_reissued_token(own, answer)

    assert await alive(sessions) == {"own"}


@pytest.mark.parametrize("changing", ["jwt_bearer", "jwt_cookie", "database_cookie"])
async def test_backends_may_share_a_list_of_ended_tokens(application: Application, changing: str) -> None:
    """What one of them has just issued again must not end with what the next one ends."""
    application = Application(application.world, application.redis, denylist=InMemoryDenylist())
    await application.world.insert_user()
    sessions = await application.log_in_everywhere()
    own = sessions["own"] = await application.log_in(changing)

    for password in (NEW_PASSWORD, PASSWORD):
        answer = await own.patch("/users/me", json={"password": password})
        take_reissued_token(own, answer)

    assert await alive(sessions) == {"own"}


async def test_a_request_with_two_sessions_keeps_both(application: Application) -> None:
    await application.world.insert_user()
    both = await application.log_in("jwt_bearer")
    await both.post("/redis_cookie/login", data={"username": "ann@example.org", "password": PASSWORD})

    answer = await both.patch("/users/me", json={"password": NEW_PASSWORD})
    take_reissued_token(both, answer)
    cookie_only = application.new_client()
    cookie_only.cookies.update(both.cookies)
    del both.cookies["redis_cookie"]

    assert await alive({"bearer": both, "cookie": cookie_only}) == {"bearer", "cookie"}


async def store_an_outdated_hash(application: Application, user: User) -> User:
    async with application.world.session_maker() as session:
        outdated = Argon2Hasher(time_cost=2, memory_cost=8, parallelism=1).hash(PASSWORD)
        await session.execute(update(User).values(hashed_password=outdated))
        await session.commit()
    stored = await application.world.reload(user)
    assert stored is not None
    return stored


async def test_a_better_hash_of_the_current_password_keeps_the_session_that_proved_it(application: Application) -> None:
    """The fingerprint in its JWT is one of the hash that was there before."""
    stored = await store_an_outdated_hash(application, await application.world.insert_user())
    own = application.new_client()
    own.cookies.set("jwt_cookie", await JWTStrategy[User, uuid.UUID](SECRET, 3600).write_token(stored))

    answer = await own.patch("/users/me", json={"current_password": PASSWORD, "nickname": "Ann"})

    assert answer.status_code == 200
    assert await alive({"own": own}) == {"own"}


async def test_a_better_hash_ends_nothing_where_the_switch_says_so(application: Application) -> None:
    application = Application(application.world, application.redis, LenientManager)
    user = await application.world.insert_user()
    sessions = await application.log_in_everywhere()
    await store_an_outdated_hash(application, user)

    answer = await sessions["jwt_cookie"].patch("/users/me", json={"current_password": PASSWORD})

    assert answer.status_code == 200
    assert await alive(sessions) == set(BACKENDS)


async def test_a_change_of_anything_else_ends_nothing(application: Application) -> None:
    await application.world.insert_user()
    sessions = await application.log_in_everywhere()

    answer = await sessions["jwt_cookie"].patch("/users/me", json={"nickname": "Ann", "email": "ann@example.org"})

    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert await alive(sessions) == set(BACKENDS)


async def test_sessions_of_others_go_on(application: Application) -> None:
    await application.world.insert_user()
    await application.world.insert_user("bob@example.org")
    sessions = await application.log_in_everywhere(email="bob@example.org")
    own = await application.log_in("database_cookie")

    assert (await own.patch("/users/me", json={"password": NEW_PASSWORD})).status_code == 200

    assert await alive(sessions) == set(BACKENDS)


async def test_a_reset_ends_every_session(application: Application) -> None:
    """Requirements 29 and 36; sessions.db_token_after_reset, jwt_after_reset."""
    await application.world.insert_user()
    sessions = await application.log_in_everywhere()
    client = application.new_client()
    await client.post("/forgot-password", json={"email": "ann@example.org"})
    token = application.world.outbox.token(to="ann@example.org")

    answer = await client.post("/reset-password", json={"token": token, "password": NEW_PASSWORD})

    assert answer.status_code == 200
    assert await alive(sessions) == set()


async def test_a_superuser_ends_sessions_of_others_and_keeps_the_own(application: Application) -> None:
    """Requirement 45; sessions.*_after_admin_password_change."""
    user = await application.world.insert_user()
    await application.world.insert_user("root@example.org", is_superuser=True)
    for name in BACKENDS:
        root = await application.log_in(name, "root@example.org")
        sessions = await application.log_in_everywhere()

        answer = await root.patch(f"/users/{user.id}", json={"password": PASSWORD})

        assert answer.status_code == 200
        assert not {"authorization", "set-cookie"} & set(answer.headers)
        assert await alive(sessions) == set()
        assert await alive({"root": root}) == {"root"}


async def test_a_superuser_who_changes_the_own_password_there_stays(application: Application) -> None:
    root = await application.world.insert_user("root@example.org", is_superuser=True)
    for name in BACKENDS:
        sessions = {"own": await application.log_in(name, "root@example.org")}

        answer = await sessions["own"].patch(f"/users/{root.id}", json={"password": PASSWORD})
        take_reissued_token(sessions["own"], answer)

        assert await alive(sessions) == {"own"}


async def test_who_is_deactivated_does_not_come_back_with_an_old_token_of_a_server(application: Application) -> None:
    """Requirement 44; sessions.reactivation_revives. JWTs need a denylist for it: see the tests of their strategy."""
    user = await application.world.insert_user()
    await application.world.insert_user("root@example.org", is_superuser=True)
    root, sessions = await application.log_in("jwt_cookie", "root@example.org"), await application.log_in_everywhere()

    for is_active in (False, True):
        assert (await root.patch(f"/users/{user.id}", json={"is_active": is_active})).status_code == 200

    assert await alive(sessions) == {"jwt_bearer", "jwt_cookie"}


async def test_no_session_outlives_its_user(application: Application) -> None:
    """D20, weakness 8: also where the database does not enforce foreign keys, and somebody else gets the id."""
    user = await application.world.insert_user()
    await application.world.insert_user("root@example.org", is_superuser=True)
    root, sessions = await application.log_in("jwt_cookie", "root@example.org"), await application.log_in_everywhere()

    assert (await root.delete(f"/users/{user.id}")).status_code == 204
    await application.world.insert_user("heir@example.org", id=user.id)

    assert await alive(sessions) == set()
    async with application.world.session_maker() as session:
        assert (await session.execute(text("SELECT count(*) FROM accesstoken"))).scalar() == 0


async def test_a_superuser_who_goes_leaves_no_session_behind(application: Application) -> None:
    """Not even the one in which that was done: somebody else may get the id, or the account be activated again."""
    root = await application.world.insert_user("root@example.org", is_superuser=True)
    for name in BACKENDS:
        own = await application.log_in(name, "root@example.org")
        answer = await own.patch(f"/users/{root.id}", json={"is_active": False})
        assert answer.status_code == 200
        assert not {"authorization", "set-cookie"} & set(answer.headers)
        await execute(application, "UPDATE user SET is_active = 1")
        assert await alive({name: own}) <= {"jwt_bearer", "jwt_cookie"}

    sessions = await application.log_in_everywhere(email="root@example.org")
    assert (await sessions["redis_cookie"].delete(f"/users/{root.id}")).status_code == 204
    await application.world.insert_user("heir@example.org", id=root.id)
    assert await alive(sessions) == set()


@pytest.mark.parametrize("is_lenient", [False, True])
async def test_linking_by_address_ends_the_sessions_of_who_never_verified_it(
    application: Application, is_lenient: bool
) -> None:
    """D6, oauth.prehijack_session (Sudhodanan and Paverd): whoever registered the address of another is out."""
    if is_lenient:
        application = Application(application.world, application.redis, LenientManager)
    await application.world.insert_user()
    sessions = await application.log_in_everywhere()
    owner = application.new_client()
    url = (await owner.get("/oauth/authorize")).json()["authorization_url"]
    state = dict(part.split("=", 1) for part in url.partition("?")[2].split("&"))["state"]

    assert (await owner.get("/oauth/callback", params={"code": "CODE", "state": state})).status_code == 204

    # The switch leaves JWTs alone, whatever happens.
    left = {"jwt_bearer", "jwt_cookie"} if is_lenient else set()
    assert await alive({**sessions, "owner": owner}) == {"owner", *left}


class ConfirmingManager(UserManager):
    email_change_requires_confirmation = True

    async def on_after_request_email_change(
        self, user: User, new_email: str, token: str, request: Any | None = None
    ) -> None:
        await self.world.outbox.send(Message(to=new_email, subject="Confirm", text=f"Your token: {token}"))


async def test_every_session_ends_when_a_new_address_is_confirmed(application: Application) -> None:
    """And none before: the address has not changed yet."""
    await application.world.insert_user()
    confirming = Application(application.world, application.redis, ConfirmingManager)
    sessions = await confirming.log_in_everywhere()
    assert (await sessions["jwt_bearer"].patch("/users/me", json={"email": "new@example.org"})).status_code == 200
    assert await alive(sessions) == set(BACKENDS)

    token = application.world.outbox.token(to="new@example.org")
    answer = await confirming.new_client().post("/verify", json={"token": token})

    assert (answer.status_code, answer.json()["email"]) == (200, "new@example.org")
    assert await alive(sessions) == set()


async def test_one_switch_leaves_the_sessions_as_upstream_does(application: Application) -> None:
    application = Application(application.world, None, LenientManager)
    del application.backends["redis_cookie"]
    await application.world.insert_user()
    names = [name for name in BACKENDS if name != "redis_cookie"]
    sessions = {name: await application.log_in(name) for name in names}
    own = await application.log_in("jwt_cookie")

    for change in ({"password": NEW_PASSWORD}, {"email": "new@example.org"}):
        assert (await own.patch("/users/me", json=change)).status_code == 200

    assert await alive(sessions) == set(names)


async def test_a_jwt_of_upstream_lives_out_its_time(application: Application) -> None:
    user = await application.world.insert_user()
    token = generate_jwt({"sub": str(user.id), "aud": ["fastapi-users:auth"]}, SECRET, 3600)
    sessions = {"upstream's": application.new_client()}
    sessions["upstream's"].headers["Authorization"] = f"Bearer {token}"
    own = await application.log_in("jwt_cookie")

    assert (await own.patch("/users/me", json={"password": NEW_PASSWORD})).status_code == 200

    assert await alive(sessions) == {"upstream's"}


async def test_what_is_refused_ends_nothing(application: Application) -> None:
    await application.world.insert_user()
    await application.world.insert_user("bob@example.org")
    sessions = await application.log_in_everywhere()

    for change in ({"password": "short"}, {"email": "bob@example.org"}):
        assert (await sessions["jwt_cookie"].patch("/users/me", json=change)).status_code == 400

    assert await alive(sessions) == set(BACKENDS)


# Logging out


async def test_a_route_ends_the_session_of_its_own_backend(application: Application) -> None:
    """D13, CONTRACT 16 row 26, sessions.logout_with_both_credentials: not that of the first backend."""
    await application.world.insert_user()
    both = await application.log_in("jwt_bearer")
    login = await both.post("/database_cookie/login", data={"username": "ann@example.org", "password": PASSWORD})
    stolen = application.new_client()
    stolen.cookies.update(login.cookies)

    assert (await both.post("/database_cookie/logout")).status_code == 204

    assert await alive({"stolen": stolen, "bearer": both}) == {"bearer"}


@pytest.mark.parametrize("cookie", ["stale", "", "\u00e9".encode().decode("latin-1")])
async def test_a_cookie_goes_also_when_its_session_has_ended(application: Application, cookie: str) -> None:
    """D14."""
    client = application.new_client()

    answer = await client.post("/database_cookie/logout", headers={b"cookie": f"database_cookie={cookie}".encode()})

    assert answer.status_code == 401
    assert answer.headers["set-cookie"].startswith('database_cookie=""; HttpOnly; Max-Age=0;')
    assert "set-cookie" not in (await client.post("/database_bearer/logout")).headers


async def test_who_was_deactivated_can_still_log_out(application: Application) -> None:
    """D14: the answer stays 401, and the session is gone all the same."""
    user = await application.world.insert_user()
    client = await application.log_in("redis_cookie")
    await execute(application, "UPDATE user SET is_active = 0")

    answer = await client.post("/redis_cookie/logout")
    await execute(application, "UPDATE user SET is_active = 1")

    assert answer.status_code == 401
    assert answer.headers["set-cookie"].startswith('redis_cookie="";')
    assert (await client.get("/users/me")).status_code == 401
    assert await application.world.reload(user) is not None


# What a 401 asks for


async def test_a_refusal_says_that_a_bearer_token_is_wanted(application: Application) -> None:
    """CONTRACT 16 row 21, E10; RFC 6750, section 3."""
    client = application.new_client()

    answer = await client.get("/users/me")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json() == {"detail": "Unauthorized"}

    answer = await client.get("/users/me", headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')


async def test_a_strategy_that_fails_keeps_the_others_from_ending_nothing(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    await application.world.insert_user()
    own, other = await application.log_in("jwt_bearer"), await application.log_in("redis_cookie")

    async def fail(*_: Any, **__: Any) -> int:
        raise TimeoutError

    monkeypatch.setattr(DatabaseStrategy, "destroy_all_tokens", fail)
    with pytest.raises(TimeoutError):
        await own.patch("/users/me", json={"password": NEW_PASSWORD})

    assert (await other.get("/users/me")).status_code == 401
