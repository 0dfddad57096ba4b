"""Entries of what the codec server opened: one each time, by its own role, and not in a program's name."""

import json
import secrets

import asyncpg
import pytest

from domain.audit import AuditEntry, AuditKind
from domain.errors import DomainError, ErrorCode
from integrations.postgres.audit_entries import append
from integrations.postgres.codec_entries import PostgresCodecEntries
from integrations.postgres.roles import CODEC
from tests.conftest import OwnerPool, SettingsFor
from tests.integrations.postgres.test_entry_writers import connected


def opened(actor: str) -> AuditEntry:
    facts: dict[str, str | int] = {"namespace": "eu", "payloads": "0" * 64, "count": 1}
    return AuditEntry(AuditKind.HISTORY_DECODED, actor, "", role="support", facts=facts)


async def test_what_is_opened_each_time_is_written_each_time(settings_for: SettingsFor, owner_pool: OwnerPool) -> None:
    actor = f"staff:u_eu_{secrets.token_hex(8)}"
    async with connected(settings_for, "eu", CODEC) as pool:
        for _ in range(2):
            await PostgresCodecEntries(pool).write(opened(actor))
    rows = await (await owner_pool("eu")).fetch("SELECT body FROM audit.entry WHERE body->>'actor' = $1", actor)
    assert [json.loads(row["body"])["role"] for row in rows] == ["support"] * 2


async def test_nobody_else_and_no_program_is_said_to_have_opened_anything(
    settings_for: SettingsFor, identity_pool: asyncpg.Pool
) -> None:
    async with connected(settings_for, "eu", CODEC) as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="writes no audit entry"):
            await PostgresCodecEntries(pool).write(opened("client:c_aaaaaaaaaaaaaaaa"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="writes no audit entry"):
        async with identity_pool.acquire() as connection, connection.transaction():
            await append(connection, opened("staff:u_eu_x"))


async def test_a_directory_that_is_away_is_said(closed_pool: asyncpg.Pool) -> None:
    with pytest.raises(DomainError) as failed:
        await PostgresCodecEntries(closed_pool).write(opened("staff:u_eu_x"))
    assert failed.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
