import uuid
from unittest.mock import AsyncMock

import pytest
from fastapi import Response

from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, Strategy, Transport
from fastapi_users.authentication.strategy import StrategyDestroyNotSupportedError
from fastapi_users.testing import User

USER = User("ann@example.org", "h")


def backend(transport: Transport) -> AuthenticationBackend[User, uuid.UUID]:
    return AuthenticationBackend("name", transport, lambda: Strategy[User, uuid.UUID])  # type: ignore[arg-type,return-value]  # never called


async def test_login_hands_the_token_of_the_strategy_to_the_transport() -> None:
    strategy = AsyncMock()
    strategy.write_token.return_value = "TOKEN"

    answer = await backend(CookieTransport()).login(strategy, USER)

    strategy.write_token.assert_awaited_once_with(USER)
    assert "fastapiusersauth=TOKEN" in answer.headers["set-cookie"]


@pytest.mark.parametrize("error", [None, StrategyDestroyNotSupportedError])
@pytest.mark.parametrize("transport", [BearerTransport("login"), CookieTransport()])
async def test_logout_always_answers(transport: Transport, error: type[Exception] | None) -> None:
    strategy = AsyncMock()
    strategy.destroy_token.side_effect = error

    answer = await backend(transport).logout(strategy, USER, "TOKEN")

    strategy.destroy_token.assert_awaited_once_with("TOKEN", USER)
    assert isinstance(answer, Response)
    assert answer.status_code == 204
