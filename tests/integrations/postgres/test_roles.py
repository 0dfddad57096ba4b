"""Roles of a single purpose have the rights that it needs, to the column, and no others."""

import asyncio
import re
import secrets
from typing import Final

import asyncpg
import pytest
from pydantic import SecretStr

from comitia.stack.applications import APPLICATIONS
from comitia.stack.state import CATALOGUE, StackState
from integrations.postgres.entry_writers import CATALOGUE_WRITERS, CELL_WRITERS, writer_rows
from integrations.postgres.migrate import Tree, migrate
from integrations.postgres.roles import (
    CELL_ROLES,
    CLOSING,
    CODEC,
    CONSOLE,
    IDENTITY,
    OWNER,
    ROLLS,
    SEARCH,
    STAFFING,
    SURVEYS,
    UNMASKING,
)
from tests.conftest import OwnerPool, SettingsFor
from tests.integrations.postgres.test_entry_writers import connected

# Everything that is granted to a role by name in a database, outside what the server brings along
_GRANTED: Final = """
WITH granted AS (
    SELECT c.relnamespace AS schema, c.relname::text AS name, (aclexplode(c.relacl)).* FROM pg_class AS c
    UNION ALL
    SELECT c.relnamespace, c.relname || '.' || a.attname, (aclexplode(a.attacl)).*
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    UNION ALL SELECT n.oid, '', (aclexplode(n.nspacl)).* FROM pg_namespace AS n
    UNION ALL SELECT p.pronamespace, p.proname || '()', (aclexplode(coalesce(p.proacl, acldefault('f', p.proowner)))).*
    FROM pg_proc AS p WHERE p.prorettype <> 'trigger'::regtype
    UNION ALL SELECT t.typnamespace, t.typname || ' type', (aclexplode(t.typacl)).* FROM pg_type AS t
    UNION ALL SELECT d.defaclnamespace, 'default', (aclexplode(d.defaclacl)).* FROM pg_default_acl AS d
)
SELECT rtrim(granted.privilege_type || ' ' || n.nspname || '.' || granted.name, '.') || CASE WHEN is_grantable
    THEN ' further' ELSE '' END
FROM granted LEFT JOIN pg_namespace AS n ON n.oid = granted.schema
WHERE grantee = to_regrole($1)::oid AND n.nspname !~ '^(pg_|information_schema$)'
"""


def granted(text: str) -> set[str]:
    """Return what is meant by lines of `RIGHT, RIGHT schema.name(column, column)`, as it is listed."""
    found = set()
    for line in filter(None, map(str.strip, text.splitlines())):
        match = re.fullmatch(r"([A-Z, ]+) ([a-z_.]+(?:\(\))?)(?:\((.+)\))?", line)
        assert match, line
        rights, name, columns = match.groups()
        names = [f"{name}.{column}" for column in columns.split(", ")] if columns else [name]
        found |= {f"{right} {each}" for right in rights.split(", ") for each in names}
    return found


RIGHTS: Final = {
    ("eu", UNMASKING): """
        USAGE audit
        INSERT audit.entry(kind, body)
        SELECT audit.entry_writer
        SELECT, INSERT audit.unmasking_step
    """,
    ("eu", CODEC): """
        USAGE audit
        INSERT audit.entry(kind, body)
        SELECT audit.entry_writer
    """,
    ("eu", STAFFING): """
        USAGE identity
        USAGE audit
        SELECT, INSERT identity.staff
        UPDATE identity.staff(disabled_at)
        SELECT, INSERT, DELETE identity.staff_login
        UPDATE identity.staff_login(staff_id)
        INSERT identity.api_client
        SELECT identity.api_client(client_id, disabled_at)
        UPDATE identity.api_client(disabled_at)
        INSERT identity.change(subject, change, reason, actor)
        INSERT audit.entry(kind, body)
        SELECT audit.entry_writer
    """,
    ("eu", ROLLS): """
        USAGE identity
        USAGE audit
        SELECT, INSERT identity.roll
        SELECT identity.voter(voter_id, person_id)
        SELECT, INSERT identity.person(person_id)
        SELECT identity.document_claim(key_id, digest, person_id, home_cell)
        INSERT identity.document_claim(key_id, digest, person_id, home_cell, settled)
        UPDATE identity.document_claim(settled)
        INSERT identity.change(subject, change, reason, actor)
        INSERT audit.entry(kind, body)
        SELECT audit.entry_writer
    """,
    ("eu", CONSOLE): """
        USAGE identity
        USAGE audit
        SELECT, INSERT, DELETE identity.surveys_session
        UPDATE identity.surveys_session(subject, expires_at)
        SELECT identity.staff(staff_id, roles, disabled_at)
        SELECT identity.staff_login(kind, key_id, digest, staff_id)
        INSERT audit.entry(kind, body)
        SELECT audit.entry_writer
    """,
    ("eu", SEARCH): """
        USAGE audit
        SELECT audit.search
        SELECT audit.search_mark
        EXECUTE audit.participation_proof()
        EXECUTE audit.place_of_batch()
    """,
    (CATALOGUE, SEARCH): """
        USAGE audit
        SELECT audit.search
        SELECT audit.search_mark
    """,
    ("eu", CLOSING): """
        USAGE voting
        USAGE identity
        USAGE tally
        SELECT voting.survey(survey_id, finish_at, sealed_at, keys_destroyed_at)
        UPDATE voting.survey(sealed_at, wrapped_ballot_key, keys_destroyed_at)
        MAINTAIN voting.survey
        SELECT identity.survey(survey_id, keys_destroyed_at)
        UPDATE identity.survey(wrapped_eligibility_key, keys_destroyed_at)
        SELECT tally.certificate(survey_id, certificate_id)
        INSERT tally.certificate
    """,
    (CATALOGUE, CLOSING): """
        USAGE catalogue
        USAGE audit
        SELECT, INSERT, UPDATE catalogue.certification
        SELECT catalogue.survey(survey_id, keys_destroyed_at)
        UPDATE catalogue.survey(wrapped_ballot_key, wrapped_eligibility_key, keys_destroyed_at)
        INSERT catalogue.staff_action(actor, action, survey_id, before_digest, after_digest)
        INSERT audit.entry(kind, body)
        SELECT audit.entry_writer
    """,
}


