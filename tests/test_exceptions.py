import pytest

from fastapi_users import exceptions

REFUSALS = [
    exceptions.InvalidID,
    exceptions.UserAlreadyExists,
    exceptions.UserNotExists,
    exceptions.OAuthAccountAlreadyLinked,
    exceptions.OAuthAccountNotExists,
    exceptions.LastLoginMethod,
    exceptions.UserInactive,
    exceptions.UserAlreadyVerified,
    exceptions.UserNotVerified,
    exceptions.BadCredentials,
    exceptions.InvalidVerifyToken,
    exceptions.InvalidResetPasswordToken,
    exceptions.InvalidOneTimeSecret,
    exceptions.TooManyTries,
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refusals_derive_from_one_base_and_take_no_arguments(refusal: type[exceptions.FastAPIUsersException]) -> None:
    assert refusal.__bases__ == (exceptions.FastAPIUsersException,)
    assert isinstance(refusal(), Exception)


@pytest.mark.parametrize("reason", ["too short", ["too short", "too common"], {"minimum": 8}, None])
def test_an_invalid_password_keeps_its_reason(reason: object) -> None:
    assert exceptions.InvalidPasswordException(reason).reason is reason
    assert exceptions.InvalidPasswordException(reason=reason).reason is reason
