from fastapi_users.features.throttle import Throttled


def test_an_event_tells_the_limit_and_not_the_user() -> None:
    event = Throttled(user_id=None, limit="login", retry_after=10, identifier=None)

    assert (event.name, event.data) == ("throttled", {"limit": "login", "retry_after": 10, "identifier": None})
