from fastapi_users.exceptions import FastAPIUsersException
from fastapi_users.features.sessions.errors import InvalidRefreshToken, RefreshTokenReused, SessionNotExists


def test_whoever_catches_an_invalid_token_catches_a_stolen_one_too() -> None:
    assert issubclass(RefreshTokenReused, InvalidRefreshToken)
    assert issubclass(InvalidRefreshToken, FastAPIUsersException)
    assert issubclass(SessionNotExists, FastAPIUsersException)
