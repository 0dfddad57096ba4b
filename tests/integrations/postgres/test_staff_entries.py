"""Entries of what staff ask for: each once, however often and by however many at once it is asked."""

import asyncio
import json
import secrets
from typing import Any

import asyncpg
import pytest

from domain.audit import AuditEntry, AuditKind
from domain.errors import DomainError, ErrorCode
from domain.ids import new_registration_id
from integrations.postgres.staff_entries import PostgresStaffEntries
from tests.conftest import OwnerPool


def entry(case_id: str, outcome: str = "asked", **fields: Any) -> AuditEntry:
    told = {
        "role": "support",
        "reason": "stuck",
        "facts": {"action": "escalate", "request": "sa_x"},
        **fields,
    }
    return AuditEntry(AuditKind.CASE_ACTION_TAKEN, "staff:u_eu_x", case_id, outcome=outcome, **told)


async def outcomes(pool: asyncpg.Pool, case_id: str) -> list[str]:
    rows = await pool.fetch("SELECT body FROM audit.entry WHERE body->>'subject' = $1 ORDER BY xid", case_id)
    return [json.loads(row["body"])["outcome"] for row in rows]


async def test_an_entry_is_written_once_and_its_first_outcome_stays(
    identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    entries, case_id, key = PostgresStaffEntries(identity_pool), new_registration_id("eu"), secrets.token_hex(8)
    assert await entries.outcome_of(key) is None
    assert await entries.note(key, entry(case_id)) == "asked"
    assert await entries.note(key, entry(case_id)) == "asked"
    assert await entries.note(key, entry(case_id, "done")) == "asked"
    assert await entries.outcome_of(key) == "asked"
    assert await outcomes(await owner_pool("eu"), case_id) == ["asked"]


async def test_of_many_at_once_one_is_written(identity_pool: asyncpg.Pool, owner_pool: OwnerPool) -> None:
    entries, case_id, key = PostgresStaffEntries(identity_pool), new_registration_id("eu"), secrets.token_hex(8)
    said = await asyncio.gather(*(entries.note(key, entry(case_id, f"outcome_{n}")) for n in range(12)))
    (kept,) = await outcomes(await owner_pool("eu"), case_id)
    assert set(said) == {kept}


async def test_a_key_that_came_with_something_else_is_refused_and_nothing_is_written(
    identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    entries, case_id, key = PostgresStaffEntries(identity_pool), new_registration_id("eu"), secrets.token_hex(8)
    await entries.note(key, entry(case_id))
    for other in (
        entry(case_id, reason="complaint"),
        entry(case_id, facts={"action": "cancel", "request": "sa_x"}),
        entry(new_registration_id("eu")),
    ):
        with pytest.raises(DomainError) as refused:
            await entries.note(key, other)
        assert refused.value.code is ErrorCode.IDEMPOTENCY_KEY_USED
        assert await outcomes(await owner_pool("eu"), other.subject) == ["asked"] * (other.subject == case_id)


async def test_a_directory_that_is_away_is_said(closed_pool: asyncpg.Pool) -> None:
    entries = PostgresStaffEntries(closed_pool)
    for call in (entries.note("k", entry(new_registration_id("eu"))), entries.outcome_of("k")):
        with pytest.raises(DomainError) as failed:
            await call
        assert failed.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
