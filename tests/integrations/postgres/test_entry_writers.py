"""The database lets a role write its own kinds of audit entries only, in no other's name, whatever the role tries."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from comitia.stack.state import CATALOGUE, CELLS, StackState
from domain.audit import AuditKind
from domain.audit_writers import WRITERS, EntryWriter
from integrations.postgres.entry_writers import CATALOGUE_WRITERS, CELL_WRITERS, ROLES, writer_rows
from integrations.postgres.migrate import Tree, migrate
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import CATALOGUE_ROLES, CELL_ROLES, OWNER, SURVEYS, TALLY, VOTING
from tests.conftest import OwnerPool, SettingsFor

_WRITE = "INSERT INTO audit.entry (kind, body) VALUES ($1, $2::jsonb)"
DATABASES = [(cell, CELL_WRITERS, CELL_ROLES) for cell in CELLS] + [(CATALOGUE, CATALOGUE_WRITERS, CATALOGUE_ROLES)]
WRITING = [(writer, CATALOGUE if writer in CATALOGUE_WRITERS else "eu") for writer in EntryWriter]


@asynccontextmanager
async def connected(
    settings_for: SettingsFor, database: str, role: str, *, size: int = 1
) -> AsyncIterator[asyncpg.Pool]:
    """Connections as a role."""
    settings = settings_for(role)
    address = settings.catalogue if database == CATALOGUE else settings.cells[database].database
    assert address is not None
    pool = await open_pool(address, settings, role, size=size)
    try:
        yield pool
    finally:
        await pool.close()


def named(form: str) -> str:
    """Return an actor of a form."""
    return form.replace("*", "u_x")


async def takes(connection: asyncpg.pool.PoolConnectionProxy, kind: str, actor: str, mark: str) -> str:
    """Write an entry and take it back where it was written; return "" for that, or else what the database said."""
    attempt = connection.transaction()
    await attempt.start()
    try:
        await connection.execute(_WRITE, kind, json.dumps({"subject": mark} | ({"actor": actor} if actor else {})))
    except asyncpg.InsufficientPrivilegeError as refused:
        return str(refused)
    finally:
        await attempt.rollback()
    return ""


@pytest.mark.parametrize(("database", "writers", "roles"), DATABASES)
async def test_the_database_has_what_the_catalogue_says_and_nothing_else(
    owner_pool: OwnerPool, database: str, writers: tuple[EntryWriter, ...], roles: tuple[str, ...]
) -> None:
    pool = await owner_pool(database)
    rows = await pool.fetch("SELECT role, kind, actor FROM audit.entry_writer")
    assert {tuple(row) for row in rows} == writer_rows(writers)
    may = [
        role
        for role in roles
        if await pool.fetchval("SELECT has_any_column_privilege($1, 'audit.entry', 'INSERT')", role)
    ]
    assert set(may) == {ROLES[writer] for writer in writers}


@pytest.mark.parametrize(("writer", "database"), WRITING)
async def test_a_role_writes_its_own_kinds_in_its_own_names_and_no_others(
    settings_for: SettingsFor, writer: EntryWriter, database: str
) -> None:
    forms = {actor for writing in WRITERS.values() for actors in writing.values() for actor in actors}
    actors = {*map(named, forms), "process:somebody-else", "process:*", "staff", "Ann Example"}
    role, own, mark = ROLES[writer], WRITERS[writer], secrets.token_hex(8)
    async with connected(settings_for, database, role) as pool, pool.acquire() as connection:
        for kind in (*AuditKind, "planted"):
            for actor in actors:
                said = await takes(connection, kind, actor, mark)
                if actor in map(named, own.get(kind, ())):
                    assert said == "", (kind, actor)
                else:
                    assert said == f'{role} writes no audit entry of kind "{kind}" by "{actor}"'


async def write(pool: asyncpg.Pool, *entries: tuple[str, dict[str, str]]) -> None:
    """Write entries in one transaction."""
    async with pool.acquire() as connection, connection.transaction():
        for kind, body in entries:
            await connection.execute(_WRITE, kind, json.dumps(body))


async def test_what_is_refused_is_not_written_nor_anything_beside_it(
    settings_for: SettingsFor, owner_pool: OwnerPool
) -> None:
    mark, pool_of_owner = {"subject": secrets.token_hex(8)}, await owner_pool("eu")
    ours = (AuditKind.VOTES_RECORDED, mark)
    forged = (AuditKind.CASE_UNMASKING, {"actor": "staff:u_eu_x", "outcome": "approved", **mark})
    count = "SELECT count(*) FROM audit.entry WHERE body->>'subject' = $1"
    async with connected(settings_for, "eu", VOTING) as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=f"{VOTING} writes no audit entry"):
            await write(pool, ours, forged)
        many = "INSERT INTO audit.entry (kind, body) SELECT kind, $2::jsonb FROM unnest($1::text[]) AS of (kind)"
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=f"{VOTING} writes no audit entry"):
            await pool.execute(many, [ours[0], forged[0]], json.dumps(mark))
        assert await pool_of_owner.fetchval(count, mark["subject"]) == 0


@pytest.mark.parametrize(("database", "_writers", "roles"), DATABASES[1:])
async def test_no_role_changes_who_writes_what(
    settings_for: SettingsFor, database: str, _writers: Any, roles: tuple[str, ...]
) -> None:
    statements = (
        "INSERT INTO audit.entry_writer (role, kind, actor) VALUES (session_user, 'planted', '')",
        "UPDATE audit.entry_writer SET role = session_user",
        "DELETE FROM audit.entry_writer",
        "TRUNCATE audit.entry_writer",
        "ALTER TABLE audit.entry DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_entry_of_its_writer ON audit.entry",
        "SET session_replication_role = replica",
        "CREATE SCHEMA planted",
        "CREATE TEMPORARY TABLE entry_writer (role text, kind text, actor text)",
        "CREATE FUNCTION audit.strpos(text, text) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "SET SESSION AUTHORIZATION comitia_owner",
        "SET ROLE comitia_owner",
    )
    for role in roles:
        async with connected(settings_for, database, role) as pool:
            for statement in statements:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await pool.execute(statement)


@pytest.mark.parametrize(
    ("database", "tree", "row"),
    [
        ("us", Tree.CELL, (TALLY, AuditKind.STAFF_REFUSED.value, "staff:*")),
        (CATALOGUE, Tree.CATALOGUE, (SURVEYS, AuditKind.KEY_DESTROYED.value, "process:rotate-keys")),
    ],
)
async def test_a_kind_that_is_new_needs_no_revision(
    servers: StackState, owner_pool: OwnerPool, database: str, tree: Tree, row: tuple[str, str, str]
) -> None:
    pool = await owner_pool(database)
    gone = "DELETE FROM audit.entry_writer WHERE (role, kind, actor) = ($1, $2, $3) RETURNING true"
    assert await pool.fetchval(gone, *row)  # as in a database of the release before the kind
    await asyncio.to_thread(migrate, servers.database(database), SecretStr(servers.password(OWNER)), tree)
    found = "SELECT true FROM audit.entry_writer WHERE (role, kind, actor) = ($1, $2, $3)"
    assert await pool.fetchval(found, *row)
