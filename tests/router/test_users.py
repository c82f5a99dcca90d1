from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from tests.world import PASSWORD, World

UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"


async def superuser_headers(world: World) -> dict[str, str]:
    await world.insert_user("root@example.org", is_superuser=True)
    return await world.log_in("root@example.org")


async def test_the_own_profile_needs_a_token(world: World) -> None:
    for method in ("GET", "PATCH"):
        answer = await world.client.request(method, "/users/me")
        assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})


async def test_an_inactive_user_has_no_access(world: World) -> None:
    user = await world.insert_user()
    headers = await world.log_in()
    async with world.session_maker() as session:
        session.add(user)
        user.is_active = False
        await session.commit()

    assert (await world.client.get("/users/me", headers=headers)).status_code == 401


async def test_unverified_users_are_forbidden_where_verification_is_required(tmp_path: Path) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", requires_verification=True) as world:
        user = await world.insert_user(is_verified=True)
        headers = await world.log_in()
        assert (await world.client.get("/users/me", headers=headers)).status_code == 200

        async with world.session_maker() as session:
            session.add(user)
            user.is_verified = False
            await session.commit()
        answer = await world.client.get("/users/me", headers=headers)
        assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})


async def test_the_own_profile_takes_ordinary_fields_and_ignores_privileged_ones(world: World) -> None:
    user = await world.insert_user(is_verified=True)
    headers = await world.log_in()
    world.hooks.clear()

    answer = await world.client.patch(
        "/users/me",
        json={"nickname": "Ann", "is_superuser": True, "is_active": False, "is_verified": False, "id": UNKNOWN_ID},
        headers=headers,
    )

    assert answer.status_code == 200
    assert answer.json() == {
        "id": str(user.id),
        "email": "ann@example.org",
        "nickname": "Ann",
        "is_active": True,
        "is_superuser": False,
        "is_verified": True,
    }
    assert world.hooks == [("updated", "ann@example.org", {"nickname": "Ann"})]


async def test_a_new_address_has_to_be_verified_again(world: World) -> None:
    await world.insert_user(is_verified=True)

    answer = await world.client.patch("/users/me", json={"email": "new@example.org"}, headers=await world.log_in())

    assert (answer.json()["email"], answer.json()["is_verified"]) == ("new@example.org", False)


async def test_the_address_of_somebody_else_is_refused(world: World) -> None:
    await world.insert_user("bob@example.org")
    user = await world.insert_user()

    answer = await world.client.patch(
        "/users/me", json={"email": "BOB@example.org", "nickname": "x"}, headers=await world.log_in()
    )

    assert (answer.status_code, answer.json()) == (400, {"detail": "UPDATE_USER_EMAIL_ALREADY_EXISTS"})
    reloaded = await world.reload(user)
    assert reloaded is not None
    assert (reloaded.email, reloaded.nickname) == ("ann@example.org", None)


async def test_the_letter_case_of_the_own_address_can_be_corrected(world: World) -> None:
    await world.insert_user()

    answer = await world.client.patch("/users/me", json={"email": "Ann@example.org"}, headers=await world.log_in())

    assert (answer.status_code, answer.json()["email"]) == (200, "Ann@example.org")


async def test_a_new_password_replaces_the_old_one(world: World) -> None:
    await world.insert_user()
    headers = await world.log_in()

    answer = await world.client.patch("/users/me", json={"password": "a new password"}, headers=headers)

    assert answer.status_code == 200
    assert "password" not in answer.text
    assert await world.log_in(password="a new password")


async def test_a_refused_password_is_answered_with_its_reason(world: World) -> None:
    await world.insert_user()

    answer = await world.client.patch("/users/me", json={"password": "short"}, headers=await world.log_in())

    assert answer.status_code == 400
    assert answer.json() == {"detail": {"code": "UPDATE_USER_INVALID_PASSWORD", "reason": "Too short"}}


@pytest.mark.parametrize(
    "body",
    [{}, {"email": None}, {"password": None}, {"is_active": None, "is_superuser": None, "is_verified": None}],
)
async def test_null_for_a_field_that_has_none_changes_nothing(world: World, body: dict[str, None]) -> None:
    user = await world.insert_user(nickname="Ann")
    before = (await world.client.get(f"/users/{user.id}", headers=await superuser_headers(world))).json()

    for url, headers in (
        ("/users/me", await world.log_in()),
        (f"/users/{user.id}", await world.log_in("root@example.org")),
    ):
        answer = await world.client.patch(url, json=body, headers=headers)
        assert (answer.status_code, answer.json()) == (200, before)
    assert await world.log_in(password=PASSWORD)


async def test_null_for_a_field_of_the_application_is_written(world: World) -> None:
    await world.insert_user(nickname="Ann")

    answer = await world.client.patch("/users/me", json={"nickname": None}, headers=await world.log_in())

    assert answer.json()["nickname"] is None


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'{"email": "ann"}',
        b'{"is_active": "maybe", "password": "hunter2"}',
        b'{"password": {"a": "hunter2"}}',
        b'{"nickname": "\\ud83d"}',
        b'{"nickname": "a\\u0000b"}',
        b'{"nickname": ["\\ud83d"]}',
        b'{"nickname": Infinity}',
    ],
)
async def test_a_body_that_does_not_fit_is_a_422_that_repeats_no_password(world: World, body: bytes) -> None:
    await world.insert_user()

    answer = await world.client.patch("/users/me", content=body, headers=await world.log_in())

    assert answer.status_code == 422
    assert "hunter2" not in answer.text


