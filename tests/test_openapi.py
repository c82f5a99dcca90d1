from typing import get_args

from fastapi_users.openapi import OpenAPIResponseType


def test_responses_are_keyed_by_status_code() -> None:
    assert get_args(OpenAPIResponseType)[0] == int | str
