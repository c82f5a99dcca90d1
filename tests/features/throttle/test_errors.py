from fastapi_users.features.throttle.errors import (
    THROTTLE_RESPONSES,
    rate_fields,
    storage_unavailable,
    too_many_requests,
)
from fastapi_users.features.throttle.limits import Rate


def test_the_fields_are_those_of_the_draft() -> None:
    """draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4"""
    assert rate_fields("login", Rate(30, 60), remaining=3) == {
        "RateLimit-Policy": '"login";q=30;w=60',
        "RateLimit": '"login";r=3',
    }
    refusal = too_many_requests("login", Rate(30, 60), 7)
    assert refusal.headers == {
        "Retry-After": "7",
        "RateLimit-Policy": '"login";q=30;w=60',
        "RateLimit": '"login";r=0;t=7',
    }


def test_the_document_has_the_codes_and_headers_that_are_answered() -> None:
    for refusal in (too_many_requests("login", Rate(1, 1), 1), storage_unavailable()):
        documented = THROTTLE_RESPONSES[refusal.status_code]
        (example,) = documented["content"]["application/json"]["examples"].values()
        assert example["value"] == {"detail": refusal.detail}
        assert {*documented["headers"]} == {*(refusal.headers or {})}
