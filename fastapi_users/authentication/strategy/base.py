from typing import Any, Generic, Protocol

from fastapi_users import exceptions
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP


class StrategyDestroyNotSupportedError(Exception):
    """Tokens of this strategy live until they expire."""


class Strategy(Protocol, Generic[UP, ID]):
    """How a token is made and read. As a base class it makes nothing abstract: implement what you use."""

    async def read_token(self, token: str | None, user_manager: BaseUserManager[UP, ID]) -> UP | None:
        """``None`` for every token that is not a good one. Flags are the authenticator's business."""
        ...

    async def write_token(self, user: UP) -> str: ...

    async def destroy_token(self, token: str, user: UP) -> None:
        """:raises StrategyDestroyNotSupportedError: logging out then only ends what the transport holds."""
        ...


async def get_token_owner(user_id: Any, user_manager: BaseUserManager[UP, ID]) -> UP | None:
    """The user whose id a token holds; ``None`` when it is no id, or of nobody any more."""
    try:
        return await user_manager.get(user_manager.parse_id(user_id))
    except (exceptions.InvalidID, exceptions.UserNotExists):
        return None
