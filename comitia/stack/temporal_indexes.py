"""Fewer indexes on the development server's list of executions.

The server makes 58 of them, one for each attribute that anybody might search by, and each time an execution begins or
ends all of them are written: three quarters of what the list costs, and it is the costliest part of a short execution.
We search by few (`integrations/temporal`). An index changes how long a search takes and never what it finds, and what
production's Temporal keeps its list in is untouched.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

# Besides the table's key and its order. Attributes of our own have the names of columns (Keyword01, Bool01).
KEPT: Final = frozenset(
    {"default_idx", "by_workflow_id", "by_workflow_type", "by_status", "by_keyword_01", "by_keyword_02", "by_bool_01"}
)
_INDEXES = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'executions_visibility' AND sql <> ''"
_WAIT_S = 10.0  # for the server, which writes to the same file


def drop_unused_indexes(database: Path) -> list[str]:
    """Drop every other index of a running server's database; return their names. Safe to repeat.

    Raises:
        sqlite3.Error: the file is none of Temporal's, or busy for too long.
    """
    with closing(sqlite3.connect(database, timeout=_WAIT_S, isolation_level=None)) as connection:
        unused = sorted({name for (name,) in connection.execute(_INDEXES)} - KEPT)
        if unused:
            connection.execute("BEGIN IMMEDIATE")
            for name in unused:
                connection.execute(f'DROP INDEX "{name}"')
            connection.execute("COMMIT")
    return unused
