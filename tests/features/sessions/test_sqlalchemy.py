"""What the table is like, and how many statements a request with a session costs."""

from typing import Any

from sqlalchemy import Table

from tests.features.sessions.application import SessionRow


def test_the_rows_go_with_their_user_and_are_found_by_their_columns() -> None:
    table: Any = SessionRow.__table__
    assert isinstance(table, Table)

    (key,) = table.columns["user_id"].foreign_keys
    assert (key.target_fullname, key.ondelete) == ("user.id", "cascade")
    assert {column.name for index in table.indexes for column in index.columns} == {"user_id", "expires_at"}
    assert table.columns["digest"].type.length == 43
