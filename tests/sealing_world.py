"""Seals a cell's audit log as `workers/audit` does, into a folder, when a test says so."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio.testing import ActivityEnvironment

from activities.audit_sealing import AuditSealingActivities
from domain.audit_log import origin_of
from domain.checkpoints import key_id
from domain.contracts.audit import SealAuditLogInput
from integrations.keys.opening import open_keys
from integrations.keys.purposes import AUDIT_LOG
from integrations.keys.signing import LogKeys
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.audit_sequence import PostgresAuditSequence
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT
from integrations.settings import Settings
from tests.workflows.test_seal_audit_log import Watch

Seal = Callable[[], Awaitable[None]]
_WITHIN_S = 30


@asynccontextmanager
async def sealing(settings: Settings, cell: str, folder: Path) -> AsyncIterator[Seal]:
    """Yield what seals every entry that was written so far; `settings` are those of the role `comitia_audit`."""
    pool = await open_pool(settings.cells[cell].database, settings, AUDIT)
    activities = AuditSealingActivities(
        {cell: PostgresAuditSequence(pool)},
        FileObjectStore(folder),
        LogKeys(open_keys(settings, AUDIT_LOG), AUDIT_LOG),
        Watch(),
        environment=settings.environment.value,
    )

    async def seal() -> None:
        environment, written = ActivityEnvironment(), await pool.fetchval("SELECT count(*) FROM audit.entry")
        async with asyncio.timeout(_WITHIN_S):
            while True:
                sequenced = await environment.run(activities.sequence_audit_log, SealAuditLogInput(log=cell))
                if sequenced.size >= written:
                    break
                await asyncio.sleep(0.05)  # a transaction of somebody is open
        head = await environment.run(activities.write_audit_tiles, sequenced)
        await environment.run(activities.sign_audit_head, head)

    yield seal
    await pool.close()


async def log_keys(settings: Settings, cell: str) -> Mapping[tuple[str, bytes], bytes]:
    """Return the public keys of a cell's log, as checks take them."""
    origin, keys = origin_of(settings.environment.value, cell), open_keys(settings, AUDIT_LOG)
    await keys.current(AUDIT_LOG)  # made on first use
    return {(origin, key_id(origin, key)): key for key in (await keys.public_keys(AUDIT_LOG)).values()}
