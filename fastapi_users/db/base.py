from typing import Any, Generic

from fastapi_users.models import ID, OAP, UOAP, UP
from fastapi_users.types import DependencyCallable


class BaseUserDatabase(Generic[UP, ID]):
    """The adapter between the manager and a database: override what your application uses.

    The getters return ``None`` where nothing is found, the writers return the user they changed. Arguments always
    come by position, so that a subclass may name its parameters as it likes.
    """

    async def get(self, id: ID) -> UP | None:
        raise NotImplementedError

    async def get_by_email(self, email: str) -> UP | None:
        """Without regard to letter case."""
        raise NotImplementedError

    async def get_by_oauth_account(self, oauth: str, account_id: str) -> UP | None:
        raise NotImplementedError

    async def create(self, create_dict: dict[str, Any]) -> UP:
        raise NotImplementedError

    async def update(self, user: UP, update_dict: dict[str, Any]) -> UP:
        raise NotImplementedError

    async def delete(self, user: UP) -> None:
        raise NotImplementedError

    async def add_oauth_account(self, user: UOAP, create_dict: dict[str, Any]) -> UOAP:
        raise NotImplementedError

    async def update_oauth_account(self, user: UOAP, oauth_account: OAP, update_dict: dict[str, Any]) -> UOAP:
        raise NotImplementedError


UserDatabaseDependency = DependencyCallable[BaseUserDatabase[UP, ID]]
