import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from httpx import ASGITransport, AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.background import BackgroundTask

from fastapi_users.background import Work, do_later
from fastapi_users.exceptions import InvalidPasswordException, InvalidVerifyToken, UserAlreadyExists
from fastapi_users.mail import MemoryMailer, Message
from fastapi_users.mail.delivery import send_later
from fastapi_users.router import ErrorCode
from fastapi_users.router.common import Refusals, SafeRoute, presentable, presentable_email, presentable_error
from tests.world import PASSWORD, User, UserManager, World

TABLE = Refusals(
    {
        UserAlreadyExists: (ErrorCode.REGISTER_USER_ALREADY_EXISTS, "Taken."),
        InvalidPasswordException: (ErrorCode.REGISTER_INVALID_PASSWORD, "Weak."),
    },
    legacy_examples={"OLD_NAME": "Not sent."},
)


def test_an_exception_of_the_table_becomes_its_answer() -> None:
    with pytest.raises(HTTPException) as caught, TABLE:
        raise UserAlreadyExists

    assert (caught.value.status_code, caught.value.detail) == (400, "REGISTER_USER_ALREADY_EXISTS")
    assert isinstance(caught.value.__cause__, UserAlreadyExists)


def test_a_refused_password_brings_its_reason() -> None:
    reason = ["too short", {"minimum": 8}]
    with pytest.raises(HTTPException) as caught, TABLE:
        raise InvalidPasswordException(reason)

    detail: Any = caught.value.detail
    assert detail == {"code": "REGISTER_INVALID_PASSWORD", "reason": reason}


def test_every_other_exception_goes_on() -> None:
    with pytest.raises(InvalidVerifyToken), TABLE:
        raise InvalidVerifyToken
    with TABLE:
        pass


def test_the_document_shows_one_example_for_each_code() -> None:
    examples = TABLE.responses[400]["content"]["application/json"]["examples"]

    assert list(examples) == ["OLD_NAME", "REGISTER_USER_ALREADY_EXISTS", "REGISTER_INVALID_PASSWORD"]
    assert examples["REGISTER_USER_ALREADY_EXISTS"]["value"] == {"detail": "REGISTER_USER_ALREADY_EXISTS"}
    assert set(examples["REGISTER_INVALID_PASSWORD"]["value"]["detail"]) == {"code", "reason"}


@pytest.mark.parametrize(
    ("error", "presented"),
    [
        ({"loc": ("body", "email"), "input": "ann"}, "ann"),
        ({"loc": ("body", "email"), "input": float("nan")}, "nan"),
        ({"loc": ("body", "password"), "input": "hunter2"}, "**********"),
        ({"loc": ("body", "new_Password", "x"), "input": ["hunter2"]}, "**********"),
        ({"loc": ("body", "token"), "input": 1}, "**********"),
        ({"loc": ("body", "PIN"), "input": 1}, "**********"),
        ({"loc": ("body", "ticket"), "input": 1}, "**********"),
        ({"loc": ("body",), "input": {"code": "123456", "postcode": 1}}, {"code": "**********", "postcode": 1}),
        ({"loc": ("body",), "input": "password=hunter2"}, "**********"),
        ({"loc": ("body",), "input": ["hunter2"]}, "**********"),
        ({"loc": ("body",), "input": {"password": "hunter2", "n": 1}}, {"password": "**********", "n": 1}),
        ({"loc": ("body", "a"), "input": {"list": [{"password": "hunter2"}]}}, {"list": [{"password": "**********"}]}),
        ({"loc": ("body", "a"), "input": b"hunter2"}, "**********"),
    ],
)
def test_a_validation_error_repeats_no_secret(error: dict[str, Any], presented: object) -> None:
    assert presentable_error(error)["input"] == presented


def test_errors_that_the_application_made_up_pass() -> None:
    assert presentable_error({"type": "mine", "msg": "m"}) == {"type": "mine", "msg": "m"}
    assert presentable_error("mine") == "mine"


def test_an_error_without_an_input_stays_without_one() -> None:
    assert presentable_error({"loc": ("body", "password"), "msg": "m"}) == {"loc": ("body", "password"), "msg": "m"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters(codec=None)),
    lambda children: st.lists(children) | st.dictionaries(st.text(alphabet=st.characters(codec=None)), children),
)


