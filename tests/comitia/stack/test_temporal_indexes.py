"""The development server's list of executions keeps the indexes that somebody searches by, and its order."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from comitia.stack.state import StackState
from comitia.stack.temporal import DATABASE
from comitia.stack.temporal_indexes import KEPT, drop_unused_indexes


async def test_a_running_server_has_no_other_indexes(servers: StackState) -> None:
    database = servers.folder / "temporal" / DATABASE
    assert drop_unused_indexes(database) == []
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'executions_visibility'"
        found = {name for (name,) in connection.execute(query)}
    assert found >= KEPT
    assert len(found - KEPT) == 1  # of the table's key


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"no database at all, but some bytes" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        drop_unused_indexes(tmp_path / "other")
