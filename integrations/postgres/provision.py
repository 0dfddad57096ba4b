"""What an administrator does once per server: databases, and roles that can do nothing until a migration grants it."""

from dataclasses import dataclass
from typing import Any

import asyncpg

from integrations.addresses import Address
from integrations.postgres.roles import OWNER

_MAINTENANCE = "postgres"


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who may make databases and roles."""

    name: str
    password: str


async def server_answers(address: Address, administrator: Administrator) -> bool:
    """Tell whether the server takes connections now."""
    try:
        connection = await maintenance(address, administrator)
    except (OSError, asyncpg.CannotConnectNowError):
        return False
    await connection.close()
    return True


async def provision(
    address: Address,
    administrator: Administrator,
    databases: dict[str, tuple[str, ...]],
    passwords: dict[str, str],
) -> None:
    """Make the databases (by name, with the roles that may connect) and roles, or bring them up to date.

    Databases belong to the owner role, and nobody has a right by being PUBLIC. Safe to repeat.
    """
    connection = await maintenance(address, administrator)
    try:
        for role, password in passwords.items():
            await ensure_login(connection, role, password)
        present = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
        for database, roles in databases.items():
            if database not in present:
                await connection.execute(f'CREATE DATABASE "{database}" OWNER "{OWNER}"')
            await connection.execute(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
            for role in roles:
                await connection.execute(f'GRANT CONNECT ON DATABASE "{database}" TO "{role}"')
    finally:
        await connection.close()
    for database in databases:
        inside = await _connect(address, administrator, database)
        try:
            await inside.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        finally:
            await inside.close()


async def maintenance(address: Address, administrator: Administrator) -> Any:
    """Return a connection of whoever may make databases and roles; the caller closes it."""
    return await _connect(address, administrator, _MAINTENANCE)


async def ensure_login(connection: Any, role: str, password: str) -> None:
    """Make a role that may log in and nothing else, or give it this password."""
    # A password cannot be bound in CREATE ROLE: the server quotes it.
    quoted: str = await connection.fetchval("SELECT quote_literal($1::text)", password)
    known = await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role)
    verb = "ALTER" if known else "CREATE"
    rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION"
    await connection.execute(f'{verb} ROLE "{role}" {rights} PASSWORD {quoted}')


async def _connect(address: Address, administrator: Administrator, database: str) -> Any:
    return await asyncpg.connect(
        host=address.host,
        port=address.port,
        user=administrator.name,
        password=administrator.password,
        database=database,
        ssl="disable",
        timeout=5,
    )