async def test_other_users_are_for_superusers_only(world: World) -> None:
    user = await world.insert_user()
    headers = await world.log_in()
    for method in ("GET", "PATCH", "DELETE"):
        for user_id in (str(user.id), UNKNOWN_ID, "nonsense"):
            anonymous = await world.client.request(method, f"/users/{user_id}")
            assert anonymous.status_code == 401
            ordinary = await world.client.request(method, f"/users/{user_id}", headers=headers)
            assert (ordinary.status_code, ordinary.json()) == (403, {"detail": "Forbidden"})


async def test_a_superuser_reads_changes_and_deletes_a_user(world: World) -> None:
    user = await world.insert_user()
    headers = await superuser_headers(world)
    world.hooks.clear()

    assert (await world.client.get(f"/users/{user.id}", headers=headers)).json()["email"] == "ann@example.org"

    changed = await world.client.patch(
        f"/users/{user.id}",
        json={"is_active": False, "is_verified": True, "is_superuser": True, "email": "new@example.org"},
        headers=headers,
    )
    assert changed.status_code == 200
    assert changed.json()["email"] == "new@example.org"
    assert (changed.json()["is_active"], changed.json()["is_superuser"]) == (False, True)
    assert changed.json()["is_verified"], "an explicit flag wins over the reset that a new address brings"

    deleted = await world.client.delete(f"/users/{user.id}", headers=headers)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert await world.reload(user) is None
    assert [hook[0] for hook in world.hooks] == ["updated", "about to be deleted", "deleted"]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "user_id",
    [
        UNKNOWN_ID,
        "nonsense",
        "1",
        "9" * 5000,
        "%00",
        "%ED%A0%80",
        "..%2fme",
        "{00000000-0000-0000-0000-000000000000}",
        "urn:uuid:00000000-0000-0000-0000-000000000000",
    ],
)
async def test_an_id_of_nobody_or_of_no_kind_is_a_404(world: World, method: str, user_id: str) -> None:
    headers = await superuser_headers(world)

    answer = await world.client.request(method, f"/users/{user_id}", headers=headers)

    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


async def test_a_superusers_mistakes_are_answered_with_a_400(world: World) -> None:
    user = await world.insert_user()
    headers = await superuser_headers(world)
    cases: list[tuple[dict[str, Any], object]] = [
        ({"email": "root@example.org"}, "UPDATE_USER_EMAIL_ALREADY_EXISTS"),
        ({"password": "short"}, {"code": "UPDATE_USER_INVALID_PASSWORD", "reason": "Too short"}),
    ]
    for body, detail in cases:
        answer = await world.client.patch(f"/users/{user.id}", json=body, headers=headers)
        assert (answer.status_code, answer.json()) == (400, {"detail": detail})


async def test_routes_have_the_names_of_the_contract(world: World) -> None:
    user = await world.insert_user()

    assert world.app.url_path_for("users:user", id=user.id) == f"/users/{user.id}"
    assert world.app.url_path_for("users:current_user") == "/users/me"


async def test_the_document_of_the_whole_application_can_be_made(world: World) -> None:
    assert isinstance(world.app, FastAPI)
    assert (await world.client.get("/openapi.json")).status_code == 200


@pytest.mark.parametrize("change", [{"password": "another long password"}, {"email": "ann.smith@example.org"}])
async def test_a_new_password_or_address_ends_the_other_sessions_of_bearer_tokens(
    world: World, change: dict[str, str]
) -> None:
    """D4, requirement 45: nothing is stored for them."""
    await world.insert_user()
    other, own = await world.log_in(), await world.log_in()
    assert (await world.client.get("/users/me", headers=other)).status_code == 200

    assert (await world.client.patch("/users/me", json=change, headers=own)).status_code == 200

    assert (await world.client.get("/users/me", headers=other)).status_code == 401


async def test_a_password_that_was_reset_ends_the_sessions_of_bearer_tokens(world: World) -> None:
    """D4, requirement 29."""
    await world.insert_user()
    headers = await world.log_in()
    await world.client.post("/auth/forgot-password", json={"email": "ann@example.org"})

    body = {"token": world.outbox.token("ann@example.org"), "password": "another long password"}
    assert (await world.client.post("/auth/reset-password", json=body)).status_code == 200

    assert (await world.client.get("/users/me", headers=headers)).status_code == 401


async def test_a_change_of_anything_else_ends_no_session(world: World) -> None:
    await world.insert_user()
    headers = await world.log_in()

    assert (await world.client.patch("/users/me", json={"nickname": "Ann"}, headers=headers)).status_code == 200

    assert (await world.client.get("/users/me", headers=headers)).status_code == 200
