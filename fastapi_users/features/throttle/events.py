from dataclasses import dataclass

from fastapi_users.events import Event


@dataclass(frozen=True, kw_only=True)
class Throttled(Event):
    """The ``limit`` of this name has refused a request: told of the first one only, until the limit lets pass again.

    ``identifier`` is what was claimed, if it can be an e-mail address; ``retry_after`` is in seconds.
    """

    name = "throttled"

    limit: str
    retry_after: int
    identifier: str | None
