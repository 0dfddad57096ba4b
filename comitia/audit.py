"""`comitia audit`: audit logs, for the person on call and for whoever checks them elsewhere."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError
from temporalio.service import RPCError

from activities.log_indexing import Compared, LogIndexing
from activities.log_reading import LogReading
from comitia.log_copy import compare_with_database, copy_log
from comitia.stack_settings import STACK_FOLDER, DataFolder, settings_of
from domain.audit import CATALOGUE_LOG
from domain.audit_log import origin_of
from domain.audit_log import verifier_keys as lines_of
from domain.contracts.audit import SealAuditLogInput, SealedAuditLog
from domain.errors import DomainError
from domain.ids import seal_audit_log_workflow_id
from domain.log_proofs import EntryProof
from domain.log_verification import LogFiles
from domain.verification import Check
from integrations.keys.opening import open_keys
from integrations.keys.purposes import AUDIT_LOG, public
from integrations.keys.signing import LogKeys
from integrations.objects.log_objects import open_log_objects
from integrations.platform import AUDIT_QUEUE, IN_FLIGHT
from integrations.postgres.audit_sequence import PostgresAuditSequence
from integrations.postgres.log_search import PostgresLogSearch
from integrations.postgres.pool import Pool, open_pool
from integrations.postgres.roles import AUDIT
from integrations.settings import Settings
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from workflows.seal_audit_log import SealAuditLogWorkflow

app = typer.Typer(no_args_is_help=True, help="Audit logs: one of each cell, and one of the catalogue.")

LogName = Annotated[str, typer.Argument(metavar="LOG", help="A cell, or `catalogue`.")]
_FAILURES = (RPCError, RuntimeError, TimeoutError, WorkflowFailureError, DomainError, LookupError, OSError)


@app.command()
def seal(
    log: LogName,
    *,
    wait: Annotated[float, typer.Option(min=1, help="How many seconds to wait.")] = 120.0,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Seal a log now, as happens once a minute; exit 1 where it is not what was signed."""
    console = Console(soft_wrap=True)
    try:
        sealed = asyncio.run(seal_log(settings_of(data, AUDIT), log, within=timedelta(seconds=wait)))
    except _FAILURES as error:
        console.print(f"not sealed: {_said(error)}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    console.print(f"sealed {sealed.size} entries of {log}: {sealed.root.hex()}", markup=False, highlight=False)


@app.command()
def keys(*, data: DataFolder = STACK_FOLDER) -> None:
    """Print the public keys of every log, for `comitia verify log` and other tools for signed notes."""
    console = Console(soft_wrap=True)
    try:
        lines = asyncio.run(verifier_keys(settings_of(data, AUDIT)))
    except _FAILURES as error:
        console.print(f"no keys: {_said(error)}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    for line in lines:
        console.print(line, markup=False, highlight=False)


@app.command()
def copy(
    log: LogName,
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="What is there already is left as it is.")],
    *,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Copy a log out of the object store into a folder."""
    console = Console(soft_wrap=True)
    try:
        settings = settings_of(data, AUDIT)
        copied = asyncio.run(copy_log(open_log_objects(settings), log, target))
    except _FAILURES as error:
        console.print(f"not copied: {_said(error)}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    console.print(f"copied {copied} files of {log}")


@app.command()
def prove(
    log: LogName,
    place: Annotated[int, typer.Argument(metavar="N", min=0, help="The entry's place in the log, from 0.")],
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the entry and its proof are written.")],
    *,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Write an entry and the proof that it is in the log, for `comitia verify entry` on any machine."""
    console = Console(soft_wrap=True)
    try:
        entry, proof = asyncio.run(prove_entry(settings_of(data, AUDIT), log, place))
    except (*_FAILURES, ValueError) as error:
        console.print(f"no proof: {_said(error)}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{log}-{place}.json").write_bytes(entry)
    (target / f"{log}-{place}.tlog-proof").write_bytes(proof.text)
    console.print(f"wrote {log}-{place}.json and {log}-{place}.tlog-proof", markup=False, highlight=False)


@app.command()
def reindex(
    log: LogName,
    *,
    compare_only: Annotated[
        bool, typer.Option("--compare", help="Change nothing; exit 1 where the search says anything else than the log.")
    ] = False,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Make what entries are found by anew, out of the sealed log, and say what differed."""
    console = Console(soft_wrap=True)
    try:
        found = asyncio.run(index_log(settings_of(data, AUDIT), log, repair=not compare_only))
    except _FAILURES as error:
        console.print(f"not compared: {_said(error)}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    what = f"{found.differ} places differed" + (f", the first {found.first}" if found.first else "")
    console.print(f"{found.size} entries of {log}: {what}", markup=False, highlight=False)
    raise typer.Exit(1 if compare_only and found.differ else 0)


async def index_log(settings: Settings, log: str, *, repair: bool) -> Compared:
    """Compare the search of a log with what is sealed, and repair it if that is asked.

    Raises:
        LookupError: there is no such log.
        DomainError: `audit_log_unavailable`, `objects_unavailable`, `key_unavailable`, `audit_log_contradicted`.
    """
    keys = LogKeys(open_keys(settings, public(AUDIT_LOG)), AUDIT_LOG)
    reading = LogReading(open_log_objects(settings), keys, log, origin_of(settings.environment.value, log))
    async with _database_of(settings, log) as pool:
        return await LogIndexing(reading, PostgresLogSearch(pool)).compare(repair=repair)


async def prove_entry(settings: Settings, log: str, place: int) -> tuple[bytes, EntryProof]:
    """Return a sealed entry in its canonical form, and the proof that it is under the newest tree head.

    Raises:
        ValueError: the log has no such entry, or none at all.
        DomainError: `objects_unavailable`, `key_unavailable`, `audit_log_contradicted`.
    """
    keys = LogKeys(open_keys(settings, public(AUDIT_LOG)), AUDIT_LOG)
    reading = LogReading(open_log_objects(settings), keys, log, origin_of(settings.environment.value, log))
    head = await reading.newest()
    if head is None:
        raise ValueError(f"nothing of {log} is sealed")
    hashes = await reading.inclusion(place, head.size)
    return await reading.entry(place, head.size), EntryProof(place, tuple(hashes), await reading.note(head.size))


async def seal_log(settings: Settings, log: str, *, within: timedelta) -> SealedAuditLog:
    """Run one sealing and return what it came to; it goes on where nobody waits for it any more.

    Raises:
        LookupError: there is no such log.
        RuntimeError: Temporal cannot be reached.
        TimeoutError: it was not done in time.
        WorkflowFailureError: the log is not what was signed.
    """
    if log not in {*settings.cells, CATALOGUE_LOG} or settings.platform_temporal is None:
        raise LookupError(f"no log of this name: {log}")
    codec = EncryptionCodec(open_keys(settings, IN_FLIGHT), IN_FLIGHT)
    await codec.refresh()
    client = await connect(settings.platform_temporal, codec)
    async with asyncio.timeout(within.total_seconds()):
        sealed: SealedAuditLog = await client.execute_workflow(
            SealAuditLogWorkflow.run,
            SealAuditLogInput(log=log),
            id=seal_audit_log_workflow_id(log, f"by-hand-{secrets.token_hex(6)}"),
            task_queue=AUDIT_QUEUE,
        )
    return sealed


async def verifier_keys(settings: Settings) -> list[str]:
    """Return the keys of every log, a line each. Raises DomainError `key_unavailable`."""
    found = await open_keys(settings, public(AUDIT_LOG)).public_keys(AUDIT_LOG)
    return lines_of(settings.environment.value, settings.cells, found.values())


async def compare(files: LogFiles, size: int, log: str, data: Path) -> list[Check]:
    """Compare a copy with the database of a log.

    Raises:
        DomainError: `audit_log_unavailable`.
        LookupError: there is no such log, or no stack.
    """
    async with _database_of(settings_of(data, AUDIT), log) as pool:
        return await compare_with_database(files, size, PostgresAuditSequence(pool))


@asynccontextmanager
async def _database_of(settings: Settings, log: str) -> AsyncIterator[Pool]:
    """Connect to the database of a log as `comitia_audit`. Raises LookupError: there is no such log."""
    address = settings.catalogue if log == CATALOGUE_LOG else settings.cells[log].database
    if address is None:
        raise LookupError("COMITIA_CATALOGUE is not set")
    pool = await open_pool(address, settings, AUDIT, size=1)
    try:
        yield pool
    finally:
        await pool.close()


def _said(error: BaseException) -> str:
    cause: BaseException | None = error.__cause__ if isinstance(error, WorkflowFailureError) else None
    while isinstance(cause, ActivityError):
        cause = cause.__cause__
    return str(cause or error) or type(error).__name__
