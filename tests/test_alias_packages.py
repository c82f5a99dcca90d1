import fastapi_users.db
import fastapi_users_db_sqlalchemy
from fastapi_users.db import sqlalchemy
from fastapi_users_db_sqlalchemy import access_token, generics


def test_the_alias_package_offers_the_same_objects() -> None:
    for module in (fastapi_users_db_sqlalchemy, access_token, generics):
        for name in set(module.__all__) - {"__version__", "generics"}:
            assert getattr(module, name) is getattr(sqlalchemy, name)
    assert fastapi_users.db.SQLAlchemyUserDatabase is fastapi_users_db_sqlalchemy.SQLAlchemyUserDatabase
    assert fastapi_users_db_sqlalchemy.__version__ == fastapi_users.__version__


def test_migrations_generated_from_our_types_import_the_module_that_existing_ones_import() -> None:
    assert generics.GUID.__module__ == "fastapi_users_db_sqlalchemy.generics"
    assert generics.TIMESTAMPAware.__module__ == "fastapi_users_db_sqlalchemy.generics"
