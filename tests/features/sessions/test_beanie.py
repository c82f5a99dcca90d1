from datetime import datetime

from fastapi_users.features.sessions.beanie import BeanieBaseSession, _in_utc


def test_times_know_their_zone_though_mongodb_does_not_say_it() -> None:
    naive = datetime(2030, 1, 1)  # noqa: DTZ001 -- as MongoDB returns it
    aware = _in_utc(naive)

    assert aware.isoformat() == "2030-01-01T00:00:00+00:00"
    assert _in_utc(aware) is aware


def test_what_is_looked_for_is_indexed() -> None:
    indexes = [[*index.document["key"]] for index in BeanieBaseSession.Settings.indexes]

    assert indexes == [["user_id"], ["expires_at"]]
