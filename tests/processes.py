"""What the processes that run the tests tell the one that collects the results: too early or too late to be covered."""

from typing import Any

import pytest

from tests import services


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for name, servers in getattr(node, "workeroutput", {}).get("services", {}).items():
        getattr(services, name).update(servers)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        met = {name: sorted(getattr(services, name)) for name in ("ANSWERED", "MISSING")}
        session.config.workeroutput["services"] = met
