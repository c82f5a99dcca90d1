"""What the processes that run the tests tell the one that collects the results: too early or too late to be covered."""

from pathlib import Path
from typing import Any

import pytest

from tests import services

MISSING_SERVICES = Path(__file__).parent.parent / ".missing-services"


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for name, servers in getattr(node, "workeroutput", {}).get("services", {}).items():
        getattr(services, name).update(servers)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        met = {name: sorted(getattr(services, name)) for name in ("ANSWERED", "MISSING")}
        session.config.workeroutput["services"] = met


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which servers the tests ran against, and leave a note for ``make test`` of those that were missing."""
    terminalreporter.section("services")
    terminalreporter.line(f"ran against: {'; '.join(sorted(services.ANSWERED))}")
    terminalreporter.line(f"did not answer: {'; '.join(sorted(services.MISSING)) or 'none'}")
    MISSING_SERVICES.write_text(" ".join(sorted(services.MISSING)), "utf-8")
