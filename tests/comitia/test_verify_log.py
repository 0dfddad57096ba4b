"""The commands for audit logs: a copy is checked alone, and against the database whose owner may have changed it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from temporalio.testing import ActivityEnvironment
from typer.testing import CliRunner, Result

from activities.audit_sealing import AuditSealingActivities
from comitia.audit import prove_entry
from comitia.cli import app as command_line
from comitia.log_copy import copy_log
from comitia.stack.built_tools import TLOG_FSCK, TLOG_PROOFS
from domain.audit import AuditEntry, AuditKind
from domain.contracts.audit import SealAuditLogInput
from domain.ids import new_staff_id
from integrations.keys.opening import open_keys
from integrations.keys.purposes import AUDIT_LOG
from integrations.keys.signing import LogKeys
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.audit_entries import append
from integrations.postgres.audit_sequence import PostgresAuditSequence
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT, STAFFING
from integrations.settings import Settings
from integrations.telemetry.audit_metrics import AuditMetrics
from tests.built_tools import need_tools
from tests.conftest import OwnerPool, SettingsFor
from tests.log_world import VERIFIER_KEY, leaf, sealed_files
from tests.tlog_tools import fsck, proves_entry

CELL = "us"
Command = Callable[..., Result]


@pytest.fixture
def settings(settings_for: SettingsFor) -> Settings:
    return settings_for(AUDIT, STAFFING)


@pytest_asyncio.fixture
async def sealed(settings: Settings, tmp_path: Path) -> AsyncIterator[Path]:
    """A copy of a cell's log with three entries of ours at its end, and the keys beside it."""
    address = settings.cells[CELL].database
    staffing, audit = await open_pool(address, settings, STAFFING), await open_pool(address, settings, AUDIT)
    for _ in range(3):
        async with staffing.acquire() as connection, connection.transaction():
            entry = AuditEntry(AuditKind.STAFF_DISABLED, "comitia:tests", new_staff_id(CELL))
            await append(connection, entry)
    sealing = AuditSealingActivities(
        {CELL: PostgresAuditSequence(audit)},
        FileObjectStore(tmp_path / "objects"),
        LogKeys(open_keys(settings, AUDIT_LOG), AUDIT_LOG),
        AuditMetrics(CollectorRegistry()),
        environment=settings.environment.value,
    )
    environment = ActivityEnvironment()
    sequenced = await environment.run(sealing.sequence_audit_log, SealAuditLogInput(log=CELL))
    head = await environment.run(sealing.write_audit_tiles, sequenced)
    await environment.run(sealing.sign_audit_head, head)
    assert await copy_log(FileObjectStore(tmp_path / "objects"), CELL, tmp_path / "copy") > 2
    assert await copy_log(FileObjectStore(tmp_path / "objects"), CELL, tmp_path / "copy") == 0
    yield tmp_path / "copy"
    await staffing.close()
    await audit.close()


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command line as a process with these settings."""
    monkeypatch.setattr("comitia.audit.settings_of", lambda *_: settings)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(command_line, arguments)

    return run


async def verified(command: Command, folder: Path, *more: str) -> Result:
    keys = await asyncio.to_thread(command, "audit", "keys")
    assert keys.exit_code == 0, keys.output
    (folder.parent / "keys.txt").write_text(keys.output)
    arguments = ("verify", "log", str(folder), "--key", str(folder.parent / "keys.txt"), *more)
    return await asyncio.to_thread(command, *arguments)


async def tampered(pool: asyncpg.Pool, statement: str, *values: Any) -> None:
    """Do to entries what only their owner can, behind the triggers."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("ALTER TABLE audit.entry DISABLE TRIGGER USER")
        await connection.execute(statement, *values)
        await connection.execute("ALTER TABLE audit.entry ENABLE TRIGGER USER")


async def test_a_copy_is_good_and_so_is_the_database(sealed: Path, command: Command) -> None:
    said = await verified(command, sealed, "--against-database", CELL)
    assert said.exit_code == 0, said.output
    assert f"comitia/test/{CELL} is good" in said.output
    assert "ok   10 every entry of the database has its place" in said.output


async def test_an_entry_is_proved_in_two_files(sealed: Path, command: Command, settings: Settings) -> None:
    proving = settings.model_copy(update={"objects_folder": sealed.parent / "objects"})
    entry, proof = await prove_entry(proving, CELL, 0)
    (sealed.parent / "entry.json").write_bytes(entry)
    (sealed.parent / "entry.tlog-proof").write_bytes(proof.text)
    (sealed.parent / "keys.txt").write_text((await asyncio.to_thread(command, "audit", "keys")).output)
    files = ("entry.json", "--proof", "entry.tlog-proof", "--key", "keys.txt")
    arguments = [name if name.startswith("-") else str(sealed.parent / name) for name in files]
    good = await asyncio.to_thread(command, "verify", "entry", *arguments)
    assert good.exit_code == 0, good.output
    (sealed.parent / "entry.json").write_bytes(entry.replace(b"a", b"b", 1))
    bad = await asyncio.to_thread(command, "verify", "entry", *arguments)
    assert bad.exit_code == 1
    assert "FAIL 2 the entry is in the tree" in bad.output
    with pytest.raises(ValueError, match="no leaf"):
        await prove_entry(proving, CELL, 10**9)


