import dataclasses
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from fastapi_users.features.throttle import Throttle
from fastapi_users.features.throttle.limits import open_storage


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"login": "often"}, "often"),
        ({"login": "0/minute"}, "Throttle.login allows nothing"),
        ({"failures_per_identifier_and_address": "1/minute; 2/hour"}, "grows by itself"),
        ({"device_cookie_name": "__Host-device", "device_cookie_path": "/auth"}, "__Host-device"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Throttle("memory://", **settings)


def test_a_limit_can_be_left_out_and_a_storage_be_handed_over() -> None:
    throttle = Throttle(open_storage("memory://"), login=None)

    assert throttle.limits("login", "192.0.2.1") == []
    assert [limit.key for limit in throttle.limits("mails", "x")] == ["mails:60:x", "mails:3600:x"]


def test_the_log_is_told_once_a_minute(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("fastapi_users.features.throttle.settings.time.monotonic", lambda: now)
    throttle = Throttle("memory://")
    with caplog.at_level(logging.ERROR, "fastapi_users.throttle"):
        for now in (0.0, 59.0, 60.0):  # noqa: B007 -- read by the clock above
            throttle.complain("a topic", "Something is wrong.")
        throttle.complain("another", "Something else is.")

    assert [record.message for record in caplog.records] == [*["Something is wrong."] * 2, "Something else is."]


def test_nothing_is_measured_where_nobody_measures() -> None:
    Throttle("memory://").measure("login", is_allowed=True)


def test_the_page_names_every_setting_with_its_default_and_nothing_else() -> None:
    text = (Path(__file__).parents[3] / "docs" / "throttle.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S[^|]*?) \|", text, re.MULTILINE))
    defaults = {
        setting.name: "required" if setting.default is dataclasses.MISSING else f"`{setting.default}`"
        for setting in dataclasses.fields(Throttle)
        if setting.init
    }

    assert rows == defaults
