from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Header, Request

from fastapi_users import FastAPIUsers
from fastapi_users.application import Application, ApplicationError, load_application
from tests.programs import in_folder

PROGRAM = """
from collections.abc import AsyncIterator
from typing import Annotated, Any
from fastapi import Depends, FastAPI, Query
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.testing import InMemoryUserDatabase, User
from starlette.middleware.cors import CORSMiddleware
import uuid

class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = verification_token_secret = "0123456789" * 4

async def get_user_manager() -> AsyncIterator[UserManager]:
    yield UserManager(InMemoryUserDatabase(User))

def get_plain_user_manager() -> UserManager:
    return UserManager(InMemoryUserDatabase(User))

class Folder:
    users = FastAPIUsers(get_user_manager, [])

users = Folder.users
app = FastAPI()
app.include_router(users.get_register_router(schemas.BaseUser[uuid.UUID], schemas.BaseUserCreate))

def create_app() -> FastAPI:
    return app

def create_app_with(settings: Any = None, *middleware: Any, **options: Any) -> FastAPI:
    return app

class Settings:
    tenant = "a"

def get_manager_of(tenant: str = "a") -> UserManager:
    return UserManager(InMemoryUserDatabase(User))

def get_dependent_manager(settings: Settings = Depends()) -> UserManager:
    assert settings.tenant == "a"
    return UserManager(InMemoryUserDatabase(User))

def get_annotated_manager(settings: Annotated[Settings, Depends()]) -> UserManager:
    return get_dependent_manager(settings)

def get_manager_of_query(tenant: str = Query("a")) -> UserManager:
    assert tenant == "a"
    return UserManager(InMemoryUserDatabase(User))

def create_nothing(*names: str) -> None: ...

behind_cors = CORSMiddleware(app, allow_origins=["https://app.example.com"])
"""


@pytest.fixture
def program(tmp_path: Path) -> Any:
    (tmp_path / "program.py").write_text(PROGRAM, "utf-8")
    with in_folder(tmp_path, "program"):
        yield tmp_path


@pytest.mark.parametrize(
    "name",
    [
        *[
            "app",
            "create_app",
            "create_app_with",
            "users",
            "Folder.users",
            "get_user_manager",
            "get_plain_user_manager",
        ],
        *["get_manager_of", "get_dependent_manager", "get_annotated_manager", "get_manager_of_query"],
    ],
)
@pytest.mark.usefixtures("program")
async def test_an_application_is_named_by_any_of_its_parts(name: str) -> None:
    application = load_application(f"program:{name}")

    async def name_of_manager(user_manager: Any, strategies: list[Any]) -> str:
        return type(user_manager).__name__

    assert await application.call_with_parts(name_of_manager) == "UserManager"
    assert (application.app is not None) == ("app" in name)


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("program", "'program' names no application: write module:name, as in app.main:app."),
        ("program:", "'program:' names no application: write module:name, as in app.main:app."),
        (":app", "':app' names no application: write module:name, as in app.main:app."),
        (".main:app", "'.main:app' names no application: write module:name, as in app.main:app."),
        ("nowhere.app:app", "There is no module 'nowhere.app': is this the folder of the application?"),
        ("program:nothing", "The module 'program' has no 'nothing'."),
        ("program:PROGRAM", "The module 'program' has no 'PROGRAM'."),
        (
            "program:create_nothing",
            "program:create_nothing is neither a FastAPI, nor a FastAPIUsers, nor a dependency that gives a user manager.",
        ),
        (
            "program:behind_cors",
            "program:behind_cors is neither a FastAPI, nor a FastAPIUsers, nor a dependency that gives a user manager.",
        ),
        (
            "program:__name__",
            "program:__name__ is neither a FastAPI, nor a FastAPIUsers, nor a dependency that gives a user manager.",
        ),
    ],
)
@pytest.mark.usefixtures("program")
def test_a_reference_that_leads_nowhere_is_answered_with_a_sentence(reference: str, sentence: str) -> None:
    with pytest.raises(ApplicationError) as caught:
        load_application(reference)

    assert str(caught.value) == sentence


def test_a_module_that_the_application_misses_is_an_error_of_the_application(program: Path) -> None:
    (program / "program.py").write_text("import not_installed", "utf-8")

    with pytest.raises(ModuleNotFoundError, match="not_installed"):
        load_application("program:app")


def test_an_application_without_the_library_or_with_it_twice_has_to_name_it(program: Path) -> None:
    (program / "program.py").write_text(f"{PROGRAM}\nbare = FastAPI()\n", "utf-8")
    with pytest.raises(ApplicationError, match="no FastAPIUsers in any module: name the one to use"):
        load_application("program:bare")


def test_two_facades_of_one_application_have_to_be_told_apart(program: Path) -> None:
    (program / "program.py").write_text(f"{PROGRAM}\nothers = FastAPIUsers(get_user_manager, [])\n", "utf-8")
    with pytest.raises(ApplicationError, match="several FastAPIUsers"):
        load_application("program:app")


def get_no_manager() -> Any:
    """Which these tests do without."""


async def test_dependencies_see_lifespan_state_and_overrides_of_the_application_and_are_closed() -> None:
    def get_setting() -> str:
        return "the one of production"

    async def get_session(request: Request) -> AsyncIterator[str]:
        request.app.state.log.append("open")
        yield f"{request.state.name}{(await request.body()).decode()}"
        request.app.state.log.append("close")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        app.state.log = ["start"]
        yield {"name": "Ann"}
        app.state.log.append("stop")

    app = FastAPI(lifespan=lifespan)
    app.dependency_overrides[get_setting] = lambda: "overridden"
    application = Application(FastAPIUsers[Any, Any](get_no_manager, []), app)

    async def work(name: str = Depends(get_session), setting: str = Depends(get_setting)) -> tuple[str, str]:
        app.state.log.append("work")
        return name, setting

    async with application.running():
        assert await application.call(work) == ("Ann", "overridden")

    assert get_setting() == "the one of production"
    assert app.state.log == ["start", "open", "work", "close", "stop"]


async def test_an_application_closes_what_it_has_opened_when_the_work_fails() -> None:
    closed: list[str] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        closed.append("pool")

    application = Application(FastAPIUsers[Any, Any](get_no_manager, []), FastAPI(lifespan=lifespan))
    with pytest.raises(ZeroDivisionError):
        async with application.running():
            raise ZeroDivisionError

    assert closed == ["pool"]


async def test_a_dependency_that_wants_a_header_is_told_of() -> None:
    async def work(x_tenant: str = Header()) -> None: ...

    application = Application(FastAPIUsers[Any, Any](get_no_manager, []))
    async with application.running():
        with pytest.raises(ApplicationError, match=r"refused a call without a request: 422 .*x-tenant"):
            await application.call(work)


async def test_a_dependency_may_ask_for_the_address_of_the_client() -> None:
    async def work(request: Request) -> str:
        assert request.client is not None
        return request.client.host

    assert await Application(FastAPIUsers[Any, Any](get_no_manager, [])).call(work) == "127.0.0.1"


async def test_what_a_function_raises_comes_through() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Application(FastAPIUsers[Any, Any](get_no_manager, [])).call(work)


def test_routes_in_routers_in_routers_are_looked_at(program: Path) -> None:
    nested = "\nfrom fastapi import APIRouter\nouter = APIRouter()\nouter.include_router(app.router)\ntop = FastAPI()\ntop.include_router(outer)\n"
    (program / "program.py").write_text(PROGRAM + nested, "utf-8")

    assert load_application("program:top").fastapi_users.get_user_manager.__name__ == "get_user_manager"
