import pytest

from tests.services import connect_redis

NOBODY_LISTENS = "redis://127.0.0.1:1/0"


async def test_a_service_that_does_not_answer_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUIRE_SERVICES", raising=False)

    with pytest.raises(pytest.skip.Exception, match="Redis does not answer at redis://127"):
        await connect_redis(NOBODY_LISTENS, decode_responses=True)


async def test_a_service_that_was_promised_and_does_not_answer_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_SERVICES", "1")

    with pytest.raises(RuntimeError, match="Redis was expected at redis://127"):
        await connect_redis(NOBODY_LISTENS, decode_responses=True)
