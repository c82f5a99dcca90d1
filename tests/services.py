"""Servers that a machine may or may not run. Tests that need one are skipped, visibly, where it does not answer."""

import os
from typing import NoReturn

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NoRedis

REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")


async def connect_redis(url: str = REDIS_URL, *, decode_responses: bool) -> Redis:
    client = Redis.from_url(url, decode_responses=decode_responses)
    try:
        await client.ping()
    except NoRedis as error:
        await client.aclose()
        unavailable("Redis", url, error)
    return client


def unavailable(service: str, url: str, error: Exception) -> NoReturn:
    """Skip, unless ``REQUIRE_SERVICES=1`` says that the machine has them all."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        raise RuntimeError(f"{service} was expected at {url}, and does not answer") from error
    pytest.skip(f"{service} does not answer at {url}")
