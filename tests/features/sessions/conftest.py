from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.features.sessions.application import STORES, Application, application_on


@pytest.fixture(params=STORES)
async def application(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Application]:
    """On each store, with a user."""
    async with application_on(request.param, tmp_path) as application:
        await application.register()
        yield application


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Application]:
    """In memory, for what no store has a say in."""
    async with application_on("memory", tmp_path) as application:
        await application.register()
        yield application
