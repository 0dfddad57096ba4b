"""Entries of break-glass: each step once, however often and by however many at once it is noted."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from domain.audit import AuditEntry, AuditKind
from domain.errors import DomainError, ErrorCode
from domain.ids import new_registration_id
from integrations.postgres.roles import UNMASKING
from integrations.postgres.unmasking_entries import PostgresUnmaskingEntries
from tests.conftest import OwnerPool, SettingsFor
from tests.integrations.postgres.test_entry_writers import connected


@pytest_asyncio.fixture
async def pool(settings_for: SettingsFor) -> AsyncIterator[asyncpg.Pool]:
    async with connected(settings_for, "eu", UNMASKING, size=8) as opened:
        yield opened


def step(case_id: str, outcome: str = "approved", **fields: Any) -> AuditEntry:
    told = {"reason": "wrong_contact", "facts": {"unmasking": "b_x", "field": "mail"}, **fields}
    return AuditEntry(AuditKind.CASE_UNMASKING, "staff:u_eu_x", case_id, outcome=outcome, **told)


async def outcomes(owner_pool: OwnerPool, case_id: str) -> list[str]:
    rows = await (await owner_pool("eu")).fetch(
        "SELECT body FROM audit.entry WHERE body->>'subject' = $1 ORDER BY xid", case_id
    )
    return [json.loads(row["body"])["outcome"] for row in rows]


async def test_a_step_is_written_down_once(pool: asyncpg.Pool, owner_pool: OwnerPool) -> None:
    entries, case_id, key = PostgresUnmaskingEntries(pool), new_registration_id("eu"), secrets.token_hex(8)
    assert {await entries.note(key, step(case_id)) for _ in range(2)} == {"approved"}
    assert set(await asyncio.gather(*(entries.note(key, step(case_id)) for _ in range(12)))) == {"approved"}
    assert await outcomes(owner_pool, case_id) == ["approved"]


async def test_of_many_at_once_one_is_written(pool: asyncpg.Pool, owner_pool: OwnerPool) -> None:
    entries, case_id, key = PostgresUnmaskingEntries(pool), new_registration_id("eu"), secrets.token_hex(8)
    await asyncio.gather(*(entries.note(key, step(case_id)) for _ in range(12)))
    assert await outcomes(owner_pool, case_id) == ["approved"]


async def test_a_key_that_came_with_something_else_is_refused_and_nothing_is_written(
    pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    entries, case_id, key = PostgresUnmaskingEntries(pool), new_registration_id("eu"), secrets.token_hex(8)
    await entries.note(key, step(case_id))
    for other in (step(case_id, "refused"), step(case_id, reason="lost_access"), step(new_registration_id("eu"))):
        with pytest.raises(DomainError) as refused:
            await entries.note(key, other)
        assert refused.value.code is ErrorCode.IDEMPOTENCY_KEY_USED
        assert await outcomes(owner_pool, other.subject) == ["approved"] * (other.subject == case_id)


async def test_a_directory_that_is_away_is_said(closed_pool: asyncpg.Pool) -> None:
    with pytest.raises(DomainError) as failed:
        await PostgresUnmaskingEntries(closed_pool).note("k", step(new_registration_id("eu")))
    assert failed.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
