"""What no role has, whatever is granted to it by name: rights of PUBLIC, places to create in, and other roles."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from integrations.postgres.roles import CATALOGUE_ROLES, CELL_ROLES, OWNER
from tests.conftest import OwnerPool

ROLES = sorted({*CELL_ROLES, *CATALOGUE_ROLES})
OURS = "nspname !~ '^pg_' AND nspname <> 'information_schema'"


@pytest_asyncio.fixture(params=["eu", "catalogue"])
async def database(request: pytest.FixtureRequest, owner_pool: OwnerPool) -> AsyncIterator[asyncpg.Pool]:
    yield await owner_pool(request.param)


async def test_a_role_creates_nothing_and_becomes_no_other(database: asyncpg.Pool) -> None:
    """So no name and no operator that a trigger or a function of the owner uses can be another than it means."""
    found = await database.fetch(
        f"""
        SELECT rolname, nspname FROM pg_roles, pg_namespace WHERE rolname = ANY ($1) AND {OURS}
            AND (has_schema_privilege(rolname, nspname, 'CREATE')
                OR has_database_privilege(rolname, current_database(), 'CREATE, TEMPORARY'))
        """,
        ROLES,
    )
    assert found == []
    others = await database.fetch(
        """
        SELECT one.rolname, other.rolname FROM pg_roles AS one, pg_roles AS other
        WHERE one.rolname = ANY ($1) AND one.oid <> other.oid AND pg_has_role(one.oid, other.oid, 'MEMBER')
        """,
        ROLES,
    )
    assert others == []
    mighty = "rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication"
    assert await database.fetch(f"SELECT FROM pg_roles WHERE rolname = ANY ($1) AND ({mighty})", [*ROLES, OWNER]) == []


async def test_nothing_is_anybodys(database: asyncpg.Pool) -> None:
    granted = await database.fetch(
        f"""
        SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace,
            aclexplode(relacl) AS granted WHERE {OURS} AND grantee = 0
        UNION ALL SELECT nspname, '' FROM pg_namespace, aclexplode(nspacl) AS granted WHERE {OURS} AND grantee = 0
        """
    )
    assert granted == []
    # As their owner: so by whoever was named, and with names that nobody else chooses
    loose = await database.fetch(
        f"""
        SELECT nspname, proname FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
        WHERE {OURS} AND prosecdef AND (
            proacl IS NULL OR EXISTS (SELECT FROM aclexplode(proacl) AS granted WHERE grantee = 0)
            OR NOT coalesce(proconfig::text LIKE '%search_path=pg_catalog%', false)
        )
        """
    )
    assert loose == []


async def test_a_role_comes_into_the_databases_that_are_its_own(database: asyncpg.Pool) -> None:
    name = await database.fetchval("SELECT current_database()")
    connecting = "rolname = ANY ($1) AND has_database_privilege(rolname, $2, 'CONNECT')"
    rows = await database.fetch(f"SELECT rolname FROM pg_roles WHERE {connecting}", ROLES, name)
    may = {row["rolname"] for row in rows}
    is_catalogue = await database.fetchval("SELECT to_regnamespace('catalogue') IS NOT NULL")
    assert may == set(CATALOGUE_ROLES if is_catalogue else CELL_ROLES)
