"""What a user agent says of the device it runs on, in words for the list of sessions. A hint for people, and no proof."""

# The first that occurs is meant: Edge calls itself Chrome as well, Chrome Safari, and all of them Mozilla.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Vivaldi", "Vivaldi"),
    ("YaBrowser", "Yandex Browser"),
    ("FxiOS", "Firefox"),
    ("Firefox", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chromium", "Chromium"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
)
_MAX_LENGTH = 40


def device_name(agent: str | None) -> str | None:
    """``Firefox on Windows``; of programs their name and version: ``python-httpx/0.28``; ``None`` where nothing is known."""
    if not agent or not agent.strip():
        return None
    browser = next((name for mark, name in _BROWSERS if mark in agent), None)
    system = next((name for mark, name in _SYSTEMS if mark in agent), None)
    if browser is None and system is None:
        return agent.split()[0][:_MAX_LENGTH]
    return " on ".join(name for name in (browser, system) if name is not None)