@given(json_values)
def test_whatever_is_presented_can_be_written_as_json_in_utf_8(value: object) -> None:
    assert json.dumps(presentable(value), allow_nan=False, ensure_ascii=False).encode()


def test_a_deep_nesting_is_cut() -> None:
    value: Any = "bottom"
    for _ in range(100_000):
        value = [value]

    assert "bottom" not in json.dumps(presentable(value))


def answering_app(mailer: MemoryMailer, *, fails: bool, background: BackgroundTask | None = None) -> FastAPI:
    router = APIRouter(route_class=SafeRoute)

    @router.get("/")
    async def answer(request: Request) -> Response:
        await send_later(mailer, Message(to="ann@example.org", subject="Hello", text="Hello"), request=request)
        assert not mailer.messages, "it is sent when the answer is"
        if fails:
            raise HTTPException(418)
        return Response("done", background=background)

    app = FastAPI()
    app.include_router(router)
    return app


async def get(app: FastAPI) -> int:
    async with AsyncClient(transport=ASGITransport(app), base_url="https://app.test") as client:
        return (await client.get("/")).status_code


@pytest.mark.parametrize(("fails", "status_code"), [(False, 200), (True, 418)])
async def test_what_is_left_for_later_is_done_after_the_answer_or_the_refusal(fails: bool, status_code: int) -> None:
    mailer = MemoryMailer()

    assert await get(answering_app(mailer, fails=fails)) == status_code
    assert [message.subject for message in mailer.messages] == ["Hello"]


async def test_a_background_task_of_the_application_that_fails_keeps_no_mail_back() -> None:
    mailer = MemoryMailer()

    def fail() -> None:
        raise OSError

    with pytest.raises(OSError):
        await get(answering_app(mailer, fails=False, background=BackgroundTask(fail)))
    assert len(mailer.messages) == 1


async def test_an_answer_is_sent_before_the_mails_are() -> None:
    order: list[str] = []

    class Slow(MemoryMailer):
        async def send(self, message: Message) -> None:
            order.append("mail")

    app = answering_app(Slow(), fails=False)

    async def observed(scope: Any, receive: Any, send: Any) -> None:
        async def send_and_note(message: Any) -> None:
            await send(message)
            order.append(message["type"])

        await app(scope, receive, send_and_note)

    async with AsyncClient(transport=ASGITransport(observed), base_url="https://app.test") as client:
        await client.get("/")

    assert order == ["http.response.start", "http.response.body", "mail"]


class Refused(Exception):
    pass


class Teapot(HTTPException):
    def __init__(self) -> None:
        super().__init__(418)


async def answer_refused(request: Request, error: Exception) -> Response:
    return Response(f"async, for {type(error).__name__}")


def answer_status(request: Request, error: Exception) -> Response:
    return Response("in a thread, for the status", 418)


class Answerer:
    async def __call__(self, request: Request, error: Exception) -> Response:
        return Response("an object", 409)


async def outermost(request: Request, error: Exception) -> Response:
    return Response("outside of everything", 500)


class Refusing:
    """A route that leaves something for later and then fails; the log says what happened in which order."""

    def __init__(
        self,
        error: Exception | None,
        handlers: dict[Any, Any] | None = None,
        *,
        route_class: type[SafeRoute] = SafeRoute,
        leaves_work: bool = True,
    ) -> None:
        self.log: list[str] = []
        router = APIRouter(route_class=route_class)

        async def get_session() -> AsyncIterator[None]:
            try:
                yield
            except Exception as seen:
                self.log.append(f"closed by {type(seen).__name__}")
                raise
            self.log.append("closed")

        async def note() -> None:
            self.log.append("work")

        @router.get("/")
        async def refuse(request: Request, session: None = Depends(get_session)) -> str:
            if leaves_work:
                await do_later(Work(do=note, failure="It failed"), request=request, needs_dependencies=True)
            if error is not None:
                raise error
            return "done"

        self.app = FastAPI(exception_handlers=handlers)
        self.app.include_router(router)

    async def get(self) -> tuple[int, str]:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def send_and_note(message: Any) -> None:
                await send(message)
                self.log.append(message["type"].removeprefix("http.response."))

            await self.app(scope, receive, send_and_note)

        async with AsyncClient(transport=ASGITransport(app), base_url="https://app.test") as client:
            answer = await client.get("/")
        return answer.status_code, answer.text


