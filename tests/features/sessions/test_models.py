from dataclasses import fields
from typing import Any

from sqlalchemy import inspect

from fastapi_users.features.sessions.models import Session, SessionProtocol
from tests.features.sessions.application import MongoSession, SessionRow


def test_every_kind_of_row_has_what_the_protocol_names_and_nothing_else() -> None:
    names = {*SessionProtocol.__annotations__}
    mapper: Any = inspect(SessionRow)

    assert {field.name for field in fields(Session)} == names
    assert {*mapper.columns.keys()} == names
    assert {*MongoSession.model_fields} - {"revision_id"} == names


def test_no_digest_is_shown_in_a_log() -> None:
    assert [field.name for field in fields(Session) if not field.repr] == [
        "digest",
        "previous_digest",
        "credentials_digest",
    ]
