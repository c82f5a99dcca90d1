"""The plugin as the tests of an application use it: in a pytest of their own, whose output says what happened."""

import sys

import pytest

pytest_plugins = ["pytester"]

APPLICATION = """
import os, uuid
from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, JWTStrategy
from fastapi_users.mail import ConsoleMailer
from fastapi_users.testing import InMemoryUserDatabase, User

SECRET = "0123456789" * 4
users = InMemoryUserDatabase(User)

class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = verification_token_secret = SECRET
    mailer = ConsoleMailer()

async def get_user_manager():
    yield UserManager(users)

def get_strategy():
    return JWTStrategy(SECRET, 3600)

bearer = AuthenticationBackend("bearer", BearerTransport("login"), get_strategy)
cookie = AuthenticationBackend("cookie", CookieTransport(), get_strategy)
fastapi_users = FastAPIUsers(get_user_manager, [bearer, cookie])
app = FastAPI()
app.include_router(fastapi_users.get_auth_router(bearer), prefix="/bearer")
app.include_router(fastapi_users.get_reset_password_router())
app.include_router(fastapi_users.get_users_router(schemas.BaseUser[uuid.UUID], schemas.BaseUserUpdate), prefix="/users")

@app.get("/greeting")
async def greeting(user: User = Depends(fastapi_users.current_user(active=True))):
    return user.email

mounted = FastAPI()
mounted.get("/greeting")(greeting)
app.mount("/mounted", mounted)

@app.get("/admin")
async def admin(user: User = Depends(fastapi_users.current_user(superuser=True, fresh=60))):
    return user.email

@app.get("/maybe")
async def maybe(user = Depends(fastapi_users.current_user(optional=True))):
    return None if user is None else user.email
"""

HEAD = """
import pytest
from httpx import ASGITransport, AsyncClient
import program

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
def client():
    return AsyncClient(transport=ASGITransport(program.app), base_url="https://test")
"""

INI = """
[pytest]
filterwarnings = error
anyio_mode = auto
fastapi_users_app = {app}
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(program=APPLICATION)
    pytester.makeini(INI.format(app="program:app"))
    pytester.syspathinsert()
    return pytester


def run(project: pytest.Pytester, tests: str, *arguments: str) -> pytest.RunResult:
    project.makepyfile(test_it=HEAD + tests)
    return project.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:schemathesis", *arguments)


def test_a_user_is_made_and_logged_in_by_header_and_by_cookie(project: pytest.Pytester) -> None:
    run(
        project,
        """
async def test_header(client, create_user, login_as):
    ann = await create_user("ann@example.com")
    assert await login_as(client, ann) is client
    assert (await client.get("/greeting")).json() == "ann@example.com"
    assert "Authorization" in client.headers
    assert not client.cookies

async def test_cookie(client, create_user, login_as):
    root = await create_user(is_superuser=True)
    await login_as(client, root, backend="cookie")
    assert (await client.get("/admin")).json() == root.email
    assert "Authorization" not in client.headers

async def test_the_password_is_known(client, accounts, create_user):
    await create_user("eve@example.com", is_active=False)
    user = await create_user("joe@example.com", "another password")
    for email, password, status in [("joe@example.com", "another password", 200), ("eve@example.com", accounts.password, 400)]:
        answer = await client.post("/bearer/login", data={"username": email, "password": password})
        assert answer.status_code == status

async def test_a_backend_that_is_none(client, create_user, login_as):
    with pytest.raises(LookupError, match="no backend 'magic': those of the application are bearer, cookie"):
        await login_as(client, await create_user(), backend="magic")
""",
    ).assert_outcomes(passed=4)


def test_who_names_the_facade_only_gets_sessions_all_the_same(project: pytest.Pytester) -> None:
    project.makeini(INI.format(app="program:fastapi_users"))
    run(
        project,
        """
@pytest.mark.parametrize("backend", ["bearer", "cookie"])
async def test_session(client, create_user, login_as, backend):
    root = await create_user(is_superuser=True)
    await login_as(client, root, backend=backend)
    for path in ("/greeting", "/admin"):
        assert (await client.get(path)).json() == root.email
    assert bool(client.cookies) == (backend == "cookie")
""",
    ).assert_outcomes(passed=2)


def test_every_dependency_of_the_application_gives_the_user_one_acts_as(project: pytest.Pytester) -> None:
    run(
        project,
        """
from fastapi_users.testing import User

async def test_all_of_them(client, create_user, acting_as):
    root = await create_user("root@example.com", is_superuser=True)
    with acting_as(root):
        assert (await client.get("/greeting")).json() == "root@example.com"
        assert (await client.get("/admin")).json() == "root@example.com"
        assert (await client.get("/maybe")).json() == "root@example.com"
        assert (await client.get("/users/me")).json()["id"] == str(root.id)
        answer = await client.patch("/users/me", json={"is_superuser": False, "email": "r@example.com"})
        assert answer.json()["email"] == "r@example.com"
        assert (await client.post("/bearer/logout")).status_code == 204
    assert (await client.get("/maybe")).json() is None
    assert (await client.get("/greeting")).status_code == 401

async def test_a_user_who_is_stored_nowhere(client, acting_as):
    with acting_as(User("ann@example.com", "")):
        assert (await client.get("/greeting")).json() == "ann@example.com"
        assert (await client.get("/admin")).status_code == 403
        with acting_as(User("bob@example.com", "", is_active=False)):
            assert (await client.get("/greeting")).status_code == 401
            assert (await client.get("/maybe")).json() == "bob@example.com"
        assert (await client.get("/greeting")).json() == "ann@example.com"

