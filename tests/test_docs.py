"""The pages say what is there: their code runs, their links lead somewhere, their names exist and none is left out."""

import builtins
import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import traceback
from importlib import import_module
from importlib.metadata import requires
from inspect import get_annotations, iscoroutinefunction, signature
from pathlib import Path
from symtable import symtable
from types import ModuleType
from typing import Any
from unittest import mock

import anyio
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from httpx import ASGITransport, AsyncClient
from httpx_oauth.clients.google import GoogleOAuth2
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import fastapi_users
from fastapi_users import BaseUserManager, events
from fastapi_users.features.sessions import SessionsErrorCode, get_sessions_admin_router, get_sessions_router
from fastapi_users.features.throttle import Throttle
from fastapi_users.hashing import hashing_pool
from fastapi_users.router import ErrorCode, get_jwks_router
from tests.services import unavailable
from tests.world import SECRET, UserCreate, UserRead, UserUpdate, World

ROOT = Path(__file__).parents[1]
PACKAGE = Path(fastapi_users.__file__).parent  # of the source, or installed from a wheel
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
REFERENCE = sorted(f"reference/{path.name}" for path in (DOCS / "reference").glob("*.md"))
TEXTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    *(f"docs/{page}" for page in [*PAGES, *REFERENCE]),
]

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def prose_of(name: str) -> str:
    return FENCED.sub("", text_of(name))


def run(page: Path) -> ModuleType:
    """The module that the python blocks of a page make together. Tracebacks name the page and its lines."""
    module = ModuleType(f"docs_{page.stem}")
    text = page.read_text("utf-8")
    # As an imported module would: classes of a page are looked up in theirs.
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ):
        patch.setitem(sys.modules, module.__name__, module)
        for name in ("threads", "max_waiting_per_thread", "idle_seconds"):  # of the process, as it was before the page
            patch.setattr(hashing_pool, name, getattr(hashing_pool, name))
        for block in FENCED.finditer(text):
            if block[1] == "python":
                lines_above = text.count("\n", 0, block.start(2))
                code = compile("\n" * lines_above + block[2], page, "exec", dont_inherit=True)
                exec(code, vars(module))  # noqa: S102 -- ours
    return module


def anchors_of(path: Path) -> set[str]:
    """As GitHub and the site make them of headings."""
    headings = HEADING.findall(FENCED.sub("", path.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(source: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    destination = source.parent / path if path else source
    return destination.exists() and (not anchor or anchor in anchors_of(destination))


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs_from_top_to_bottom(page: str) -> None:
    parts = vars(run(DOCS / page)).values()
    engines = [part for part in parts if isinstance(part, AsyncEngine)]

    async def closing(test: Any) -> None:
        await test()
        for engine in engines:
            await engine.dispose()

    for app in (part for part in parts if isinstance(part, FastAPI)):
        assert app.openapi()["paths"]
    for test in (part for part in parts if iscoroutinefunction(part) and part.__name__.startswith("test_")):
        anyio.run(closing, test)


@pytest.mark.parametrize("page", PAGES)
def test_what_the_functions_of_a_page_name_is_there(page: str) -> None:
    """Also of those that the page only defines, such as routes."""
    code = "".join(block for language, block in FENCED.findall(text_of(f"docs/{page}")) if language == "python")
    tables = [symtable(code, page, "exec")]
    known = {symbol.get_name() for symbol in tables[0].get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    unknown: set[str] = set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        named = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
        unknown |= named - known - {*dir(builtins)}

    assert {name for name in unknown if not name.startswith("__")} == set()  # Python's own, of which 3.14 has more


def test_an_error_in_a_page_is_found_in_the_page(tmp_path: Path) -> None:
    page = tmp_path / "wrong.md"
    page.write_text("# A page\n\n```sh\nls\n```\n\n```python\nx = 1\nx / 0\n```\n", "utf-8")

    with pytest.raises(ZeroDivisionError) as caught:
        run(page)

    where = traceback.extract_tb(caught.tb)[-1]
    assert (where.filename, where.lineno) == (str(page), 9)


async def test_the_first_page_makes_an_application_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = run(DOCS / "index.md")
    app: FastAPI = page.app
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app), base_url="https://app.test") as client,
    ):
        ann = {"email": "ann@example.org", "password": "correct-horse-battery", "nickname": "Ann"}
        assert (await client.post("/auth/register", json={**ann, "password": "short"})).status_code == 400
        assert (await client.post("/auth/register", json=ann)).status_code == 201
        verification_token = capsys.readouterr().out.split()[-1]
        assert (await client.post("/auth/verify", json={"token": verification_token})).json()["is_verified"]
        answer = await client.post("/auth/login", data={"username": ann["email"], "password": ann["password"]})
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await client.get("/hello", headers=headers)).json() == "Hello, Ann!"
        async with page.new_session() as session:  # as `fastapi-users create-superuser` does it
            manager = page.UserManager(page.SQLAlchemyUserDatabase(session, page.User))
            root = page.UserCreate(email="root@example.org", password=ann["password"], is_verified=True)
            assert (await manager.create(root)).is_verified


