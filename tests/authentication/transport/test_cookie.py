from typing import Any

import pytest
from fastapi import Response

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


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("__Host-session", {"cookie_secure": False}),
        ("__Host-session", {"cookie_path": "/app"}),
        ("__Host-session", {"cookie_path": ""}),
        ("__Host-session", {"cookie_domain": "app.test"}),
        ("__Secure-session", {"cookie_secure": False}),
        ("__host-session", {"cookie_domain": "app.test"}),
        ("__SECURE-session", {"cookie_secure": False}),
    ],
)
def test_a_name_that_promises_what_the_cookie_is_not_is_refused_at_the_start(name: str, flags: dict[str, Any]) -> None:
    """Requirement 68: no browser would keep the cookie (RFC 6265bis, section 4.1.3)."""
    with pytest.raises(ValueError, match=f"{name!r} only"):
        CookieTransport(name, **flags)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("__Host-session", {}),
        ("__Host-session", {"cookie_samesite": "strict", "cookie_max_age": 60}),
        ("__Secure-session", {"cookie_path": "/app", "cookie_domain": "app.test"}),
        ("session__Host-", {"cookie_secure": False}),
    ],
)
async def test_a_name_can_promise_what_the_cookie_is_like(name: str, flags: dict[str, Any]) -> None:
    """Requirement 68 (cookies.login_host_prefix). The cookie of a challenge promises the same."""
    transport = CookieTransport(name, **flags)

    assert (await transport.get_login_response("TOKEN")).headers["set-cookie"].startswith(f"{name}=TOKEN; ")
    transport.set_challenge_cookie(challenge := Response(), "VALUE", 60)
    assert challenge.headers["set-cookie"].startswith(f"{name}_challenge=VALUE; ")
