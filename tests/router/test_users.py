import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import ConfigDict, SecretStr, model_validator

from fastapi_users import schemas
from fastapi_users.jwt import _get_secret_value
from tests.toy import ToyManager
from tests.world import PASSWORD, UserCreate, UserManager, UserRead, UserUpdate, World

UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"


def watch_toy_logs(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[Any, ...]]]:
    """What each manager that is made from now on writes down of its seams."""
    logs: list[list[tuple[Any, ...]]] = []
    make = ToyManager.__init__

    def make_and_watch(self: ToyManager, user_db: Any, world: World) -> None:
        make(self, user_db, world)
        logs.append(self.toy_log)

    monkeypatch.setattr(ToyManager, "__init__", make_and_watch)
    return logs


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
    """E18, upstream's issue 1541: a 403, and no 401."""
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
    """E2, CONTRACT 16 row 1"""
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
    """E1, CONTRACT 16 row 2, row 3 and row 4"""
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

    headers = {**await world.log_in(), "Content-Type": "application/json"}
    answer = await world.client.patch("/users/me", content=body, headers=headers)

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


async def test_a_user_with_an_address_that_no_form_takes_sees_the_own_profile(world: World) -> None:
    """E3: whom a script or a company's provider brought in, was logged in and then got a 500."""
    await world.insert_user("root@intranet", is_superuser=True)
    headers = await world.log_in("root@intranet")

    for path in ("/users/me", f"/users/{(await world.client.get('/users/me', headers=headers)).json()['id']}"):
        for method, body in (("GET", None), ("PATCH", {"nickname": "Root"})):
            answer = await world.client.request(method, path, json=body, headers=headers)
            assert (answer.status_code, answer.json()["email"]) == (200, "root@intranet")
    taken = await world.client.patch("/users/me", json={"email": "other@intranet"}, headers=headers)
    assert taken.status_code == 422


class OpenCreate(schemas.BaseUserCreate):
    model_config = ConfigDict(extra="allow")


class OpenUpdate(schemas.BaseUserUpdate):
    model_config = ConfigDict(extra="allow")


EVERYTHING: dict[str, Any] = {
    "nickname": "Ann",
    "id": UNKNOWN_ID,
    "hashed_password": "x",
    "current_password": None,
    "_sa_instance_state": {},
    "__class__": "x",
    "metadata": {},
    "registry": {},
    "oauth_accounts": [{"oauth_name": "provider"}],
    "no_such_column": {"a": [1]},
    "validate": 1,
}


async def test_a_client_that_may_send_everything_writes_no_field_of_the_server(tmp_path: Path) -> None:
    """D17, requirement 73 (assign.register, patch_me)."""
    open_schemas = (UserRead, OpenCreate, OpenUpdate)
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", user_schemas=open_schemas) as world:
        ann = {"email": "ann@example.org", "password": PASSWORD}
        privileges = {"is_superuser": True, "is_verified": True}
        created = await world.client.post("/auth/register", json={**ann, **EVERYTHING, **privileges})
        assert (created.status_code, created.json()["nickname"]) == (201, "Ann")
        headers = await world.log_in()
        changed = await world.client.patch("/users/me", json={**EVERYTHING, **privileges}, headers=headers)
        root = await superuser_headers(world)
        by_root = await world.client.patch(f"/users/{created.json()['id']}", json=EVERYTHING, headers=root)

        assert created.json() == changed.json() == by_root.json()
        assert (created.json()["is_superuser"], created.json()["is_verified"]) == (False, False)
        assert await world.log_in(), "the password is what it was"
        assert [hook for hook in world.hooks if hook[0] == "updated"] == [
            ("updated", "ann@example.org", {"nickname": "Ann"})
        ] * 2


class DeclaringUpdate(UserUpdate, schemas.CurrentPasswordMixin):
    pass


class SecretUpdate(UserUpdate):
    current_password: SecretStr | None = None


@pytest.fixture(params=[UserUpdate, DeclaringUpdate, SecretUpdate], ids=["undeclared", "declared", "secret"])
async def toy_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    options: dict[str, Any] = {"manager_class": ToyManager, "user_schemas": (UserRead, UserCreate, request.param)}
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", **options) as world:
        yield world


