import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jwt
import pytest

from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users.authentication import JWTStrategy
from fastapi_users.features.sessions import RefreshTokenStrategy
from fastapi_users.jwt import generate_jwt
from fastapi_users.testing import InMemoryUserDatabase, User, frozen_clock, weak_password_helper
from tests.features.sessions.application import EMAIL, Application, application_on
from tests.world import SECRET


class PlainManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = verification_token_secret = SECRET


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token.removeprefix("Bearer "), options={"verify_signature": False})
    return claims


async def test_an_access_token_names_its_session_and_how_the_login_went(app: Application) -> None:
    with frozen_clock(datetime(2030, 1, 1, tzinfo=timezone.utc)) as clock:
        client = await app.log_in()
        claims = claims_of(client.http.headers["authorization"])
        clock.advance(seconds=60)
        await client.refresh()
        later = claims_of(client.http.headers["authorization"])

    assert claims["sid"] == later["sid"] == str(uuid.UUID(claims["sid"]))
    assert claims["aud"] == ["fastapi-users:session"]
    assert claims["exp"] - claims["iat"] == 900
    assert {"sub", "jti", "fgpt"} <= claims.keys()
    assert (later["auth_time"], later["amr"]) == (claims["auth_time"], ["pwd"])
    assert later["iat"] == claims["iat"] + 60


async def test_neither_a_jwt_of_version_15_nor_a_session_is_taken_for_the_other(app: Application) -> None:
    """Or an access token would outlive its session at the backend beside it."""
    async with app.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        sessions, plain = RefreshTokenStrategy[Any, Any](manager, SECRET), JWTStrategy[Any, Any](SECRET, 3600)
        of_session, of_jwt = await sessions.write_token(user), await plain.write_token(user)

        assert await sessions.read_token(of_session, manager) is user
        assert await plain.read_token(of_session, manager) is None
        assert await sessions.read_token(of_jwt, manager) is None
        assert await sessions.read_token(None, manager) is None


@pytest.mark.parametrize("sid", ["", "x", 7, None, str(uuid.UUID(int=7))])
async def test_a_token_without_a_session_is_nobodys(app: Application, sid: Any) -> None:
    async with app.manager() as manager:
        strategy = RefreshTokenStrategy[Any, Any](manager, SECRET)
        user = await manager.get_by_email(EMAIL)
        genuine = claims_of(await strategy.write_token(user))
        forged = generate_jwt({**genuine, "sid": sid}, SECRET)

        assert await strategy.read_token(forged, manager) is None
        assert await strategy.reissue_token(forged, user) is None
        await strategy.destroy_token(forged, user)
        assert len(await manager.list_sessions(user)) == 1


async def test_a_session_is_of_one_user_and_of_the_present_credentials(app: Application) -> None:
    bob = await app.register("bob@example.org")
    async with app.manager() as manager:
        strategy = RefreshTokenStrategy[Any, Any](manager, SECRET)
        ann = await manager.get_by_email(EMAIL)
        token = await strategy.write_token(ann)
        of_bob = generate_jwt({**claims_of(token), "sub": str(bob.id)}, SECRET)
        assert await strategy.read_token(of_bob, manager) is None
        assert await strategy.reissue_token(token, bob) is None

        await manager.user_db.update(ann, {"hashed_password": "another"})
        assert await strategy.read_token(token, manager) is None
        reissued = await strategy.reissue_token(token, ann)
        assert reissued is not None
        assert await strategy.read_token(reissued, manager) is ann
        assert claims_of(reissued)["sid"] == claims_of(token)["sid"]


async def test_a_deleted_user_leaves_nothing_for_the_next_one_with_the_same_id(app: Application) -> None:
    client = await app.log_in()
    async with app.manager() as manager:
        ann = await manager.get_by_email(EMAIL)
        await manager.delete(ann)
        await manager.user_db.create({"email": "bob@example.org", "hashed_password": "h", "id": ann.id})

    assert await client.me() == 401
    assert (await client.refresh()).status_code == 400


async def test_without_a_look_at_the_session_a_token_counts_until_it_expires(tmp_path: Path) -> None:
    options = {"strategy_options": {"stateless": True, "lifetime_seconds": 60}}
    with frozen_clock() as clock:
        async with application_on("memory", tmp_path, **options) as application:
            await application.register()
            client = await application.log_in()
            async with application.manager() as manager:
                await manager.end_all_sessions(await manager.get_by_email(EMAIL))

            assert (await client.me(), (await client.refresh()).status_code) == (200, 400)
            clock.advance(seconds=60)
            assert await client.me() == 401


async def test_all_sessions_but_those_of_given_tokens_end(app: Application) -> None:
    async with app.manager() as manager:
        strategy = RefreshTokenStrategy[Any, Any](manager, SECRET)
        user = await manager.get_by_email(EMAIL)
        tokens = [await strategy.write_token(user) for _ in range(3)]

        assert await strategy.destroy_all_tokens(user, except_tokens=[tokens[0], "of another backend"]) == 2
        assert [await strategy.read_token(token, manager) for token in tokens] == [user, None, None]
        await strategy.destroy_token(tokens[1], user)  # ended already
        await strategy.destroy_token(tokens[0], user)
        assert await strategy.destroy_all_tokens(user) == 0


async def test_a_login_whose_password_counts_no_more_makes_no_session(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def changed(*_: Any) -> bool:
        return False

    monkeypatch.setattr(InMemoryUserDatabase, "holds", changed)
    async with app.manager() as manager:
        client = app.new_client()
        form = {"username": EMAIL, "password": "correct horse battery staple"}
        answer = await client.post("/bearer/login", data=form)

        assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
        assert await manager.list_sessions(await manager.get_by_email(EMAIL)) == []


def test_a_manager_without_sessions_is_refused() -> None:
    manager = PlainManager(InMemoryUserDatabase[User, uuid.UUID](User), weak_password_helper())

    with pytest.raises(TypeError, match="PlainManager has no sessions: list SessionsMixin among its bases"):
        RefreshTokenStrategy[User, uuid.UUID](manager, SECRET)


@pytest.mark.parametrize("broken", [{"secret": "short"}, {"lifetime_seconds": 0}])
async def test_weak_settings_are_refused(app: Application, broken: dict[str, Any]) -> None:
    async with app.manager() as manager:
        with pytest.raises(ValueError):
            RefreshTokenStrategy[Any, Any](manager, **{"secret": SECRET, **broken})