@pytest.mark.parametrize(("database", "role"), RIGHTS)
async def test_a_role_has_what_its_purpose_needs_and_nothing_else(
    owner_pool: OwnerPool, database: str, role: str
) -> None:
    pool = await owner_pool(database)
    rows = [row[0] for row in await pool.fetch(_GRANTED, role)]
    assert len(rows) == len(set(rows))
    assert set(rows) == granted(RIGHTS[database, role])


async def test_a_role_that_is_not_let_in_cannot_connect(settings_for: SettingsFor) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with connected(settings_for, CATALOGUE, UNMASKING):
            pass


@pytest.mark.parametrize(
    ("database", "statement"),
    [
        ("us", "UPDATE voting.survey SET sealed_at = now() WHERE survey_id = ''"),
        ("us", "UPDATE voting.survey SET keys_destroyed_at = now() WHERE survey_id = ''"),
        ("us", "UPDATE identity.survey SET keys_destroyed_at = now() WHERE survey_id = ''"),
        ("us", "INSERT INTO tally.certificate SELECT '', '', now(), '[]'"),
        (CATALOGUE, "INSERT INTO catalogue.certification (survey_id, revision, stage, state) SELECT '', 1, '', '{}'"),
        (CATALOGUE, "UPDATE catalogue.certification SET stage = 'certified' WHERE survey_id = ''"),
    ],
)
async def test_whoever_manages_surveys_ends_none(settings_for: SettingsFor, database: str, statement: str) -> None:
    async with connected(settings_for, database, SURVEYS) as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO identity.api_client DEFAULT VALUES",
        "UPDATE identity.api_client SET roles = '{admin}'",
        "UPDATE identity.api_client SET disabled_at = NULL",
        "DELETE FROM identity.api_client",
        "INSERT INTO identity.staff DEFAULT VALUES",
        "UPDATE identity.staff SET roles = '{admin}'",
        "UPDATE identity.staff SET disabled_at = NULL",
        "INSERT INTO identity.staff_login DEFAULT VALUES",
        "UPDATE identity.staff_login SET staff_id = ''",
        "DELETE FROM identity.staff_login",
        "INSERT INTO identity.roll DEFAULT VALUES",
        "UPDATE identity.roll SET survey_id = ''",
        "DELETE FROM identity.roll",
    ],
)
async def test_no_process_makes_staff_or_machine_clients_or_writes_a_roll(
    settings_for: SettingsFor, statement: str
) -> None:
    serving = {role for application in APPLICATIONS for role in application.roles} & set(CELL_ROLES)
    assert IDENTITY in serving
    assert not serving & {STAFFING, ROLLS}
    for role in serving:
        async with connected(settings_for, "us", role) as pool:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(statement)


# What whoever managed surveys could do in a database of the release before, and what was written there by whom
_BEFORE: Final = {
    "us": (
        "GRANT UPDATE ON voting.survey, identity.survey TO comitia_surveys",
        "GRANT INSERT ON tally.certificate TO comitia_surveys",
    ),
    CATALOGUE: ("GRANT INSERT, UPDATE ON catalogue.certification TO comitia_surveys",),
}


@pytest.mark.parametrize(("database", "tree"), [("us", Tree.CELL), (CATALOGUE, Tree.CATALOGUE)])
async def test_what_only_the_release_before_needs_stays_until_it_has_ended(
    servers: StackState, owner_pool: OwnerPool, database: str, tree: Tree
) -> None:
    pool, kind = await owner_pool(database), f"planted_{secrets.token_hex(4)}"
    rights_now = {row[0] for row in await pool.fetch(_GRANTED, SURVEYS)}
    writers = writer_rows(CELL_WRITERS if tree is Tree.CELL else CATALOGUE_WRITERS)
    for statement in _BEFORE[database]:
        await pool.execute(statement)
    await pool.execute("INSERT INTO audit.entry_writer (role, kind, actor) VALUES ($1, $2, '')", SURVEYS, kind)
    rights_before = {row[0] for row in await pool.fetch(_GRANTED, SURVEYS)}
    assert rights_before - rights_now

    async def look(*, finish: bool) -> tuple[set[str], frozenset[tuple[str, ...]]]:
        address, password = servers.database(database), SecretStr(servers.password(OWNER))
        await asyncio.to_thread(migrate, address, password, tree, finish=finish)
        rows = await pool.fetch("SELECT role, kind, actor FROM audit.entry_writer")
        return {row[0] for row in await pool.fetch(_GRANTED, SURVEYS)}, frozenset(map(tuple, rows))

    assert await look(finish=False) == (rights_before, writers | {(SURVEYS, kind, "")})
    for _ in range(2):
        assert await look(finish=True) == (rights_now, writers)
