from pathlib import Path

import pytest

from tests.services import connect_redis, database

NOBODY_LISTENS = "redis://127.0.0.1:1/0"


async def test_a_service_that_does_not_answer_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUIRE_SERVICES", raising=False)
    monkeypatch.setattr("tests.services.MISSING", missing := set[str]())

    with pytest.raises(pytest.skip.Exception, match="redis does not answer at redis://127"):
        await connect_redis(NOBODY_LISTENS, decode_responses=True)
    assert missing == {"redis"}


async def test_a_service_that_was_promised_and_does_not_answer_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_SERVICES", "1")

    with pytest.raises(RuntimeError, match="redis was expected at redis://127"):
        await connect_redis(NOBODY_LISTENS, decode_responses=True)


@pytest.mark.parametrize("engine", ["postgresql, asyncpg", "mariadb, aiomysql"])
async def test_a_database_server_that_does_not_answer_skips_the_test(
    engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REQUIRE_SERVICES", raising=False)
    monkeypatch.setattr("tests.services.MISSING", set())
    monkeypatch.setattr("tests.services.POSTGRES_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setattr("tests.services.MARIADB_URL", "mysql://nobody@127.0.0.1:1/nothing")

    with pytest.raises(pytest.skip.Exception, match=r"does not answer at .*127\.0\.0\.1:1"):
        await database(engine, tmp_path).__aenter__()