@pytest.mark.parametrize(
    ("error", "handlers", "answer"),
    [
        (HTTPException(400, "No"), {}, (400, '{"detail":"No"}')),
        (HTTPException(400, "No"), {500: outermost, Exception: outermost}, (400, '{"detail":"No"}')),
        (Refused(), {Refused: answer_refused}, (200, "async, for Refused")),
        (Teapot(), {418: answer_status, Teapot: outermost}, (418, "in a thread, for the status")),
        (Teapot(), {HTTPException: Answerer()}, (409, "an object")),
    ],
)
async def test_a_refusal_is_sent_by_the_application_s_handler_before_work_that_needs_the_session(
    error: Exception, handlers: dict[Any, Any], answer: tuple[int, str]
) -> None:
    """FastAPI closes the session before it makes an answer of an exception."""
    refusing = Refusing(error, handlers)

    assert await refusing.get() == answer
    assert refusing.log == ["start", "body", "work", "closed"]


async def raise_another(request: Request, error: Exception) -> Response:
    raise Refused


async def test_a_handler_that_fails_itself_does_not_lose_the_work() -> None:
    """It tells of guessing, say: a broken error page must not silence that."""
    refusing = Refusing(HTTPException(400, "No"), {HTTPException: raise_another})

    with pytest.raises(Refused):
        await refusing.get()
    assert refusing.log[0] == "work"


async def test_where_nothing_waits_exceptions_take_the_usual_way() -> None:
    refusing = Refusing(HTTPException(400, "No"), leaves_work=False)

    assert await refusing.get() == (400, '{"detail":"No"}')
    assert refusing.log == ["closed by HTTPException", "start", "body"]


@pytest.mark.parametrize("handlers", [{}, {500: outermost}, {Exception: outermost}])
async def test_an_error_without_a_handler_goes_on_and_the_work_left_out_is_logged(
    caplog: pytest.LogCaptureFixture, handlers: dict[Any, Any]
) -> None:
    refusing = Refusing(Refused(), handlers)

    with pytest.raises(Refused):
        await refusing.get()
    assert refusing.log == ["closed by Refused", "start", "body"]
    assert caplog.messages == ["It failed (the request ended before)"]


async def test_a_validation_error_of_the_route_itself_is_masked_too() -> None:
    error = RequestValidationError([{"type": "x", "loc": ("body", "password"), "msg": "m", "input": "hunter2"}])

    status_code, text = await Refusing(error).get()

    assert status_code == 422
    assert "hunter2" not in text


