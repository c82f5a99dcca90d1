"""What the table is like, and how many statements a request with a session costs."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table

from tests.features.sessions.application import SessionRow
from tests.features.sessions.application import application_on as application_on


def test_the_rows_go_with_their_user_and_are_found_by_their_columns() -> None:
    table: Any = SessionRow.__table__
    assert isinstance(table, Table)

    (key,) = table.columns["user_id"].foreign_keys
    assert (key.target_fullname, key.ondelete) == ("user.id", "cascade")
    assert {column.name for index in table.indexes for column in index.columns} == {"user_id", "expires_at"}
    assert table.columns["digest"].type.length == 43