async def test_logging_in_goes_on(client, create_user, accounts, acting_as):
    ann = await create_user()
    with acting_as(ann):
        answer = await client.post("/bearer/login", data={"username": ann.email, "password": accounts.password})
        assert answer.json()["access_token"] == "token"

def test_overrides_of_the_application_come_back(acting_as):
    program.app.dependency_overrides[program.get_strategy] = before = lambda: None
    with acting_as(User("ann@example.com", "")):
        assert program.app.dependency_overrides[program.get_strategy] is not before
    assert program.app.dependency_overrides == {program.get_strategy: before}
    program.app.dependency_overrides.clear()

async def test_an_application_that_is_mounted_knows_it_too(client, acting_as):
    with acting_as(User("ann@example.com", "")):
        assert (await client.get("/mounted/greeting")).json() == "ann@example.com"
    assert (await client.get("/mounted/greeting")).status_code == 401

async def test_a_user_whose_id_is_of_another_kind_is_stored_nowhere(client, acting_as):
    ann = User("ann@example.com", "", id=1)
    with acting_as(ann):
        assert (await client.get("/greeting")).json() == "ann@example.com"
""",
    ).assert_outcomes(passed=6)


def test_the_application_is_found_from_the_folder_of_its_settings_on(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(program=APPLICATION)
    pytester.makepyprojecttoml("""[tool.fastapi-users]\napp = "program:app"\n[tool.pytest.ini_options]\n""")
    folder = pytester.mkdir("tests")
    tests = "async def test_it(create_user): assert (await create_user('ann@example.com')).email == 'ann@example.com'"
    (folder / "test_it.py").write_text(f"import pytest\npytestmark = pytest.mark.anyio\n{tests}\n", "utf-8")

    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:schemathesis", "-k", "asyncio")
    result.assert_outcomes(passed=1, deselected=1)


def test_mails_time_and_hashes_are_those_of_tests(project: pytest.Pytester) -> None:
    run(
        project,
        """
from fastapi_users.password import PasswordHelper

async def test_a_forgotten_password(client, create_user, outbox, frozen_clock):
    await create_user("ann@example.com")
    await client.post("/forgot-password", json={"email": "ann@example.com"})
    body = {"token": outbox.token(to="ann@example.com"), "password": "remembered"}
    frozen_clock.advance(seconds=3601)
    assert (await client.post("/reset-password", json=body)).status_code == 400
    frozen_clock.advance(seconds=-3600)
    assert (await client.post("/reset-password", json=body)).status_code == 200

def test_own_parts_stay(accounts):
    helper = PasswordHelper()
    assert program.UserManager(program.users, helper).password_helper is helper
    assert program.UserManager(program.users).password_helper.hash("x").startswith("$argon2id$v=19$m=8,t=1,p=1$")
    class Mute(program.UserManager):
        mailer = None
    assert Mute(program.users).mailer is None

def test_afterwards_all_is_as_it_was():
    assert "m=65536" in program.UserManager(program.users).password_helper.hash("x")
    assert program.UserManager(program.users).mailer is program.UserManager.mailer
""",
    ).assert_outcomes(passed=3)


def test_users_are_kept_in_memory_for_a_test(project: pytest.Pytester) -> None:
    run(
        project,
        """
@pytest.fixture
def users(accounts):
    with accounts.in_memory(program.UserManager) as users:
        yield users

async def test_it(client, users, create_user, login_as):
    ann = await create_user("ann@example.com")
    assert list(users.users) == [ann.id]
    await login_as(client, ann)
    assert (await client.get("/greeting")).json() == "ann@example.com"
    assert ann.id not in program.users.users
""",
    ).assert_outcomes(passed=1)


def test_the_application_is_found_in_the_pyproject_and_through_a_fixture(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(program=APPLICATION)
    pytester.makepyprojecttoml(
        '[tool.pytest.ini_options]\nanyio_mode = "auto"\n[tool.fastapi-users]\napp = "program:fastapi_users"\n'
    )
    pytester.syspathinsert()
    run(
        pytester,
        """
from fastapi_users.application import Application

def test_of_the_facade_alone(accounts):
    assert accounts.application.fastapi_users is program.fastapi_users
    with pytest.raises(LookupError, match="Name the FastAPI of the application"), accounts.acting_as(None):
        ...

class TestOverridden:
    @pytest.fixture(scope="session")
    def accounts_application(self):
        return Application(program.fastapi_users, program.app)

    def test_it(self, accounts):
        assert accounts.application.app is program.app
""",
    ).assert_outcomes(passed=2)


def test_without_an_application_it_says_how_to_name_one(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]")
    pytester.makepyfile("def test_it(accounts): ...")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:schemathesis")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*Which application? Write app = *"])


def test_a_run_that_does_not_use_it_loads_neither_the_library_nor_fastapi(pytester: pytest.Pytester) -> None:
    """As it is installed, in a process of its own."""
    pytester.makeini("[pytest]\nfilterwarnings = error")
    pytester.makepyfile(
        """
import sys
def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.hasplugin("fastapi_users")
    assert {"fastapi_users_pytest", "fastapi", "fastapi_users", "pydantic"} & {*sys.modules} == {"fastapi_users_pytest"}
"""
    )
    others = [
        argument
        for name in ("schemathesis", "anyio", "hypothesispytest", "cov", "xdist")
        for argument in ("-p", f"no:{name}")
    ]
    result = pytester.run(sys.executable, "-m", "pytest", *others)

    result.assert_outcomes(passed=1)


def test_the_fixtures_are_listed_with_what_they_are(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]")
    result = pytester.runpytest_inprocess("--fixtures", "-p", "no:cacheprovider", "-p", "no:schemathesis")

    for name in ("accounts_application", "accounts", "create_user", "login_as", "acting_as", "outbox", "frozen_clock"):
        assert f"\n{name} " in result.stdout.str()
