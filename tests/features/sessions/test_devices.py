import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users.features.sessions.devices import device_name

CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0"
SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0", "Firefox on Linux"),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36", "Chrome on Windows"),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 Edg/143.0.0.0", "Edge on Windows"),
        (f"Mozilla/5.0 (Linux; Android 10; K) {CHROME} Mobile Safari/537.36", "Chrome on Android"),
        (f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {CHROME} Safari/537.36", "Chrome on ChromeOS"),
        (f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {SAFARI} Version/26.0 Safari/605.1.15", "Safari on macOS"),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {SAFARI} CriOS/143.0 Mobile/15E148 Safari/604.1",
            "Chrome on iPhone",
        ),
        ("Mozilla/5.0 (Android 15; Mobile; rv:144.0) Gecko/144.0 Firefox/144.0", "Firefox on Android"),
        ("MyApp/7 (iPad; iPadOS 18)", "iPad"),
        ("python-httpx/0.28.1", "python-httpx/0.28.1"),
        ("curl/8.5.0 libcurl/8.5.0", "curl/8.5.0"),
        ("  ", None),
        ("", None),
        (None, None),
    ],
)
def test_a_device_has_a_name_that_people_know(agent: str | None, name: str | None) -> None:
    assert device_name(agent) == name


@given(st.text())
def test_whatever_an_agent_says_the_name_is_short(agent: str) -> None:
    name = device_name(agent)

    assert name is None or 0 < len(name) <= 40
