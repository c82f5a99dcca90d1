import pytest

from fastapi_users.password import PasswordHelper
from tests.world import PASSWORD, World


async def test_a_new_user_is_stored_with_a_hash_and_answered_without_it(world: World) -> None:
    answer = await world.client.post("/auth/register", json={"email": "Ann@Example.org", "password": PASSWORD})

    assert answer.status_code == 201
    user_id = answer.json().pop("id")
    assert answer.json() == {
        "id": user_id,
        "email": "Ann@example.org",
        "is_active": True,
        "is_superuser": False,
        "is_verified": False,
        "nickname": None,
    }
    assert world.hooks == [("registered", "Ann@example.org")]
    assert await world.log_in("ann@example.org")


async def test_privileged_fields_in_the_body_have_no_effect(world: World) -> None:
    answer = await world.client.post(
        "/auth/register",
        json={
            "id": "00000000-0000-0000-0000-000000000000",
            "email": "ann@example.org",
            "password": PASSWORD,
            "nickname": "Ann",
            "is_active": False,
            "is_superuser": True,
            "is_verified": True,
        },
    )

    assert answer.status_code == 201
    created = answer.json()
    assert created["id"] != "00000000-0000-0000-0000-000000000000"
    assert (created["is_active"], created["is_superuser"], created["is_verified"]) == (True, False, False)
    assert created["nickname"] == "Ann"


@pytest.mark.parametrize("email", ["ann@example.org", "ANN@example.org", "ann@EXAMPLE.ORG"])
async def test_an_address_that_is_taken_is_refused_in_every_letter_case(world: World, email: str) -> None:
    await world.insert_user("ann@example.org")

    answer = await world.client.post("/auth/register", json={"email": email, "password": PASSWORD})

    assert (answer.status_code, answer.json()) == (400, {"detail": "REGISTER_USER_ALREADY_EXISTS"})
    assert world.hooks == []


async def test_a_refused_password_is_answered_with_its_reason_before_the_address_is_looked_at(world: World) -> None:
    await world.insert_user("ann@example.org")

    answer = await world.client.post("/auth/register", json={"email": "ann@example.org", "password": "short"})

    assert answer.status_code == 400
    assert answer.json() == {"detail": {"code": "REGISTER_INVALID_PASSWORD", "reason": "Too short"}}


async def test_a_password_that_the_hasher_does_not_take_is_refused_and_tells_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libpass takes 4096 characters: beyond them upstream's answer, a 500 for unknown addresses, told who has an account."""
    monkeypatch.setattr("tests.world.weak_password_helper", PasswordHelper)
    password = "x" * 5000
    await world.insert_user("ann@example.org")

    answer = await world.client.post("/auth/register", json={"email": "bob@example.org", "password": password})
    assert (answer.status_code, answer.json()["detail"]["code"]) == (400, "REGISTER_INVALID_PASSWORD")
    for email in ("ann@example.org", "bob@example.org"):
        answer = await world.client.post("/auth/jwt/login", data={"username": email, "password": password})
        assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"email": "ann@example.org"',
        b'{"email": "ann@example.org"}',
        b'{"email": "not an address", "password": "hunter2 hunter2"}',
        b'{"email": "a@example.org,b@example.org", "password": "hunter2 hunter2"}',
        b'{"email": "a@example.org\\u0000", "password": "hunter2 hunter2"}',
        b'{"email": null, "password": "hunter2 hunter2"}',
        b'{"email": "ann@example.org", "password": null}',
        b'{"email": "ann@example.org", "password": ["hunter2"]}',
        b'{"email": "\\ud800@example.org", "password": "hunter2 hunter2"}',
        b'{"email": "ann@example.org", "password": "hunter2 \\ud800"}',
        b'{"email": NaN, "password": "hunter2 hunter2"}',
        b'{"email": 1e400, "password": "hunter2 hunter2"}',
        b'{"email": {"deep": ' + b"[" * 300 + b"]" * 300 + b'}, "password": "hunter2 hunter2"}',
    ],
)
async def test_a_body_that_does_not_fit_is_a_422_that_repeats_no_password(world: World, body: bytes) -> None:
    answer = await world.client.post("/auth/register", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 422
    assert "hunter2" not in answer.text
    assert world.hooks == []
