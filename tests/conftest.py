import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from fastapi_users import insecure
from fastapi_users.authentication.strategy import base
from fastapi_users.db import sqlalchemy
from fastapi_users.hashing import hashing_pool
from tests.processes import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown  # noqa: F401 -- hooks
from tests.world import World

# Neither a slow machine nor chance decides whether the tests pass.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    # A thread that ends leaves work for greenlet, in the midst of which coverage's tracer has hung on Python 3.11.
    hashing_pool.idle_seconds = 24 * 3600


@pytest.fixture(autouse=True)
def nobody_was_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once per process is said once per test."""
    for told in ("_told", "_told_secrets"):
        monkeypatch.setattr(insecure, told, set())
    base._tell_of_unfit_ids.cache_clear()


@pytest.fixture(autouse=True)
def whatever_is_soon_on_a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlalchemy, "_SOON_SECONDS", math.inf)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An application with every router, on a SQLite file of its own."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}") as world:
        yield world
