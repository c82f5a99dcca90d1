"""The rules of the house that no linter knows."""

import dataclasses
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from enum import Enum
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

import fastapi_users
from fastapi_users.router.common import ErrorCode
from tests.world import World

ROOT = Path(__file__).parents[1]
PACKAGES = ["fastapi_users", "fastapi_users_db_beanie", "fastapi_users_db_sqlalchemy", "fastapi_users_pytest"]
MODULE_FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULE_NAMES = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in MODULE_FILES]

OPTIONAL_PACKAGES = [
    "aiosmtplib",
    "beanie",
    "bson",
    "httpx",
    "httpx_oauth",
    "jinja2",
    "limits",
    "pymongo",
    "redis",
    "sqlalchemy",
    "time_machine",
    "typer",
]
WITHOUT_EXTRAS = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL_PACKAGES}))\n"


def our_files() -> list[Path]:
    """Everything that we write, hence not the contract's own programs."""
    files = [path for folder in [*PACKAGES, "tests", "examples"] for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in files if not path.name.startswith("check_"))


def comments(marker: str) -> Iterator[tuple[str, str]]:
    """Where it stands, and the comment from the marker on."""
    for path in our_files():
        with tokenize.open(path) as file:
            for token in tokenize.generate_tokens(file.readline):
                found = re.search(rf"#\s*({marker}.*)", token.string) if token.type == tokenize.COMMENT else None
                if found is not None:
                    yield f"{path.relative_to(ROOT)}:{token.start[0]}", found[1]


