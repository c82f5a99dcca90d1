"""The plugin for pytest: fixtures for tests of an application's accounts.

A package of its own, which imports nothing of the library until a test asks for a fixture: pytest loads it in every run.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi_users.application import Application
    from fastapi_users.testing import Accounts, Clock, Outbox


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("fastapi_users_app", "module:name of the application, as for the command fastapi-users")


@pytest.fixture(scope="session")
def accounts_application(pytestconfig: pytest.Config) -> Application:
    """The application: override it where it comes from somewhere else."""
    from fastapi_users.application import load_application
    from fastapi_users.project import find_project

    project = find_project(pytestconfig.rootpath)
    if str(project.folder) not in sys.path:  # as for the command, and as python -m pytest has it
        sys.path.insert(0, str(project.folder))
    reference = pytestconfig.getini("fastapi_users_app") or project.app
    if not reference:
        pytest.fail(
            'Which application? Write app = "app.main:app" under [tool.fastapi-users] in pyproject.toml.', pytrace=False
        )
    return load_application(reference)


@pytest.fixture
def accounts(accounts_application: Application) -> Iterator[Accounts]:
    """The accounts of the application, with fast hashes and mails in the outbox."""
    from fastapi_users.testing import accounts_under_test

    with accounts_under_test(accounts_application.app, accounts_application.fastapi_users) as accounts:
        yield accounts


@pytest.fixture
def create_user(accounts: Accounts) -> Any:
    """``await create_user(email, password, **columns)``"""
    return accounts.create_user


@pytest.fixture
def login_as(accounts: Accounts) -> Any:
    """``await login_as(client, user)``"""
    return accounts.login_as


@pytest.fixture
def acting_as(accounts: Accounts) -> Any:
    """``with acting_as(user):``"""
    return accounts.acting_as


@pytest.fixture
def outbox(accounts: Accounts) -> Outbox:
    """The mails of the application."""
    return accounts.outbox


@pytest.fixture
def frozen_clock() -> Iterator[Clock]:
    """The time stands still, until ``frozen_clock.advance(seconds=…)``."""
    from fastapi_users.testing import frozen_clock

    with frozen_clock() as clock:
        yield clock
