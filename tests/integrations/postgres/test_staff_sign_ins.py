"""Sign-ins of staff in real databases: each once, whichever service writes it and however many at once."""

import asyncio
import json
import secrets
from typing import Any

import asyncpg
import pytest

from comitia.stack.state import CATALOGUE
from domain.audit import AuditEntry, AuditKind
from domain.errors import DomainError, ErrorCode
from domain.ids import new_staff_id
from domain.staff_sign_ins import refused, signed_in
from domain.tokens import Role
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY, SURVEYS, TALLY
from integrations.postgres.staff_sign_ins import PostgresStaffSignIns
from tests.conftest import OwnerPool, SettingsFor


def came_in(session: str, **changed: Any) -> AuditEntry:
    given = {"staff_id": new_staff_id("eu"), "roles": [Role.ADMIN], "service": "surveys", **changed}
    return signed_in(session_id=session, **given)


async def written(pool: asyncpg.Pool, subject: str) -> list[tuple[str, str, str]]:
    rows = await pool.fetch("SELECT kind, body FROM audit.entry WHERE body->>'subject' = $1 ORDER BY xid", subject)
    told = [(row["kind"], json.loads(row["body"])) for row in rows]
    return [(kind, body["actor"], body["outcome"]) for kind, body in told]


@pytest.mark.parametrize(("database", "role"), [("eu", IDENTITY), ("eu", TALLY), (CATALOGUE, SURVEYS)])
async def test_staff_who_come_in_and_staff_who_are_refused_are_written_down_once(
    settings_for: SettingsFor, owner_pool: OwnerPool, database: str, role: str
) -> None:
    settings, staff, session = settings_for(role), new_staff_id("eu"), secrets.token_urlsafe(12)
    address = settings.catalogue if database == CATALOGUE else settings.cells[database].database
    assert address is not None
    pool = await open_pool(address, settings, role, size=4)
    try:
        sign_ins, entry = PostgresStaffSignIns(pool), came_in(session, staff_id=staff)
        assert sorted(await asyncio.gather(*(sign_ins.note(entry) for _ in range(8)))) == [False] * 7 + [True]
        assert not await sign_ins.note(entry)
        wrong = refused(staff, session, [Role.ADMIN], "surveys", ErrorCode.PROOF_INVALID)
        assert [await sign_ins.note(wrong) for _ in range(2)] == [True, False]
        assert await written(await owner_pool(database), entry.subject) == [
            (AuditKind.STAFF_SIGNED_IN, f"staff:{staff}", "done"),
            (AuditKind.STAFF_REFUSED, f"staff:{staff}", "proof_invalid"),
        ]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute("DELETE FROM audit.staff_sign_in")
    finally:
        await pool.close()


async def test_a_database_that_is_away_says_so(closed_pool: asyncpg.Pool) -> None:
    for away in (ErrorCode.AUDIT_LOG_UNAVAILABLE, ErrorCode.CATALOGUE_UNAVAILABLE):
        with pytest.raises(DomainError) as failed:
            await PostgresStaffSignIns(closed_pool, away).note(came_in("x"))
        assert failed.value.code is away
