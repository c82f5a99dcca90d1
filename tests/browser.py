"""Chromium, where a machine has it."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests import services

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """The one of the system: playwright's own is none of its packages."""
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:  # also where the servers have to answer: a browser is a luxury of a machine
        pytest.skip(f"There is none of {', '.join(CHROMIUMS)}.")
    services.ANSWERED.add("chromium")
    async with playwright.async_playwright() as driver:
        try:
            browser = await driver.chromium.launch(executable_path=path)
        except playwright.Error as error:
            pytest.skip(f"{path} does not start: {str(error).splitlines()[0]}")
        yield browser
        await browser.close()