async def test_public_tools_read_the_copy_and_the_proof_with_the_key_that_is_printed(
    sealed: Path, command: Command, settings: Settings
) -> None:
    need_tools(TLOG_FSCK, TLOG_PROOFS)
    lines = (await asyncio.to_thread(command, "audit", "keys")).output.split()
    (key,) = [line for line in lines if line.startswith(f"comitia/test/{CELL}+")]
    proving = settings.model_copy(update={"objects_folder": sealed.parent / "objects"})
    entry, proof = await prove_entry(proving, CELL, 0)
    (sealed.parent / "entry.json").write_bytes(entry)
    (sealed.parent / "entry.tlog-proof").write_bytes(proof.text)
    size, root = await asyncio.to_thread(fsck, sealed, key)
    assert f"{size:,} entries" in (await verified(command, sealed)).output
    assert root in (await verified(command, sealed)).output
    files = sealed.parent / "entry.tlog-proof", sealed.parent / "entry.json"
    proved = await asyncio.to_thread(proves_entry, key, *files)
    assert proved == f"entry 0 of {size} in comitia/test/{CELL}\n"


async def test_an_entry_that_the_owner_of_the_database_rewrites_or_removes_is_named(
    sealed: Path, command: Command, owner_pool: OwnerPool
) -> None:
    pool = await owner_pool(CELL)
    row = await pool.fetchrow("SELECT leaf_index, entry_id FROM audit.leaf ORDER BY leaf_index DESC OFFSET 1 LIMIT 1")
    assert row is not None
    place, ident = row["leaf_index"], row["entry_id"]
    kept = await pool.fetchrow("SELECT * FROM audit.entry WHERE entry_id = $1", ident)
    assert kept is not None
    body = json.loads(kept["body"]) | {"actor": "staff:u_somebody_else"}
    try:
        await tampered(pool, "UPDATE audit.entry SET body = $2 WHERE entry_id = $1", ident, json.dumps(body))
        said = await verified(command, sealed, "--against-database", CELL)
        assert said.exit_code == 1
        assert f"entry {place} (staff.disabled {ident}) is not what was sealed" in said.output
        await tampered(pool, "DELETE FROM audit.entry WHERE entry_id = $1", ident)
        said = await verified(command, sealed, "--against-database", CELL)
        assert said.exit_code == 1
        assert f"entry {place} is gone ({ident})" in said.output
        assert (await verified(command, sealed)).exit_code == 0  # what was sealed is still there to read
    finally:
        await tampered(pool, "DELETE FROM audit.entry WHERE entry_id = $1", ident)
        columns = ("entry_id", "xid", "occurred_at", "kind", "body")
        names, places = ", ".join(columns), ", ".join(f"${n}" for n in range(1, 6))
        cast = places.replace("$2", "$2::text::xid8")
        values = [str(kept[name]) if name == "xid" else kept[name] for name in columns]
        await pool.execute(f"INSERT INTO audit.entry ({names}) VALUES ({cast})", *values)
    assert (await verified(command, sealed, "--against-database", CELL)).exit_code == 0


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder.parent / "keys.txt").write_text(f"{VERIFIER_KEY}\n")
    return folder


def check(folder: Path) -> Result:
    return CliRunner().invoke(command_line, ["verify", "log", str(folder), "--key", str(folder.parent / "keys.txt")])


def test_checks_are_numbered_and_name_the_entry_that_differs(tmp_path: Path) -> None:
    folder = written(tmp_path / "log", sealed_files([leaf(number) for number in range(300)], (5, 300)))
    good = check(folder)
    assert good.exit_code == 0, good.output
    assert good.output.splitlines()[0].startswith("ok   1 signature of the newest tree head: comitia/test/eu, 300")
    bundle = folder / "tile/entries/001.p/44"
    bundle.write_bytes(bundle.read_bytes().replace(b"votes", b"voted", 1))
    bad = check(folder)
    assert bad.exit_code == 1
    assert "FAIL 4 entries hash to their tiles: entry 256 is not what tile/0/001.p/44 says" in bad.output
    assert bad.output.splitlines()[-1] == "This log is NOT good."


@pytest.mark.parametrize("files", [{}, {"checkpoints/x000/x000/x000/007": b"x"}])
def test_what_is_no_log_is_not_checked(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "log").mkdir()
    said = check(written(tmp_path / "log", files))
    assert said.exit_code == 1
    assert "is good" not in said.output
