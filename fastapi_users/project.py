"""What an application says once, in its ``pyproject.toml``, to the command and to the plugin for pytest."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from fastapi_users._lazy import needs_extra


class Project(NamedTuple):
    """Modules are found from ``folder`` on; ``app`` is their ``module:name``."""

    folder: Path
    app: str | None


def find_project(start: Path | None = None) -> Project:
    """The next ``pyproject.toml`` with a ``[tool.fastapi-users]``, upwards; without one, just the folder."""
    start = start or Path.cwd()
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        settings = _settings(file) if file.is_file() else None
        if settings is not None:
            app = settings.get("app")
            return Project(folder, app if isinstance(app, str) else None)
    return Project(start, None)


def _settings(file: Path) -> dict[str, Any] | None:
    with needs_extra("cli"):
        tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        tools = tomllib.loads(file.read_text("utf-8")).get("tool")
    except ValueError as error:
        raise ValueError(f"{file} is no TOML: {error}") from error
    settings = tools.get("fastapi-users") if isinstance(tools, dict) else None
    if not isinstance(settings, dict | None):
        raise TypeError(
            f'{file} has one value for fastapi-users: write [tool.fastapi-users], and in it app = "app.main:app".'
        )
    return settings
