"""Encryption at rest, for what has to be read again: tokens of providers (OWASP ASVS 5.0, 14.2.6)."""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fastapi_users.jwt import SecretType, _get_secret_value

_MARK = "fernet:"


class TokenCipher:
    """AES-128-CBC with HMAC-SHA256 (Fernet), under keys that are derived from long random secrets.

    The first secret encrypts, all decrypt: to rotate, put a new one in front, and drop the old one when every row has
    been written again. What was stored before in clear text is read as it is. A token grows by a third and 110
    characters: tables with columns of 1024 characters take tokens of up to 680.

    :raises ValueError: there is no secret, or one has less than 32 bytes.
    """

    def __init__(self, secrets: Sequence[SecretType]) -> None:
        if isinstance(secrets, str) or not secrets:
            raise ValueError("A cipher needs a list of secrets, the newest first.")
        self._fernet = MultiFernet([Fernet(_derive(_get_secret_value(secret))) for secret in secrets])

    def encrypt(self, token: str) -> str:
        return _MARK + self._fernet.encrypt(token.encode()).decode()

    def decrypt(self, stored: str) -> str:
        """:raises ValueError: it was encrypted with another secret, or changed."""
        if not stored.startswith(_MARK):
            return stored
        try:
            return self._fernet.decrypt(stored.removeprefix(_MARK).encode()).decode()
        except InvalidToken as error:
            raise ValueError("No secret of the cipher fits what is stored.") from error


_MIN_BYTES = 32


def _derive(secret: str) -> bytes:
    material = secret.encode()
    if len(material) < _MIN_BYTES:
        raise ValueError(f"A secret of a cipher has at least {_MIN_BYTES} bytes.")
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fastapi-users:token-cipher").derive(material)
    return base64.urlsafe_b64encode(key)
