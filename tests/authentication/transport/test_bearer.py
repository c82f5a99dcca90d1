import json

import pytest

from fastapi_users.authentication import BearerTransport
from fastapi_users.authentication.transport import TransportLogoutNotSupportedError


async def test_the_token_is_answered_as_rfc_6749_says() -> None:
    answer = await BearerTransport("login").get_login_response("TOKEN")

    assert answer.status_code == 200
    assert json.loads(bytes(answer.body)) == {"access_token": "TOKEN", "token_type": "bearer"}


async def test_there_is_nothing_to_answer_at_logout() -> None:
    with pytest.raises(TransportLogoutNotSupportedError):
        await BearerTransport("login").get_logout_response()


def test_the_document_shows_the_answer() -> None:
    (status_code,) = BearerTransport.get_openapi_login_responses_success()

    assert status_code == 200
    assert BearerTransport.get_openapi_logout_responses_success() == {}
    assert BearerTransport("auth/login").scheme.model.flows.password.tokenUrl == "auth/login"  # type: ignore[attr-defined]  # FastAPI's model is a union