def test_the_commands_of_the_first_page_work_as_they_stand_there(tmp_path: Path) -> None:
    """But for the installation: the environment is that of the tests."""
    _ = shutil.which("curl") or unavailable("curl", "$PATH", FileNotFoundError("curl"))
    blocks = FENCED.findall(text_of("docs/index.md"))
    (tmp_path / "main.py").write_text("".join(block for language, block in blocks if language == "python"), "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    install, serve, register, greet, verify = (
        block.replace(":8000", f":{port}") for language, block in blocks if language == "sh"
    )
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    options: Any = {
        "cwd": tmp_path,
        "env": {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        "stdout": subprocess.PIPE,
        "text": True,
    }

    def answer_to(command: str) -> Any:
        return json.loads(subprocess.run(["/bin/sh", "-euc", command], check=True, **options).stdout)  # noqa: S603 -- ours

    assert 'pip install "fastapi-users[sqlalchemy]>=16"' in install
    command = ["/bin/sh", "-euc", f"exec {serve.strip()} --port {port} 2>&1"]
    with subprocess.Popen(command, **options) as server:  # noqa: S603 -- ours
        try:
            output: Any = server.stdout
            assert next(line for line in output if "Uvicorn running" in line)
            assert answer_to(register)["nickname"] == "Ann"
            assert answer_to(greet) == "Hello, Ann!"
            token = next(line for line in output if line.startswith("Mail to you@example.com")).split()[-1]
            assert answer_to(verify.replace("TOKEN-FROM-THE-TERMINAL", token))["is_verified"]
        finally:
            server.terminate()


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_somewhere(name: str) -> None:
    links = [link for link in LINK.findall(prose_of(name)) if not link.startswith("http")]

    assert [link for link in links if not leads_somewhere(ROOT / name, link)] == []


@pytest.mark.parametrize("target", ["nowhere.md", "#nothing", "index.md#nothing"])
def test_a_link_that_leads_nowhere_is_noticed(target: str) -> None:
    assert not leads_somewhere(DOCS / "oauth.md", target)


def test_every_page_is_in_the_navigation_and_in_the_readme() -> None:
    assert sorted(re.findall(r"^ +- .+: (\S+\.md)$", text_of("mkdocs.yml"), re.MULTILINE)) == sorted(
        [*PAGES, *REFERENCE]
    )
    assert {f"docs/{page}" for page in [*PAGES, "reference/index.md"]} <= {*LINK.findall(text_of("README.md"))}
    assert {page.removeprefix("reference/") for page in REFERENCE} - {"index.md"} <= {
        *LINK.findall(text_of("docs/reference/index.md"))
    }


def test_the_reference_shows_every_module_once() -> None:
    shown = [name for page in REFERENCE for name in re.findall(r"^::: (\S+)$", text_of(f"docs/{page}"), re.MULTILINE)]
    modules = [
        path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
        for path in PACKAGE.rglob("[!_]*.py")
    ]

    assert sorted(shown) == sorted(modules)


def test_the_page_of_the_manager_names_all_of_it_and_nothing_else() -> None:
    names = {name for code in CODE.findall(prose_of("docs/user-manager.md")) for name in re.findall(r"^\w+", code)}
    public = {name for name in {*dir(BaseUserManager), *get_annotations(BaseUserManager)} if not name.startswith("_")}

    assert public - names == set()
    looks_like_one = re.compile(r"on_|\w+_(secret|seconds|audience)$")
    assert {name for name in names if looks_like_one.match(name)} - public == set()


def test_the_pages_of_the_routers_name_every_route_and_error_code_and_nothing_else() -> None:
    world = World(create_async_engine("sqlite+aiosqlite://"))
    users, google = world.fastapi_users, GoogleOAuth2("ID", "SECRET")
    routers = [
        users.get_auth_router(world.bearer),
        users.get_reauthenticate_router(world.bearer),
        users.get_register_router(UserRead, UserCreate),
        users.get_verify_router(UserRead),
        users.get_reset_password_router(),
        users.get_users_router(UserRead, UserUpdate),
        users.get_oauth_router(google, world.bearer, SECRET),
        users.get_oauth_associate_router(google, UserRead, SECRET),
        users.get_oauth_accounts_router(),
        get_jwks_router(),
    ]
    routes = {
        (f"{method} {route.path}", route.name)
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    text = prose_of("docs/routers.md") + prose_of("docs/oauth.md")

    assert set(re.findall(r"^\| `([A-Z]+ /\S+)` \| `(\S+)` \|", text, re.MULTILINE)) == routes
    codes = {code for code in CODE.findall(text) if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", code)}
    assert codes - {"INVALID_PASSWORD"} == {code.value for code in ErrorCode}  # the end of several


def test_the_page_of_the_events_names_every_kind_with_its_data_and_nothing_else() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| .+? \|(.*)\|$", prose_of("docs/events.md"), re.MULTILINE)
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)]
    common = len(dataclasses.fields(events.Event))

    assert [(kind, name, CODE.findall(data)) for kind, name, data in rows] == [
        (kind.__name__, kind.name, [field.name for field in dataclasses.fields(kind)[common:]])
        for kind in kinds
        if kind is not events.Event
    ]


def test_the_page_of_the_features_names_every_seam_with_its_arguments_and_nothing_else() -> None:
    rows = re.findall(r"^\| `(_seam_\w+)\((.*?)\)` \|", prose_of("docs/features.md"), re.MULTILINE)
    seams = {name: seam for name, seam in vars(BaseUserManager).items() if name.startswith("_seam_")}

    assert [(name, arguments.split(", ")) for name, arguments in rows] == [
        (name, list(signature(seam).parameters)[1:]) for name, seam in seams.items()
    ]


def test_the_page_of_the_internals_shows_the_layers_as_they_are_checked() -> None:
    contract = text_of("pyproject.toml").partition('id = "layers"')[2].partition("\n]\n")[0]
    layers = [layer.split(" | ") for layer in re.findall(r'^ +"([^"]+)",', contract, re.MULTILINE)]
    section = prose_of("docs/internals.md").partition("## The layers")[2].partition("\n## ")[0]
    rows = [CODE.findall(modules) for modules in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)]

    assert [sorted(row) for row in rows] == [sorted({*layer} - {"_lazy"}) for layer in layers]


