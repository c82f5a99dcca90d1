from typing import Any

from jwt import InsecureKeyLengthWarning


class InsecureSettingWarning(UserWarning):
    """A setting that works, as upstream's did, and that nobody should run."""


class InsecureSecretWarning(InsecureSettingWarning, InsecureKeyLengthWarning):
    """A secret that can be guessed. It takes the place of PyJWT's warning, so that what silences that silences this."""


class MissingSetting(NotImplementedError, AttributeError):
    """An attribute that the application has to set was used. An ``AttributeError``, so that ``hasattr`` says no."""


class FastAPIUsersException(Exception):
    """Base of every refusal of this library."""


class InvalidID(FastAPIUsersException):
    """The value is not an id of this application: see ``parse_id`` of the manager."""


class UserAlreadyExists(FastAPIUsersException):
    """The e-mail address belongs to another user."""


class UserNotExists(FastAPIUsersException):
    """No user has this id, e-mail address or OAuth account."""


class OAuthAccountAlreadyLinked(FastAPIUsersException):
    """The account at the provider belongs to another user."""


class OAuthTokenNotAvailable(FastAPIUsersException):
    """The access token of the account has expired, and the provider gives no new one: the user has to come again."""


class OAuthAccountNotExists(FastAPIUsersException):
    """The user has no linked account with this id."""


class LastLoginMethod(FastAPIUsersException):
    """Without this one the user could not log in any more."""


class UserInactive(FastAPIUsersException):
    """``is_active`` is false."""


class UserAlreadyVerified(FastAPIUsersException):
    """``is_verified`` is already true."""


class UserNotVerified(FastAPIUsersException):
    """``is_verified`` is false where a verified user is required."""


class BadCredentials(FastAPIUsersException):
    """Unknown user, wrong secret or inactive user: which one of them is never told."""


class CredentialsChanged(BadCredentials):
    """The user changed, was deactivated or deleted while a login was under way: what it proved counts no more."""


class InvalidVerifyToken(FastAPIUsersException):
    """Malformed, forged, expired, or made for another user or address."""


class InvalidResetPasswordToken(FastAPIUsersException):
    """Malformed, forged, expired, or made for a password that is no longer the current one."""


class InvalidLoginTicket(FastAPIUsersException):
    """Forged, expired, used, or of another browser, backend or user: which one of them is never told."""


class InvalidOneTimeSecret(FastAPIUsersException):
    """Unknown, expired, used, or for another purpose or subject: which of them is never told."""


class TooManyTries(FastAPIUsersException):
    """The limit is reached: the secret is not even compared, and a right one refused as well."""


class InvalidPasswordException(FastAPIUsersException):
    """Raised by ``validate_password``; ``reason`` reaches the client as it is, so it must be a JSON value."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason
