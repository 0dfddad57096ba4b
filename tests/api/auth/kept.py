"""What is kept and said, as somebody reads it who has the logs, the databases and Temporal, and none of our keys."""

import logging
import secrets
from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client

from tests.api.auth.registration_town import CELLS
from tests.conftest import OwnerPool
from tests.end_to_end.traces import Kept

_AROUND_US = frozenset({"httpx", "uvicorn.access", "mail.log"})


def mark() -> str:
    """Return what stands nowhere else."""
    return secrets.token_hex(12)


def logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Kept:
    """Return every line that was logged, also through the standard library, with all that came with it.

    Left out is what clients of tests and sandboxes of vendors say of what they send and get.
    """
    records = [record for record in caplog.records if record.name not in _AROUND_US]
    lines = [f"{logging.Formatter().format(record)} {vars(record)}" for record in records]
    return Kept("log", "\n".join((*capfd.readouterr(), *lines)).encode())


async def rows(owner_pool: OwnerPool) -> AsyncIterator[Kept]:
    """Return every row of both cells."""
    for cell in CELLS:
        pool = await owner_pool(cell)
        tables = await pool.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname IN ('identity', 'audit', 'voting', 'tally', 'reconciliation')"
        )
        for table in tables:
            for row in await pool.fetch(f"SELECT row_to_json(kept)::text AS text FROM {table['name']} AS kept"):
                yield Kept(f"postgres {table['name']}", row["text"].encode())


async def execution(client: Client, workflow_id: str) -> AsyncIterator[Kept]:
    """Return what Temporal keeps of an execution: how it is listed and described, and its history."""
    handle = client.get_workflow_handle(workflow_id)
    described = await handle.describe()
    yield Kept(f"described {described.workflow_type}", described.raw_description.SerializeToString())
    for event in (await handle.fetch_history()).events:
        yield Kept(f"history {described.workflow_type}", event.SerializeToString())
