import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
from pydantic import SecretStr

from comitia.stack.state import CATALOGUE, CELLS, StackState
from integrations.postgres.migrate import LaterSchemaError, Tree, heads, migrate
from integrations.postgres.roles import OWNER

OwnerPool = Callable[[str], Awaitable[asyncpg.Pool]]
DATABASES = [(cell, Tree.CELL) for cell in CELLS] + [(CATALOGUE, Tree.CATALOGUE)]

CONSTRAINTS = """
SELECT n.nspname || '.' || c.relname AS owner, k.conname AS name, k.contype::text AS kind
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> ALL($1::text[]) AND n.nspname NOT LIKE 'pg\\_%' AND k.contype IN ('p', 'u', 'f', 'c', 'x')
UNION ALL
SELECT n.nspname || '.' || t.relname, c.relname, 'i'
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> ALL($1::text[]) AND n.nspname NOT LIKE 'pg\\_%'
AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
"""
PREFIXES = {"p": ("pk_",), "u": ("uq_",), "f": ("fk_",), "c": ("ck_",), "x": ("ex_",), "i": ("ix_", "uq_")}
NOT_OURS = ["migration", "information_schema", "public"]


@pytest.mark.parametrize("tree", Tree)
def test_a_tree_has_one_head(tree: Tree) -> None:
    assert len(heads(tree)) == 1


@pytest.mark.parametrize(("name", "tree"), DATABASES)
async def test_an_empty_database_reaches_the_head(
    servers: StackState, owner_pool: OwnerPool, name: str, tree: Tree
) -> None:
    pool = await owner_pool(name)
    assert (await pool.fetchval("SELECT version_num FROM migration.revision"),) == heads(tree)
    again = await asyncio.to_thread(migrate, servers.database(name), SecretStr(servers.password(OWNER)), tree)
    assert (again,) == heads(tree)


async def test_a_database_of_a_later_release_is_left_as_it_is(servers: StackState, owner_pool: OwnerPool) -> None:
    pool = await owner_pool(CATALOGUE)
    reached = await pool.fetchval("SELECT version_num FROM migration.revision")
    await pool.execute("UPDATE migration.revision SET version_num = '9999'")
    try:
        with pytest.raises(LaterSchemaError, match="at revision 9999, which is of a later release"):
            await asyncio.to_thread(
                migrate, servers.database(CATALOGUE), SecretStr(servers.password(OWNER)), Tree.CATALOGUE
            )
        assert await pool.fetchval("SELECT version_num FROM migration.revision") == "9999"
    finally:
        await pool.execute("UPDATE migration.revision SET version_num = $1", reached)


@pytest.mark.parametrize(("name", "tree"), DATABASES)
async def test_every_constraint_and_index_has_a_name_that_says_its_kind(
    owner_pool: OwnerPool, name: str, tree: Tree
) -> None:
    rows = await (await owner_pool(name)).fetch(CONSTRAINTS, NOT_OURS)
    assert rows, f"the tree {tree} made nothing"
    assert [(row["owner"], row["name"]) for row in rows if not row["name"].startswith(PREFIXES[row["kind"]])] == []


@pytest.mark.parametrize(("name", "tree"), DATABASES)
async def test_the_owner_role_owns_everything_and_no_service_does(owner_pool: OwnerPool, name: str, tree: Tree) -> None:
    rows = await (await owner_pool(name)).fetch(
        "SELECT c.oid::regclass::text AS relation, pg_get_userbyid(c.relowner) AS owner FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'"
    )
    assert rows, f"the tree {tree} made nothing"
    assert [row["relation"] for row in rows if row["owner"] != OWNER] == []