def feature_mixins(word: str) -> list[type[Any]]:
    module = import_module(f"fastapi_users.features.{word}.manager")
    return [value for name, value in vars(module).items() if name.endswith("Mixin")]


def test_a_feature_has_one_word_for_its_folder_its_tests_its_page_and_its_line_in_the_changelog() -> None:
    words = [path.parent.name for path in (PACKAGE / "features").glob("*/__init__.py")]
    linked = {*LINK.findall(text_of("CHANGELOG.md"))}

    assert [word for word in words if f"{word}.md" not in PAGES] == []
    assert [word for word in words if not (ROOT / "tests/features" / word).is_dir()] == []
    assert [word for word in words if f"docs/{word}.md" not in linked] == []


def test_the_page_of_a_feature_names_its_settings_and_hooks_and_nothing_else() -> None:
    for path in (PACKAGE / "features").glob("*/manager.py"):
        word = path.parent.name
        codes = {name for code in CODE.findall(prose_of(f"docs/{word}.md")) for name in re.findall(r"^\w+", code)}
        for mixin in feature_mixins(word):
            public = {name for name in {*vars(mixin), *get_annotations(mixin)} if not name.startswith("_")}
            of_the_base = {*dir(BaseUserManager), *get_annotations(BaseUserManager)}

            assert public - codes == set(), word
            looks_like_one = re.compile(rf"on_|{word}_")
            assert {name for name in codes if looks_like_one.match(name)} - public - of_the_base == set(), word


