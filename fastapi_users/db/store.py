"""Rows of features: one small interface, the same on every database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

M = TypeVar("M")


@dataclass(frozen=True)
class Condition:
    """Stands in a ``where`` for anything but equality."""

    operator: Literal["<", "<=", ">", ">=", "!=", "in", "not in"]
    operand: Any


def less_than(value: Any) -> Condition:
    return Condition("<", value)


def at_most(value: Any) -> Condition:
    return Condition("<=", value)


def greater_than(value: Any) -> Condition:
    return Condition(">", value)


def at_least(value: Any) -> Condition:
    return Condition(">=", value)


def other_than(value: Any) -> Condition:
    """Like equality it takes ``None``: ``other_than(None)`` is "has a value"."""
    return Condition("!=", value)


def one_of(values: Sequence[Any]) -> Condition:
    return Condition("in", list(values))


def none_of(values: Sequence[Any]) -> Condition:
    """Like ``other_than`` it leaves out what has no value."""
    return Condition("not in", list(values))


@dataclass(frozen=True)
class Increment:
    """Stands in ``values`` for the number that is there, plus this one: counted by the database, so none is lost."""

    by: int = 1


Where = Mapping[str, Any]
"""Column names to values they equal (``None`` is null), or to a :class:`Condition`. All of them must hold."""


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What the database has not got of a model, and the ``line`` to write."""

    model: type[Any]
    problem: str
    line: str


class Store(Protocol[M]):
    """The rows of one model, in the session of the adapter that made the store.

    Writes commit at once unless inside ``transaction()`` of the adapter.
    """

    async def get(self, where: Where) -> M | None:
        """The row; ``None`` when there is none, any one of them when there are several."""
        ...

    async def list(self, where: Where, *, order_by: str | None = None, limit: int | None = None) -> list[M]:
        """``order_by`` is the name of a column, with a leading ``-`` for descending."""
        ...

    async def create(self, values: Mapping[str, Any]) -> M:
        """What the database raises for a duplicate comes through, with nothing written."""
        ...

    async def update_where(self, where: Where, values: Mapping[str, Any]) -> int:
        """Change the rows for which ``where`` holds, and tell how many those were.

        Condition and change are one step of the database, so that of two who take the same row with the same
        condition (a token "not used yet") one gets 1 and the other one 0. Objects that were loaded before keep their
        old values.
        """
        ...

    async def delete_where(self, where: Where) -> int:
        """Delete the rows for which ``where`` holds, and tell how many those were."""
        ...


async def find_missing(keeper: Any) -> Sequence[Missing]:
    """What the database has not got of the models of an adapter, or of a store, that has a method of this name."""
    return await _ask(keeper, "find_missing")


async def find_unguarded(keeper: Any) -> Sequence[Missing]:
    """What has to be unique, and the database itself does not keep so: the same."""
    return await _ask(keeper, "find_unguarded")


async def _ask(keeper: Any, question: str) -> Sequence[Missing]:
    look = getattr(type(keeper), question, None)
    missing: Sequence[Missing] = [] if look is None else await look(keeper)
    return missing