async def test_a_wrong_current_password_refuses_the_whole_update(
    toy_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requirement 3, weakness 9. Seen by whatever slows down guessing and writes down failures."""
    user = await toy_world.insert_user()
    headers = await toy_world.log_in()
    logs = watch_toy_logs(monkeypatch)
    for wrong in ("wrong", "", "x" * 5000):
        body = {"nickname": "Evil", "password": "a new password", "current_password": wrong}
        answer = await toy_world.client.patch("/users/me", json=body, headers=headers)
        assert (answer.status_code, answer.json()) == (400, {"detail": "UPDATE_USER_BAD_CURRENT_PASSWORD"})
        assert logs[-1] == [
            ("before credentials", "pwd", "ann@example.org"),
            ("credentials failed", "pwd", "ann@example.org"),
            ("event", "login_failed"),
        ]

    reloaded = await toy_world.reload(user)
    assert reloaded is not None
    assert (reloaded.nickname, reloaded.hashed_password) == (None, user.hashed_password)


async def test_the_right_current_password_is_written_nowhere_and_handed_to_no_hook(
    toy_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await toy_world.insert_user()
    headers = await toy_world.log_in()
    logs = watch_toy_logs(monkeypatch)
    toy_world.hooks.clear()

    body = {"nickname": "Ann", "current_password": PASSWORD}
    answer = await toy_world.client.patch("/users/me", json=body, headers=headers)

    assert (answer.status_code, answer.json()["nickname"]) == (200, "Ann")
    assert toy_world.hooks == [("updated", "ann@example.org", {"nickname": "Ann"})]
    assert logs[-1] == [("before credentials", "pwd", "ann@example.org"), ("event", "updated")]
    assert PASSWORD not in answer.text
    only = await toy_world.client.patch("/users/me", json={"current_password": PASSWORD}, headers=headers)
    assert only.status_code == 200


class AskingManager(UserManager):
    """As applications of version 15 do it."""

    async def _update(self, user: Any, update_dict: dict[str, Any]) -> Any:
        proof = _get_secret_value(update_dict["current_password"])
        is_right, _ = self.password_helper.verify_and_update(proof, user.hashed_password)
        assert is_right
        return await super()._update(user, update_dict)


@pytest.mark.parametrize("schema", [DeclaringUpdate, SecretUpdate])
async def test_an_update_of_the_application_may_look_for_it(tmp_path: Path, schema: Any) -> None:
    options: dict[str, Any] = {"manager_class": AskingManager, "user_schemas": (UserRead, UserCreate, schema)}
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", **options) as world:
        await world.insert_user()
        headers = await world.log_in()
        world.hooks.clear()
        body = {"password": "a new password", "current_password": PASSWORD}

        answer = await world.client.patch("/users/me", json=body, headers=headers)

        assert answer.status_code == 200
        [updated, *_] = world.hooks
        assert updated == ("updated", "ann@example.org", {"password": "a new password"}), "no hook gets it"
        await world.log_in(password="a new password")


class HandingOnManager(UserManager):
    """Whose rows take no field that they do not know, as those of pydantic."""

    async def _update(self, user: Any, update_dict: dict[str, Any]) -> Any:
        assert update_dict.keys() <= {"nickname", "password"}
        return await super()._update(user, update_dict)


@pytest.mark.parametrize("schema", [UserUpdate, OpenUpdate])
@pytest.mark.parametrize("is_required", [True, False])
async def test_an_update_of_the_application_gets_no_proof_that_its_schema_does_not_declare(
    tmp_path: Path, schema: Any, is_required: bool
) -> None:
    options: dict[str, Any] = {
        "manager_class": HandingOnManager,
        "user_schemas": (UserRead, UserCreate, schema),
        "requires_current_password": is_required,
    }
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", **options) as world:
        await world.insert_user()
        body = {"password": "a new password", "current_password": PASSWORD}

        answer = await world.client.patch("/users/me", json=body, headers=await world.log_in())

        assert answer.status_code == 200
        await world.log_in(password="a new password")


async def test_where_it_is_not_required_nothing_asks_for_it(toy_world: World) -> None:
    await toy_world.insert_user()
    headers = await toy_world.log_in()

    for body in ({"current_password": None, "nickname": "Ann"}, {"password": "a new password"}):
        assert (await toy_world.client.patch("/users/me", json=body, headers=headers)).status_code == 200


@pytest.mark.parametrize("value", [1, ["hunter2"], {"a": "hunter2"}, True, 1e300, "hunter2\0", "hunter2\ud800"])
async def test_a_current_password_that_is_no_text_is_a_422_that_repeats_nothing(toy_world: World, value: Any) -> None:
    await toy_world.insert_user()

    body = json.dumps({"nickname": "Evil", "current_password": value})
    headers = {**await toy_world.log_in(), "Content-Type": "application/json"}
    answer = await toy_world.client.patch("/users/me", content=body, headers=headers)

    assert answer.status_code == 422
    assert "hunter2" not in answer.text
    if not isinstance(value, str):
        assert {tuple(error["loc"]) for error in answer.json()["detail"]} == {("body", "current_password")}


async def test_a_superuser_is_not_asked_for_the_password_of_others(toy_world: World) -> None:
    user = await toy_world.insert_user()

    body = {"email": "new@example.org", "current_password": "wrong"}
    answer = await toy_world.client.patch(f"/users/{user.id}", json=body, headers=await superuser_headers(toy_world))

    assert (answer.status_code, answer.json()["email"]) == (200, "new@example.org")


async def test_a_default_of_the_schema_was_not_sent(tmp_path: Path) -> None:
    class Defaulting(UserUpdate):
        current_password: str = ""

    options: dict[str, Any] = {"user_schemas": (UserRead, UserCreate, Defaulting)}
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", **options) as world:
        await world.insert_user()

        answer = await world.client.patch("/users/me", json={"nickname": "Ann"}, headers=await world.log_in())

        assert answer.status_code == 200


async def test_a_body_that_a_schema_of_the_application_takes_apart_has_no_current_password(tmp_path: Path) -> None:
    class FromList(UserUpdate):
        @model_validator(mode="before")
        @classmethod
        def take_apart(cls, data: Any) -> Any:
            return {"nickname": data[0]}

    options: dict[str, Any] = {"user_schemas": (UserRead, UserCreate, FromList)}
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", **options) as world:
        await world.insert_user()

        answer = await world.client.patch("/users/me", json=["Ann"], headers=await world.log_in())

        assert (answer.status_code, answer.json()["nickname"]) == (200, "Ann")


@pytest.fixture(params=[UserUpdate, DeclaringUpdate], ids=["undeclared", "declared"])
async def guarded_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    options: dict[str, Any] = {
        "user_schemas": (UserRead, UserCreate, request.param),
        "requires_current_password": True,
    }
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", **options) as world:
        yield world


@pytest.mark.parametrize(
    "change", [{"password": "a new password"}, {"email": "new@example.org"}, {"email": "Ann@example.org"}]
)
async def test_a_new_password_or_address_can_want_the_current_password(
    guarded_world: World, change: dict[str, str]
) -> None:
    """Requirements 3 and 47, weakness 9 (sessions.password_change_without_current, email_change_without_password)."""
    user = await guarded_world.insert_user()
    headers = await guarded_world.log_in()
    guarded_world.hooks.clear()
    for sent in ({}, {"current_password": None}):
        body = {**change, **sent, "nickname": "Evil"}
        answer = await guarded_world.client.patch("/users/me", json=body, headers=headers)
        assert (answer.status_code, answer.json()) == (400, {"detail": "UPDATE_USER_CURRENT_PASSWORD_REQUIRED"})
    reloaded = await guarded_world.reload(user)
    assert reloaded is not None
    assert (reloaded.email, reloaded.nickname, guarded_world.hooks) == ("ann@example.org", None, [])

    body = {**change, "current_password": PASSWORD}
    assert (await guarded_world.client.patch("/users/me", json=body, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "body", [{}, {"nickname": "Ann"}, {"email": "ann@example.org"}, {"email": None, "password": None}]
)
async def test_other_changes_want_no_current_password(guarded_world: World, body: dict[str, Any]) -> None:
    await guarded_world.insert_user()

    answer = await guarded_world.client.patch("/users/me", json=body, headers=await guarded_world.log_in())

    assert answer.status_code == 200


async def test_the_document_shows_the_current_password_where_it_is_required(guarded_world: World, world: World) -> None:
    def fields(of: World, path: str) -> dict[str, Any]:
        document = of.app.openapi()
        body = document["paths"][path]["patch"]["requestBody"]["content"]["application/json"]["schema"]
        properties: dict[str, Any] = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]["properties"]
        return properties

    def codes(of: World, path: str) -> set[str]:
        answer = of.app.openapi()["paths"][path]["patch"]["responses"]["400"]
        return {*answer["content"]["application/json"]["examples"]}

    assert "current_password" in fields(guarded_world, "/users/me")
    assert "current_password" not in fields(world, "/users/me")
    wrong, missing = "UPDATE_USER_BAD_CURRENT_PASSWORD", "UPDATE_USER_CURRENT_PASSWORD_REQUIRED"
    assert {wrong, missing} <= codes(guarded_world, "/users/me")
    assert {wrong, missing} & codes(world, "/users/me") == {wrong}
    assert {wrong, missing} & codes(guarded_world, "/users/{id}") == set()


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