def test_the_page_of_sessions_names_every_route_and_error_code_and_nothing_else() -> None:
    world = World(create_async_engine("sqlite+aiosqlite://"))
    routers = [get_sessions_router(world.fastapi_users, world.bearer), get_sessions_admin_router(world.fastapi_users)]
    routes = {
        (f"{method} {route.path}", route.name.replace(f":{world.bearer.name}.", ":{backend}."))
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    text = prose_of("docs/sessions.md")

    assert set(re.findall(r"^\| `([A-Z]+ /\S+)` \| `(\S+)` \|", text, re.MULTILINE)) == routes
    codes = {code for code in CODE.findall(text) if re.fullmatch(r"SESSIONS(_[A-Z]+)+", code)}
    assert codes == {code.value for code in SessionsErrorCode}


def test_the_page_of_the_throttle_names_every_setting_with_its_default_and_nothing_else() -> None:
    section = prose_of("docs/throttle.md").partition("## What is limited")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE)

    assert rows == [
        (field.name, "required" if field.default is dataclasses.MISSING else f"`{field.default}`")
        for field in dataclasses.fields(Throttle)
        if field.init
    ]


def test_the_first_page_names_every_extra_with_what_it_brings_and_nothing_else() -> None:
    section = text_of("docs/index.md").partition("## Extras")[2]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE)
    brought = [re.match(r"([\w-]+).*extra == ['\"](\w+)['\"]", line) for line in requires("fastapi-users") or ()]
    extras = {(found[2], found[1]) for found in brought if found is not None}

    assert {(extra, name) for extra, names in rows for name in CODE.findall(names)} == extras


def test_the_page_of_the_differences_names_what_the_manager_has_beyond_version_15() -> None:
    text = prose_of("docs/differences.md")
    contract = (ROOT / "tests/compat/surface.json").read_text("utf-8")
    public = {name for name in {*dir(BaseUserManager), *get_annotations(BaseUserManager)} if not name.startswith("_")}

    assert {name for name in public if f'"{name}"' not in contract} <= {*CODE.findall(text)}


def test_the_page_of_security_names_every_requirement_and_for_each_that_is_met_tests_that_exist() -> None:
    rows = re.findall(r"^\| (\d+) \| .+? \| .+ \| (.+?) \| (.*)\|$", text_of("docs/security.md"), re.MULTILINE)

    assert [int(number) for number, _, _ in rows] == [*range(1, 85)]
    untested = [
        number for number, met, tests in rows if "::" not in tests and not met.startswith(("not yet", "outside"))
    ]
    assert untested == []
    named = {name for _, _, tests in rows for name in CODE.findall(tests)}
    functions = {
        f"{path.relative_to(ROOT).as_posix()}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
    }
    assert sorted(named - functions) == []
