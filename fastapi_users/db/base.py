from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Generic, TypeGuard

from fastapi_users.db.store import M, Store, Where
from fastapi_users.exceptions import OAuthAccountNotExists
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

    async def update_where(self, user: UP, expected: dict[str, Any], update_dict: dict[str, Any]) -> UP | None:
        """Write only if the user is still stored with these values, and otherwise nothing: ``None``.

        Of several who expect the same, one may succeed. Here it is a look and then :meth:`update`, which is enough
        where nobody comes between; an adapter for a database makes one step of the two. A subclass of it that overrides
        :meth:`update` is still called.
        """
        stored = await self.get(user.id)
        if stored is None or any(getattr(stored, name) != value for name, value in expected.items()):
            return None
        updated: UP | None = await self.update(user, update_dict)
        return user if updated is None else updated  # an adapter that gives back nothing has written all the same

    async def delete(self, user: UP) -> None:
        raise NotImplementedError

    async def add_oauth_account(self, user: UOAP, create_dict: dict[str, Any]) -> UOAP:
        raise NotImplementedError

    async def update_oauth_account(self, user: UOAP, oauth_account: OAP, update_dict: dict[str, Any]) -> UOAP:
        raise NotImplementedError

    async def delete_oauth_account(self, user: UOAP, oauth_account: OAP) -> UOAP:
        """
        :raises NotImplementedError: the adapter cannot; its users keep what they linked.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no delete_oauth_account(user, oauth_account), without which accounts cannot be "
            "unlinked: implement it, or use an adapter of fastapi_users.db."
        )

    def has_field(self, name: str) -> bool:
        """Whether users have a place for it. Asked for what comes undeclared, with a schema that has ``extra="allow"``."""
        return True

    async def reserve_email(self, email: str, owner_id: ID | None) -> bool:
        """Whether the address is still free, asked in the transaction in which it is about to be written.

        A database whose unique index tells letter case apart lets two users take ``ann@`` and ``Ann@`` at the same
        moment. An adapter for one makes the second of them wait here, and tells it that it was too late.
        ``owner_id`` is the user who changes the spelling of the own address.
        """
        return True

    async def reserve_oauth_account(self, oauth: str, account_id: str) -> bool:
        """Whether this adapter keeps an account at a provider with one user, and with one row.

        Asked in the transaction in which the account is looked up and then linked. An adapter that answers yes lets
        whoever else asks for the same account wait until that transaction ends, and shows what was linked until then.
        """
        return False

    async def lock_oauth_account(self, user: UOAP, oauth_account: OAP) -> tuple[UOAP, OAP]:
        """Both as they are stored now. Whoever else asks for the account waits until the transaction ends, if it can.

        :raises OAuthAccountNotExists: it is gone by now.
        """
        wanted = (oauth_account.oauth_name, oauth_account.account_id)
        stored: Any = await self.get_by_oauth_account(*wanted)
        for account in getattr(stored, "oauth_accounts", ()):
            if (account.oauth_name, account.account_id) == wanted:
                return stored, account
        raise OAuthAccountNotExists

    def store(self, model: type[M]) -> Store[M]:
        """The rows of a feature's model, in the session of this adapter.

        :raises NotImplementedError: the adapter has no store; the features that keep rows of their own need one.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no store(model). Features that keep rows of their own need one: implement it, "
            "or use an adapter of fastapi_users.db."
        )

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Inside, writes count together at the end, or not at all. An adapter that cannot do that writes one by one."""
        return nullcontext()

    async def holds(self, id: ID, fields: Mapping[str, Any]) -> bool:
        """Whether the user is stored with these values, whatever has been loaded of it.

        An adapter that gives the same object for the same user until the session ends has to ask the database itself.
        """
        user = await self.get(id)
        return user is not None and all(getattr(user, name) == value for name, value in fields.items())

    async def after_commit(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Run it now, or, inside ``transaction()``, after the commit; never if that is rolled back.

        After the outermost one, in the order in which they came. One that raises keeps none of the others from running;
        the first error goes on to whoever opened the transaction, which stays committed.
        """
        await callback()

    def may_commit(self) -> bool:
        """Whether a write of ours, which commits at once, would commit nothing of the application's: what it has pending,
        or a transaction that it has begun.
        """
        return True

    def is_worth_another_try(self, error: Exception) -> bool:
        """Whether the database gave a transaction up for the sake of another one, so that all of it may work the next time:
        a deadlock, or a conflict of isolation.
        """
        return False

    async def release_connection(self) -> None:
        """A password is about to be hashed, which may have to wait: let others use the connection meanwhile.

        What was read stays loaded, and what is not yet committed is not lost: where there is such a thing, an adapter
        keeps the connection.
        """

    async def get_with_user(self, model: type[M], where: Where, *, user_id: str = "user_id") -> M | None:
        """The values of a row of a feature's model, read in order to ask for its user next.

        :meth:`get` is called for that all the same, so that an override of it decides. An adapter that can read both in
        one statement has the user at hand then, and asks nothing. What comes back has the attributes of a row, but is
        perhaps no object of the session: change it by ``store(model).update_where``.

        :param user_id: the column of the model with the id of the user.
        """
        return await self.store(model).get(where)

    def is_at_hand(self, user: UP) -> bool:
        """Whether a user that was read in this request can be used again, without a look at the database."""
        return True

    async def restore(self, user: UP) -> None:
        """Load what a commit of the application made the session forget, so that the attributes can be read."""

    async def recover(self, error: Exception) -> None:
        """Stay usable, with what is loaded, after an error that somebody else has caught and that may be of the database."""


async def run_callbacks(callbacks: Iterable[Callable[[], Awaitable[None]]]) -> None:
    errors: list[Exception] = []
    for callback in callbacks:
        try:
            await callback()
        except Exception as error:  # noqa: BLE001, PERF203 -- raised below, after the others ran
            errors.append(error)
    if errors:
        raise errors[0]


def is_adapter(user_db: object) -> TypeGuard[BaseUserDatabase[Any, Any]]:
    """Whether it has what :class:`BaseUserDatabase` has. Not by ``isinstance``, of which the mocks of tests say yes if made
    with ``spec=…``: they know what upstream calls, and answer anything to the rest.
    """
    return issubclass(type(user_db), BaseUserDatabase)


UserDatabaseDependency = DependencyCallable[BaseUserDatabase[UP, ID]]
