"""Refresh tokens that are replaced at each use (RFC 9700, section 4.14.2): pure, with clock and randomness as arguments.

A token names its session and the generation, and holds a secret and a seal. The server keeps digests of the current and of the
previous one only. What each part is for:

- The **seal** is an HMAC under the server's key, so that a token that we made long ago can be told from one that somebody
  made up: the former is a stolen one at work and ends the session, the latter must not, since ids of sessions are no
  secrets.
- The secret of a **child** is an HMAC of its parent's. Whoever comes twice with the parent, because an answer got lost,
  is given the same child again, though nothing but its digest is stored.
- A child that is younger than the **grace** is not replaced, but answered with itself. So there is one replacement in the
  time of a grace at most, and what was replaced within it is the direct parent: to remember one is enough.

A stolen database has digests only. A stolen token gives no later ones without the key, and the key gives none without a
token.
"""

import hashlib
import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

_VERSION = 1
_BODY = struct.Struct(">B16sI32s")  # version, session, generation, secret
_SEAL_BYTES = 16
_FORM = re.compile(r"[\w-]{92}", re.ASCII)  # base64url of both, without padding

SECRET_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class RefreshToken:
    session_id: UUID
    generation: int
    secret: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """What is stored. A fast hash is enough for 256 random bits (OWASP ASVS 5.0, 11.4)."""
        return _text(hashlib.sha256(_body(self)).digest())


class Verdict(Enum):
    """What a genuine token is to its session: current, to be replaced or too young for that; or replaced, just now or
    long ago.
    """

    DUE = "due"
    YOUNG = "young"
    REPEATED = "repeated"
    STOLEN = "stolen"


def child_of(parent: RefreshToken, key: str) -> RefreshToken:
    return RefreshToken(
        session_id=parent.session_id,
        generation=parent.generation + 1,
        secret=_mac(key, b"child", _body(parent)),
    )


def seal(token: RefreshToken, key: str) -> str:
    """As clients get it."""
    body = _body(token)
    return _text(body + _seal(key, body))


def unseal(text: str, keys: Sequence[str]) -> RefreshToken | None:
    """``None`` for what none of the keys has sealed."""
    if _FORM.fullmatch(text) is None:
        return None
    raw = urlsafe_b64decode(text)
    body, given = raw[: _BODY.size], raw[_BODY.size :]
    version, session_id, generation, secret = _BODY.unpack(body)
    is_ours = [hmac.compare_digest(_seal(key, body), given) for key in keys]
    if version != _VERSION or not any(is_ours):
        return None
    return RefreshToken(session_id=UUID(bytes=session_id), generation=generation, secret=secret)


def judge(
    token: RefreshToken,
    *,
    current: str,
    previous: str | None,
    rotated_at: datetime,
    now: datetime,
    grace_seconds: float,
) -> Verdict:
    """The token of the login has no parent that could be presented beside it, and is replaced however young it is.

    :param current: the digest of the current token, as ``previous`` is that of its parent.
    :param rotated_at: when the one took the place of the other.
    """
    digest, is_young = token.digest, now - rotated_at < timedelta(seconds=grace_seconds)
    if hmac.compare_digest(digest, current):
        return Verdict.YOUNG if is_young and token.generation > 0 else Verdict.DUE
    is_parent = previous is not None and hmac.compare_digest(digest, previous)
    return Verdict.REPEATED if is_parent and is_young else Verdict.STOLEN


def repeated_child(parent: RefreshToken, *, current: str, keys: Sequence[str]) -> RefreshToken | None:
    """The child that was given before, also if the key has been replaced since; ``None`` if that one is forgotten."""
    children = (child_of(parent, key) for key in keys)
    return next((child for child in children if hmac.compare_digest(child.digest, current)), None)


def credentials_digest(hashed_password: str, email: str, key: str) -> str:
    """Whether both are still the same can be told from it with the key only, and neither of them from it."""
    message = f"{len(hashed_password)}:{hashed_password}{email}".encode("utf-8", "surrogatepass")
    return _text(_mac(key, b"credentials", message))


def idle_end(now: datetime, *, idle_seconds: int, ends_at: datetime) -> datetime:
    """When a session ends that nobody refreshes: ``ends_at`` at the latest."""
    return min(now + timedelta(seconds=idle_seconds), ends_at)


def _body(token: RefreshToken) -> bytes:
    return _BODY.pack(_VERSION, token.session_id.bytes, token.generation, token.secret)


def _seal(key: str, body: bytes) -> bytes:
    return _mac(key, b"seal", body)[:_SEAL_BYTES]


def _mac(key: str, purpose: bytes, body: bytes) -> bytes:
    # Begins with a zero byte, like nothing that is signed as a JWT, should an application use one key for both.
    return hmac.digest(key.encode("utf-8", "surrogatepass"), b"\0" + purpose + b"\0" + body, "sha256")


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
