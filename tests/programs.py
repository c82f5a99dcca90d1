"""Applications of several modules, imported as they are by who starts them in their folder."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@contextmanager
def in_folder(folder: Path, package: str = "app") -> Iterator[None]:
    """Inside, the package is the one of this folder, and afterwards it is unknown again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        patch.setattr(sys, "dont_write_bytecode", True)
        try:
            yield
        finally:
            for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
                del sys.modules[name]


@contextmanager
def imported(name: str, folder: Path) -> Iterator[Any]:
    with in_folder(folder, name.partition(".")[0]):
        yield import_module(name)
