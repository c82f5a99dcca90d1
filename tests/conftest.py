from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.world import World

# Neither a slow machine nor chance decides whether the tests pass.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An application with every router, on a SQLite file of its own."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}") as world:
        yield world
