"""What Temporal keeps in PostgreSQL as in production: two databases, a role that owns them, and their schema."""

import os
from dataclasses import dataclass
from pathlib import Path

from comitia.stack.built_tools import TEMPORAL_SQL_TOOL, needed_tool
from comitia.stack.process import ManagedProcess, StartError
from integrations.addresses import Address
from integrations.postgres.pool import durability
from integrations.postgres.provision import Administrator, ensure_login, maintenance

NAME = "temporal-store"
PLUGIN = "postgres12_pgx"  # the driver that takes several hosts and finds the one that writes
ROLE = "temporal"
DATABASES = {"temporal": "temporal", "temporal_visibility": "visibility"}  # and the schema of each


@dataclass(frozen=True, slots=True)
class Store:
    """Where Temporal's databases are: at the one of these addresses that writes."""

    addresses: tuple[Address, ...]
    password: str


async def prepare(address: Address, administrator: Administrator, password: str, log: Path) -> None:
    """Make role and databases, and bring the schema up to the server's version. Safe to repeat.

    Raises:
        NotDurableError: the store would acknowledge what a crash can undo.
        StartError: a schema was not made.
        FileNotFoundError: the tool is missing.
    """
    connection = await maintenance(address, administrator)
    try:
        await durability(connection)
        await ensure_login(connection, ROLE, password)
        present = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
        for database in DATABASES:
            if database not in present:
                await connection.execute(f'CREATE DATABASE "{database}" OWNER "{ROLE}"')
            await connection.execute(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
    finally:
        await connection.close()
    for database, schema in DATABASES.items():
        await _run(address, password, log, database, "setup-schema", "--version", "0.0")
        await _run(address, password, log, database, "update-schema", "--schema-name", f"postgresql/v12/{schema}")


async def _run(address: Address, password: str, log: Path, database: str, *arguments: str) -> None:
    tool = ManagedProcess(
        TEMPORAL_SQL_TOOL,
        [str(needed_tool(TEMPORAL_SQL_TOOL)), *arguments],
        log,
        # the environment, since anybody may read a command line
        environment={
            **os.environ,
            "SQL_PLUGIN": PLUGIN,
            "SQL_HOST": address.host,
            "SQL_PORT": str(address.port),
            "SQL_USER": ROLE,
            "SQL_PASSWORD": password,
            "SQL_DATABASE": database,
        },
    )
    if await tool.finish():
        raise StartError(f"Temporal's schema of {database} was not made\n{tool.tail()}")
