"""Single-use secrets in a table: tokens of mails, tickets of interrupted flows, codes that people type.

At rest there are keyed digests (OWASP ASVS 5.0, 11.4), and tries are counted before anything is compared (6.6).
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from fastapi_users.db.store import Increment, Store, at_most, greater_than, less_than, one_of
from fastapi_users.exceptions import InvalidOneTimeSecret, TooManyTries
from fastapi_users.jwt import SecretsType, get_secret_values
from fastapi_users.schemas import is_storable

_NAME_LENGTH = 32
_SUBJECT_LENGTH = 320
_ATTEMPTS = 3
_AFTER_SALT = "."  # in the digests of codes only: base64url has none


@dataclass(frozen=True, kw_only=True)
class Purpose:
    """What a secret is for. The name, of at most 32 characters, is part of every digest: it serves nothing else.

    ``max_tries`` holds for one secret, ``max_tries_per_subject`` for all of a subject within ``window_seconds`` from the
    first try on, so that asking for a new code gives no new tries.
    """

    name: str
    lifetime_seconds: int
    max_tries: int = 5
    max_tries_per_subject: int = 10
    window_seconds: int = 3600

    def __post_init__(self) -> None:
        if len(self.name) > _NAME_LENGTH:
            raise ValueError(f"The name of a purpose has at most {_NAME_LENGTH} characters: {self.name!r}")


class OneTimeSecrets:
    """The secrets of one purpose. A subject is whom they belong to: an id, or an address.

    Issuing refuses, with a ``ValueError``, a subject of more than 320 characters, with NUL, or with half of a surrogate
    pair. Consuming answers ``InvalidOneTimeSecret`` to whatever comes from outside.

    Count tries outside of ``transaction()``: there, the refusal that ends it would undo what was counted.

    :param store: ``user_db.store(OneTimeSecret)``
    :param key: whoever has it and the table finds a code of six digits within a second. Of several the first makes
        digests, and all of them find what they made; the limit of a subject counts from the beginning for a new one.
    """

    def __init__(self, store: Store[Any], *, key: SecretsType, purpose: Purpose) -> None:
        self._store = store
        self._keys = [value.encode("utf-8", "surrogatepass") for value in get_secret_values(key)]
        self._purpose = purpose
        if not all(self._keys):
            raise ValueError("Digests without a key hide no code.")

    async def issue_token(self, subject: str) -> str:
        """256 random bits in 43 characters. Older ones of the subject go on to count."""
        _require_storable(subject)
        token = secrets.token_urlsafe(32)
        await self._create(self._digest("token", token), subject, seconds=self._purpose.lifetime_seconds)
        return token

    async def look_at_token(self, token: str) -> str:
        """Its subject. The token goes on to count, so that this is no proof: something else has to make it single.

        :raises InvalidOneTimeSecret: it does not count.
        """
        subject: str = (await self._get(_open(_now(), digest=self._any_digest("token", token)))).subject
        return subject

    async def consume_token(self, token: str) -> str:
        """Its subject: given once, whoever else asks at the same moment.

        :raises InvalidOneTimeSecret: for everybody else.
        """
        digest, now = self._any_digest("token", token), _now()
        # A collation that looks past letter case leaves 220 bits of a digest: no other row is hit.
        if not await self._store.update_where(_open(now, digest=digest), {"used_at": now}):
            raise InvalidOneTimeSecret
        subject: str = (await self._get({"digest": digest})).subject
        return subject

    async def clear_tries(self, subject: str) -> None:
        """To be called when the subject has proven all there is to prove, and not after one factor of several."""
        await self._store.delete_where({"digest": self._any_digest("tries", subject)})

    async def take_try(self, token: str) -> str:
        """Its subject, after counting one try: to be called before each check of a factor that a token waits for.

        :raises InvalidOneTimeSecret: nothing was counted.
        :raises TooManyTries: the factor must not be checked, not even a right one.
        """
        where = _open(_now(), digest=self._any_digest("token", token))
        limit = less_than(self._purpose.max_tries)
        is_counted = await self._store.update_where({**where, "tries": limit}, {"tries": Increment()})
        subject: str = (await self._get(where)).subject
        if not is_counted:
            raise TooManyTries
        await self._count_try_of(subject)
        return subject

    async def issue_code(self, subject: str, code: str) -> None:
        """For short secrets, which are compared with those of their subject only. Older ones of it end."""
        _require_storable(subject)
        await self._end(await self._open_codes(subject, _now()))
        digest, *_ = self._digests_of_code(secrets.token_urlsafe(12), subject, code)
        await self._create(digest, subject, seconds=self._purpose.lifetime_seconds)

    async def consume_code(self, subject: str, code: str) -> None:
        """A success clears what was counted for the subject, since it proves who came.

        :raises TooManyTries: for the subject, whether or not it exists or has a code. Not for the code: another answer
            than for one that does not exist would tell that there is one.
        :raises InvalidOneTimeSecret: ``max_tries`` of this code included.
        """
        if not _is_storable(subject):
            raise InvalidOneTimeSecret
        await self._count_try_of(subject)
        now = _now()
        codes = await self._open_codes(subject, now)
        if not codes:
            raise InvalidOneTimeSecret
        newest, *older = codes
        where, limit = _open(now, digest=newest), less_than(self._purpose.max_tries)
        if not await self._store.update_where({**where, "tries": limit}, {"tries": Increment()}):
            raise InvalidOneTimeSecret
        salt, _, _ = newest.partition(_AFTER_SALT)
        if not any(hmac.compare_digest(newest, digest) for digest in self._digests_of_code(salt, subject, code)):
            raise InvalidOneTimeSecret
        await self._end(older)  # issued at the same moment: none of them may be the next
        if not await self._store.update_where(where, {"used_at": now}):
            raise InvalidOneTimeSecret
        await self.clear_tries(subject)

    async def end(self, subject: str) -> int:
        """All that are open, of this purpose: how many those were."""
        now = _now()
        where = _open(now, purpose=self._purpose.name, subject=subject)
        return await self._store.update_where(where, {"used_at": now})

    async def cleanup(self) -> int:
        """Delete what expired, of any purpose, and tell how many rows those were."""
        return await delete_expired(self._store)

    async def _create(self, digest: str, subject: str, *, seconds: int, **values: Any) -> None:
        now = _now()
        row = {
            "digest": digest,
            "purpose": self._purpose.name,
            "subject": subject,
            "tries": 0,
            "created_at": now,
            "expires_at": now + timedelta(seconds=seconds),
            "used_at": None,
        }
        await self._store.create({**row, **values})

    async def _get(self, where: dict[str, Any]) -> Any:
        row = await self._store.get(where)
        if row is None:
            raise InvalidOneTimeSecret
        return row

    async def _open_codes(self, subject: str, now: datetime) -> list[str]:
        """Their digests, the newest first. There are several when they were issued at the same moment."""
        rows = await self._store.list(_open(now, purpose=self._purpose.name, subject=subject))
        # A collation may take another subject for this one, whose tries are not ours to count.
        codes = [row for row in rows if row.subject == subject and _AFTER_SALT in row.digest]
        # As text, since a session may forget its rows with the next commit.
        return [digest for _, digest in sorted(((row.created_at, row.digest) for row in codes), reverse=True)]

    async def _end(self, digests: list[str]) -> None:
        for digest in digests:  # one at most, usually; PostgreSQL deadlocks where two update the same several at once
            await self._store.update_where({"digest": digest}, {"used_at": _now()})

    async def _count_try_of(self, subject: str) -> None:
        """In a row of its own, that outlives the secrets."""
        digest, purpose = self._digest("tries", subject), self._purpose
        now = _now()
        live = {"digest": digest, "expires_at": greater_than(now), "tries": less_than(purpose.max_tries_per_subject)}
        first = {"tries": 1, "expires_at": now + timedelta(seconds=purpose.window_seconds)}
        errors = 0
        while not await self._store.update_where(live, {"tries": Increment()}):
            row = await self._store.get({"digest": digest})
            if row is None:
                try:
                    # Used from the start, since it is no secret: nothing that looks for open ones finds it.
                    await self._create(digest, subject, seconds=purpose.window_seconds, tries=1, used_at=now)
                except Exception:
                    # Every database raises something else for a duplicate. What is none comes again.
                    errors += 1
                    if errors == _ATTEMPTS:
                        raise
                else:
                    return
            elif row.expires_at <= now:
                if await self._store.update_where({"digest": digest, "expires_at": at_most(now)}, first):
                    return
            elif row.tries >= purpose.max_tries_per_subject:
                raise TooManyTries
            # Somebody else was faster, and now there is a row to count in.

    def _digests_of_code(self, salt: str, subject: str, code: str) -> list[str]:
        # It is the primary key, and the same subject may be given the same code again: hence the salt.
        return [f"{salt}{_AFTER_SALT}{digest}" for digest in self._digests("code", salt, subject, code)]

    def _any_digest(self, kind: str, *parts: str) -> Any:
        """For a ``where``."""
        digests = self._digests(kind, *parts)
        return one_of(digests) if len(digests) > 1 else digests[0]

    def _digest(self, kind: str, *parts: str) -> str:
        return self._digests(kind, *parts)[0]

    def _digests(self, kind: str, *parts: str) -> list[str]:
        """One for each key, the newest first: HMAC-SHA256 in base64url, of 43 characters. What it covers begins with a zero byte, like nothing that is
        signed as a JWT, should an application use one key for both.
        """
        texts = [text.encode("utf-8", "surrogatepass") for text in (self._purpose.name, kind, *parts)]
        # The lengths keep apart what would read the same: "ab", "c" and "a", "bc".
        message = b"".join(len(text).to_bytes(8, "big") + text for text in texts)
        return [urlsafe_b64encode(hmac.digest(key, message, "sha256")).rstrip(b"=").decode() for key in self._keys]


async def end_all(store: Store[Any], subject: str) -> int:
    """The secrets of all purposes, when the credentials of the subject changed: how many were open."""
    now = _now()
    return await store.update_where(_open(now, subject=subject), {"used_at": now})


async def delete_all(store: Store[Any], subject: str) -> int:
    """All rows of the subject, when it is deleted: how many those were."""
    return await store.delete_where({"subject": subject})


async def delete_expired(store: Store[Any]) -> int:
    return await store.delete_where({"expires_at": at_most(_now())})


def _open(now: datetime, **where: Any) -> dict[str, Any]:
    return {**where, "used_at": None, "expires_at": greater_than(now)}


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _is_storable(subject: str) -> bool:
    return len(subject) <= _SUBJECT_LENGTH and is_storable(subject)


def _require_storable(subject: str) -> None:
    if not _is_storable(subject):
        raise ValueError("A subject has at most 320 characters, and neither NUL nor halves of surrogate pairs.")
