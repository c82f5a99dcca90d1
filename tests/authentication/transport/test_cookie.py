import pytest

from fastapi_users.authentication import CookieTransport


async def test_the_token_is_answered_in_a_cookie_that_scripts_cannot_read() -> None:
    answer = await CookieTransport().get_login_response("TOKEN")

    assert (answer.status_code, answer.body) == (204, b"")
    assert answer.headers["set-cookie"] == "fastapiusersauth=TOKEN; HttpOnly; Path=/; SameSite=lax; Secure"


async def test_the_cookie_is_cleared_at_logout() -> None:
    answer = await CookieTransport().get_logout_response()

    assert (answer.status_code, answer.body) == (204, b"")
    assert answer.headers["set-cookie"] == 'fastapiusersauth=""; HttpOnly; Max-Age=0; Path=/; SameSite=lax; Secure'


@pytest.mark.parametrize(("max_age", "method"), [("5", "login"), ("0", "logout")])
async def test_every_attribute_of_the_cookie_can_be_chosen(max_age: str, method: str) -> None:
    transport = CookieTransport("name", 5, "/path", "app.test", False, False, "none")

    answer = await (transport.get_login_response("") if method == "login" else transport.get_logout_response())

    assert answer.headers["set-cookie"] == f'name=""; Domain=app.test; Max-Age={max_age}; Path=/path; SameSite=none'


def test_the_document_shows_empty_answers() -> None:
    assert CookieTransport.get_openapi_login_responses_success() == {204: {"model": None}}
    assert CookieTransport.get_openapi_logout_responses_success() == {204: {"model": None}}
