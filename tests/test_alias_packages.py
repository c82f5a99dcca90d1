from types import ModuleType

import pytest

import fastapi_users.db
import fastapi_users_db_beanie
import fastapi_users_db_beanie.access_token
import fastapi_users_db_sqlalchemy
from fastapi_users.db import beanie, sqlalchemy
from fastapi_users_db_sqlalchemy import access_token, generics


@pytest.mark.parametrize(
    ("source", "aliases"),
    [
        (sqlalchemy, [fastapi_users_db_sqlalchemy, access_token, generics]),
        (beanie, [fastapi_users_db_beanie, fastapi_users_db_beanie.access_token]),
    ],
)
def test_the_alias_packages_offer_the_same_objects(source: ModuleType, aliases: list[ModuleType]) -> None:
    for module in aliases:
        ours = {name for name in module.__all__ if getattr(getattr(module, name), "__module__", "") == source.__name__}
        assert ours
        for name in ours:
            assert getattr(module, name) is getattr(source, name)
    assert aliases[0].__version__ == fastapi_users.__version__


@pytest.mark.parametrize(
    ("alias", "names"),
    [
        (fastapi_users_db_sqlalchemy, ["SQLAlchemyBaseUserTable", "SQLAlchemyUserDatabase"]),
        (fastapi_users_db_beanie, ["BaseOAuthAccount", "BeanieBaseUser", "BeanieUserDatabase", "ObjectIDIDMixin"]),
    ],
)
def test_the_core_offers_them_as_well(alias: ModuleType, names: list[str]) -> None:
    for name in names:
        assert name in fastapi_users.db.__all__
        assert getattr(fastapi_users.db, name) is getattr(alias, name)


def test_migrations_generated_from_our_types_import_the_module_that_existing_ones_import() -> None:
    for type_ in (generics.GUID, generics.TIMESTAMPAware, generics.PreciseTIMESTAMPAware):
        assert type_.__module__ == "fastapi_users_db_sqlalchemy.generics"