async def test_a_route_class_of_the_application_can_still_change_the_answer() -> None:
    log: list[str] = []

    class Route(SafeRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_and_change(request: Request) -> Response:
                response = await handle(request)
                log.append(bytes(response.body).decode())
                response.status_code = 201
                response.headers["x-changed"] = "yes"
                response.background = BackgroundTask(log.append, "background")
                return response

            return handle_and_change

    refusing = Refusing(None, route_class=Route)

    assert await refusing.get() == (201, '"done"')
    assert log == ['"done"', "background"]
    assert refusing.log == ["start", "body", "work", "closed"]


@pytest.mark.parametrize(
    "email", ["Ann@Example.org", "j\u00fcrgen@b\u00fccher.example", "ann@intranet", "o'hara+x@a-b.co"]
)
def test_an_address_is_taken_as_a_provider_says_it(email: str) -> None:
    assert presentable_email(email) == email


@pytest.mark.parametrize(
    "email",
    [
        *[None, "", " ", "ann", "@example.org", "ann@", "Ann <ann@example.org>", "a@b@example.org", "a\0@example.org"],
        *["a@example.org\n", "\ud800@example.org", f"{'a' * 64}@{'b.' * 150}org", f"{'a' * 400}@b.co", 1, ["a@b.co"]],
        b"ann@example.org",
    ],
)
def test_what_is_no_address_is_none(email: Any) -> None:
    assert presentable_email(email) is None


def test_the_form_of_a_text_of_megabytes_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("fastapi_users.router.common.validate_email", lambda email, **_: seen.append(email))

    for length in (320, 321, 5_000_000):
        presentable_email("a" * (length - len("@b.co")) + "@b.co")
    assert [len(email) for email in seen] == [320]


@given(st.text() | st.none() | st.binary() | st.integers())
def test_whatever_a_provider_says_is_an_address_or_none(email: Any) -> None:
    assert presentable_email(email) in (email, None)


CREDENTIALS = {"username": "ann@example.org", "password": PASSWORD}


@pytest.mark.parametrize(
    ("method", "path", "body", "status_code"),
    [
        ("POST", "/auth/jwt/login", {"data": CREDENTIALS}, 200),
        ("POST", "/auth/cookie/login", {"data": CREDENTIALS}, 204),
        ("POST", "/auth/jwt/login", {"data": {**CREDENTIALS, "password": "wrong"}}, 400),
        ("POST", "/auth/jwt/login", {"data": {}}, 422),
        ("POST", "/auth/jwt/reauthenticate", {"json": {"password": PASSWORD}}, 200),
        ("POST", "/auth/register", {"json": {"email": "new@example.org", "password": PASSWORD}}, 201),
        ("POST", "/auth/request-verify-token", {"json": {"email": "ann@example.org"}}, 202),
        ("GET", "/users/me", {}, 200),
        ("PATCH", "/users/me", {"json": {}}, 200),
        ("GET", "/users/nobody", {}, 403),
        ("GET", "/account/oauth-accounts", {}, 200),
        ("GET", "/oauth/authorize", {}, 200),
        ("GET", "/oauth/authorize?redirect=/", {}, 303),
        ("GET", "/oauth/callback", {}, 400),
    ],
)
async def test_no_answer_with_tokens_or_personal_data_is_kept_by_a_cache(
    tmp_path: Path, method: str, path: str, body: dict[str, Any], status_code: int
) -> None:
    """Requirement 81, E10 (RFC 6749, section 5.1; cookies.no_store_on_login, no_store_on_me)."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", allowed_redirects=["/"]) as world:
        await world.insert_user()
        headers = await world.log_in()

        answer = await world.client.request(method, path, headers=headers, **body)

        assert (answer.status_code, answer.headers.get_list("cache-control")) == (status_code, ["no-store"])


async def test_a_refusal_that_is_redirected_is_not_kept_by_a_cache_either(tmp_path: Path) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", allowed_redirects=["/"]) as world:
        start = await world.client.get("/oauth/authorize?redirect=/")
        state = start.headers["location"].partition("state=")[2].partition("&")[0]

        answer = await world.client.get(f"/oauth/callback?state={state}&error=access_denied")

        assert (answer.status_code, answer.headers["location"]) == (303, "/?error=access_denied")
        assert answer.headers["cache-control"] == "no-store"


async def test_what_the_application_says_of_caches_stays(tmp_path: Path) -> None:
    class Caching(UserManager):
        async def on_after_login(self, user: User, request: Any = None, response: Response | None = None) -> None:
            assert response is not None
            response.headers["Cache-Control"] = "private, max-age=5"

    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=Caching) as world:
        await world.insert_user()

        answer = await world.client.post("/auth/jwt/login", data=CREDENTIALS)

        assert answer.headers.get_list("cache-control") == ["private, max-age=5"]


@pytest.mark.parametrize("body", [b'{"email": "\xff"}', b"[" * 100_000, b"1" * 5000], ids=["bytes", "depth", "digits"])
async def test_a_body_that_cannot_be_read_is_a_422_like_any_other_that_is_no_json(world: World, body: bytes) -> None:
    """Requirement 84: FastAPI answers 400 here, which these routes do not document."""
    answer = await world.client.post(
        "/auth/forgot-password", content=body, headers={"Content-Type": "application/json"}
    )

    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body"])
