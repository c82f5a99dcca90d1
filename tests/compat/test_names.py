"""Every name that can be imported from a module of version 15, also where that module only uses it.

Editors offer all of them, so that applications import ``AsyncSession`` from the adapter, say.
"""

import json
from importlib import import_module
from pathlib import Path

import pytest

NAMES: dict[str, list[str]] = json.loads(Path(__file__).with_name("names.json").read_text())


@pytest.mark.parametrize("module", NAMES)
def test_what_could_be_imported_from_a_module_still_can(module: str) -> None:
    imported = import_module(module)

    assert [name for name in NAMES[module] if not hasattr(imported, name)] == []
