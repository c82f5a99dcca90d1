import dataclasses
import logging
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import ConnectionPool, Redis

from fastapi_users.features.throttle import Throttle
from fastapi_users.features.throttle.limits import close_storage, open_storage
from tests.features.throttle.throttled import log_in, throttled_world
from tests.services import REDIS_URL, connect_redis


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


class Watch:
    """The connections to Redis that bear a name of this test."""

    def __init__(self, redis: Redis, name: str) -> None:
        self.redis = redis
        self.name = name
        self.url = f"{REDIS_URL}{'&' if '?' in REDIS_URL else '?'}client_name={name}"

    async def connections(self) -> int:
        return len([client for client in await self.redis.client_list() if client["name"] == self.name])


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    redis = await connect_redis(decode_responses=True)
    await redis.flushdb()
    yield Watch(redis, f"throttle-of-{os.getpid()}")
    await redis.aclose()


async def test_its_connections_end_with_the_application_and_come_back_if_it_goes_on(
    watch: Watch, tmp_path: Path
) -> None:
    throttle = Throttle(watch.url, storage_timeout_seconds=30)
    async with throttled_world(tmp_path, throttle) as world:
        for _ in range(2):
            assert (await log_in(world.client)).status_code == 400
            assert await watch.connections() == 1
            await throttle.aclose()
            await throttle.aclose()
            assert await watch.connections() == 0


async def test_the_connections_of_a_storage_that_was_handed_over_stay(watch: Watch) -> None:
    pool = ConnectionPool.from_url(watch.url)
    storage = open_storage(watch.url, connection_pool=pool)
    throttle = Throttle(storage, storage_timeout_seconds=30)
    await throttle.limiter.count(throttle.limits("login", "192.0.2.1")[0])

    await throttle.aclose()
    await close_storage(storage)
    assert await watch.connections() == 1
    await pool.aclose()
    assert await watch.connections() == 0


async def test_in_memory_there_is_nothing_to_close() -> None:
    throttle = Throttle("memory://")
    await throttle.aclose()

    assert await throttle.limiter.count(throttle.limits("login", "192.0.2.1")[0]) == 29


def test_its_repr_holds_no_password() -> None:
    throttle = Throttle("redis://user:PASSWORD@127.0.0.1:1/0")

    assert "PASSWORD" not in repr(throttle)
    assert "login='30/minute'" in repr(throttle)


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