def in_a_fresh_interpreter(code: str) -> str:
    finished = subprocess.run(  # noqa: S603 -- ours
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def mirror(module: Path) -> Path:
    package, *folders, name = module.parts
    if package != "fastapi_users":
        return Path("tests", "test_alias_packages.py")
    return Path("tests", *folders, f"test_{name}")


def test_every_module_has_a_test_module_of_its_own() -> None:
    expected = {mirror(module) for module in MODULE_FILES if module.name != "__init__.py"}

    assert sorted(str(path) for path in expected if not (ROOT / path).exists()) == []


def test_nothing_is_hidden_from_the_coverage() -> None:
    assert list(comments("pragma: *no *(cover|branch)")) == []


def test_nothing_is_called_utils_or_helpers() -> None:
    vague = {"util", "utils", "helper", "helpers"}

    assert [path for path in our_files() if vague & {*path.relative_to(ROOT).with_suffix("").parts}] == []


def test_every_ignored_type_error_has_a_code_and_a_reason() -> None:
    with_reason = re.compile(r"type: ignore\[[a-z-]+(, ?[a-z-]+)*\]  # \S|pyright: ignore\[\w+(, ?\w+)*\] -- \S")

    ignored = comments("(type|pyright): *ignore")
    assert [(place, comment) for place, comment in ignored if not with_reason.match(comment)] == []


def test_every_silenced_lint_has_a_code_and_a_reason() -> None:
    with_reason = re.compile(r"(ruff: )?noqa: [A-Z]+\d+(, ?[A-Z]+\d+)* -- \S")

    silenced = comments("(ruff: *)?noqa")
    assert [(place, comment) for place, comment in silenced if not with_reason.match(comment)] == []


def test_an_error_code_is_its_name_and_occurs_once() -> None:
    enums = {
        value
        for name in MODULE_NAMES
        for value in vars(import_module(name)).values()
        if isinstance(value, type) and issubclass(value, Enum) and value.__name__.endswith("ErrorCode")
    }
    codes = [(name, member.value) for enum in enums for name, member in enum.__members__.items()]

    assert ErrorCode in enums
    assert [code for code in codes if code[0] != code[1]] == []
    assert len(codes) == len(set(codes))


def test_no_secret_is_shown_by_the_repr_of_a_dataclass() -> None:
    """It ends in a log, or in a report of an error with the variables of every frame."""
    kinds = {
        value
        for name in MODULE_NAMES
        for value in vars(import_module(name)).values()
        if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ in MODULE_NAMES
    }
    is_secret = re.compile(r"(secret|token|password|digest|hash|fingerprint|storage)$")
    fields = [(kind.__name__, field) for kind in kinds for field in dataclasses.fields(kind)]
    secret_fields = [(kind, field) for kind, field in fields if is_secret.search(field.name)]

    assert {kind for kind, _ in secret_fields} >= {"Throttle", "Flow", "Identity", "StartedSession", "User"}
    assert [(kind, field.name) for kind, field in secret_fields if field.repr] == []


def test_every_refusal_in_the_openapi_document_comes_from_a_table() -> None:
    options: dict[str, Any] = {
        "allowed_redirects": ["/"],
        "requires_current_password": True,
    }  # so that all can be refused
    world = World(create_async_engine("sqlite+aiosqlite://"), **options)
    operations = [operation for path in world.app.openapi()["paths"].values() for operation in path.values()]
    refusals = [operation["responses"]["400"] for operation in operations if "400" in operation["responses"]]
    # A refusal of ours has codes as examples; a table is the only place that makes them.
    examples = {
        name: example
        for refusal in refusals
        for name, example in refusal["content"]["application/json"]["examples"].items()
    }
    legacy = examples.pop("INVALID_STATE_TOKEN")  # in upstream's document, sent by neither

    assert set(examples) == {code.value for code in ErrorCode}
    assert "value" not in legacy
    for name, example in examples.items():
        detail = example["value"]["detail"]
        assert name == (detail["code"] if isinstance(detail, dict) else detail)


def test_every_module_is_importable_without_extras_or_names_the_one_it_needs() -> None:
    refused = json.loads(
        in_a_fresh_interpreter(
            WITHOUT_EXTRAS
            + f"""
import importlib, json
refused = {{}}
for name in {MODULE_NAMES}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        refused[name] = str(error)
print(json.dumps(refused))
"""
        )
    )

    assert "fastapi_users" not in refused
    assert "fastapi_users.db.sqlalchemy" in refused  # the packages were out of reach indeed
    assert {name: text for name, text in refused.items() if 'pip install "fastapi-users[' not in text} == {}


def test_the_library_loads_no_optional_package_on_its_own() -> None:
    loaded = in_a_fresh_interpreter("import fastapi_users, sys; print(*sys.modules)").split()

    assert "fastapi_users.router" in loaded
    assert {*OPTIONAL_PACKAGES} & {*loaded} == set()


@pytest.mark.parametrize("package", ["authentication", "authentication.strategy", "db", "mail", "router"])
def test_a_star_import_works_without_extras(package: str) -> None:
    """CONTRACT 16 row 13"""
    in_a_fresh_interpreter(f"{WITHOUT_EXTRAS}from fastapi_users.{package} import *")


@pytest.mark.parametrize("name", MODULE_NAMES)
def test_all_lists_names_that_exist(name: str) -> None:
    module = import_module(name)

    assert [listed for listed in getattr(module, "__all__", []) if not hasattr(module, listed)] == []


SQLALCHEMY_NAMES = [
    "SQLAlchemyBaseUserTable",
    "SQLAlchemyBaseUserTableUUID",
    "SQLAlchemyBaseOAuthAccountTable",
    "SQLAlchemyBaseOAuthAccountTableUUID",
    "SQLAlchemyUserDatabase",
]
BEANIE_NAMES = ["BeanieBaseUser", "BaseOAuthAccount", "BeanieUserDatabase", "ObjectIDIDMixin"]


@pytest.mark.parametrize(
    ("adapter", "names"),
    [
        ("fastapi_users_db_sqlalchemy", SQLALCHEMY_NAMES),
        ("fastapi_users.db.sqlalchemy", SQLALCHEMY_NAMES),
        ("fastapi_users_db_beanie", BEANIE_NAMES),
        ("fastapi_users.db.beanie", BEANIE_NAMES),
    ],
)
@pytest.mark.parametrize("is_adapter_first", [True, False])
def test_core_and_adapter_give_the_same_objects_in_every_order_of_import(
    adapter: str, names: list[str], is_adapter_first: bool
) -> None:
    """CONTRACT 16 row 20"""
    first, second = (adapter, "fastapi_users.db") if is_adapter_first else ("fastapi_users.db", adapter)
    shared = in_a_fresh_interpreter(
        f"""
import {first}, {second}
from fastapi_users import db
shared = [name for name in db.__all__ if name in {names}]
assert all(getattr(db, name) is getattr({adapter}, name) for name in shared)
print(*shared)
"""
    ).split()

    assert shared == names


def test_the_version_is_the_newest_in_the_changelog_and_the_installed_one() -> None:
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)

    assert fastapi_users.__version__ == released[0]
    assert fastapi_users.__version__ == metadata.version("fastapi-users")
