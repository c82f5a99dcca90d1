"""What the table is like, and how many statements a request with a session costs."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table

from fastapi_users.testing import frozen_clock
from tests.db.test_sqlalchemy_statements import recorded
from tests.features.sessions.application import SessionRow, application_on


def test_the_rows_go_with_their_user_and_are_found_by_their_columns() -> None:
    table: Any = SessionRow.__table__
    assert isinstance(table, Table)

    (key,) = table.columns["user_id"].foreign_keys
    assert (key.target_fullname, key.ondelete) == ("user.id", "cascade")
    assert {column.name for index in table.indexes for column in index.columns} == {"user_id", "expires_at"}
    assert table.columns["digest"].type.length == 43


@pytest.mark.parametrize("engine", ["sqlite", "postgresql, asyncpg", "mariadb, aiomysql"])
async def test_a_protected_request_with_a_session_costs_one_statement(tmp_path: Path, engine: str) -> None:
    async with application_on(engine, tmp_path) as application:
        await application.register()
        world: Any = application
        with frozen_clock() as clock:
            await application.log_in()  # once, MariaDB is asked for its collation
            with recorded(world) as traffic:
                client = await application.log_in()
            assert traffic.statements[:2] == ["SELECT", "INSERT"]
            with recorded(world) as traffic:
                assert await client.me() == 200
            assert (traffic.statements, traffic.commits) == (["SELECT"], 0)
            clock.advance(seconds=61)
            with recorded(world) as traffic:
                assert await client.me() == 200
            assert (traffic.statements, traffic.commits) == (["SELECT", "UPDATE"], 1)  # once a minute
            with recorded(world) as traffic:
                assert (await client.refresh()).status_code == 200
            assert traffic.statements == ["SELECT", "UPDATE", "SELECT"]
            with recorded(world) as traffic:  # within the grace the same answer, and nothing to write
                assert (await client.refresh()).status_code == 200
            assert (traffic.statements, traffic.commits) == (["SELECT"], 0)
