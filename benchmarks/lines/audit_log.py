"""An audit log: how fast it grows by batches, a proof out of ten million entries, and a million entries verified."""

import os
import random
import shutil
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles
from uuid import UUID

from nacl.signing import SigningKey
from temporalio.testing import ActivityEnvironment

from activities.audit_sealing import AuditSealingActivities
from activities.log_reading import LogReading
from benchmarks.ground import CELL, Ground
from benchmarks.report import CheckFailedError, Goal, Line, check_equal, line
from benchmarks.run import Run
from comitia.log_copy import LogFolder
from domain.audit_log import bundle, checkpoint_path, origin_of
from domain.certificates import canonical_json
from domain.checkpoints import Checkpoint, key_id, signed_note
from domain.contracts.audit import SealAuditLogInput
from domain.log_verification import verify_log
from domain.merkle import leaf_hash
from domain.merkle_proofs import includes
from domain.merkle_tiles import TILE_WIDTH, GrowingTiles, Tile
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import AUDIT_LOG
from integrations.keys.signing import LogKeys, is_signed
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.audit_sequence import PostgresAuditSequence
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT

GROWN = 100_000
PROVED = 10_000_000
_WRITTEN_AT_ONCE = 1_000  # entries in a transaction
_PROOFS = 300
_ENVIRONMENT = "benchmark"
_WRITE = """
INSERT INTO audit.entry (kind, body)
SELECT 'votes.recorded', jsonb_build_object(
    'batch', md5($1::text || number) || '-' || number, 'participations', 500,
    'participationsRoot', md5(number::text) || md5($1::text), 'ballotsRoot', md5($1::text) || md5(number::text)
) FROM generate_series(1, $2) AS number
"""


class _Silent:
    def sealed(self, log_name: str, size: int) -> None:
        """Nobody listens."""

    def waiting(self, log_name: str, age: timedelta) -> None:
        """Nobody listens."""

    def contradicted(self, log_name: str, detail: str) -> None:
        """It ends the measurement."""
        raise CheckFailedError(f"{log_name}: {detail}")


async def measure(run: Run) -> list[Line]:
    """Seal what was written, prove entries of a large log, and verify another one."""
    return [
        await _growth(run.ground),
        await _proof(run.ground.folder / "proved"),
        _verification(run.ground.folder / "verified", run.ballots),
    ]


async def _growth(ground: Ground) -> Line:
    settings = ground.state.settings_for(AUDIT)
    async with AsyncExitStack() as lifetime:
        pool = await open_pool(settings.cells[CELL].database, settings, AUDIT, command_timeout=60)
        lifetime.push_async_callback(pool.close)
        folder = ground.folder / "grown"
        keys = LogKeys(FileKms(ground.folder / "keys", frozenset({AUDIT_LOG})), AUDIT_LOG)
        sealing = AuditSealingActivities(
            {CELL: PostgresAuditSequence(pool)}, FileObjectStore(folder), keys, _Silent(), environment=_ENVIRONMENT
        )
        environment, request = ActivityEnvironment(), SealAuditLogInput(log=CELL)
        before = (await environment.run(sealing.sequence_audit_log, request)).size
        for number in range(GROWN // _WRITTEN_AT_ONCE):
            await ground.owner.execute(_WRITE, str(number), _WRITTEN_AT_ONCE)
        began = time.perf_counter()
        sequenced = await environment.run(sealing.sequence_audit_log, request)
        placed = time.perf_counter() - began
        sealed = before
        while sealed < sequenced.size:
            head = await environment.run(sealing.write_audit_tiles, sequenced)
            sealed = (await environment.run(sealing.sign_audit_head, head)).size
        seconds = time.perf_counter() - began
        origin = origin_of(_ENVIRONMENT, CELL)
        known = {(origin, key_id(origin, key)): key for key in await keys.public_keys()}
    checks, newest = verify_log(LogFolder(folder / "logs" / CELL), known, is_signed)
    if newest is None or not all(check.holds for check in checks):
        raise CheckFailedError(str([check for check in checks if not check.holds]))
    checked = check_equal("entries", written=GROWN, sealed=newest.size - before)
    detail = (
        f"{GROWN:,} entries: places in the database {placed:.1f} s, tiles and bundles on the disk and tree heads "
        f"{seconds - placed:.1f} s; {checked}"
    )
    return line("audit log growth", GROWN / seconds, "entries/s", Goal(at_least=5_000), detail)


async def _proof(folder: Path) -> Line:
    """Prove entries of a log of which every full tile of level 0 is the same file: one on the disk, by many names."""
    log = folder / "logs" / CELL
    hashes = [leaf_hash(number.to_bytes(8, "big")) for number in range(TILE_WIDTH)]
    lowest = b"".join(hashes)
    first = log / Tile(0, 0).path
    _write(first, lowest)
    tree, whole = GrowingTiles(), PROVED // TILE_WIDTH
    for number in range(whole):
        tree.extend(hashes)
        for tile, content in tree.take_complete():
            if tile.level:
                _write(log / tile.path, content)
            elif number:
                _link(first, log / tile.path)
    tree.extend(hashes[: PROVED - whole * TILE_WIDTH])
    for tile, content in tree.partial():
        _write(log / tile.path, content)
    root = tree.root()
    keys = LogKeys(FileKms(folder / "keys", frozenset({AUDIT_LOG})), AUDIT_LOG)
    reading = LogReading(FileObjectStore(folder), keys, CELL, origin_of(_ENVIRONMENT, CELL))
    chosen, took, proved = random.Random(7), list[float](), 0
    for _ in range(_PROOFS):
        index = chosen.randrange(PROVED)
        began = time.perf_counter()
        proof = await reading.inclusion(index, PROVED)
        took.append(1000 * (time.perf_counter() - began))
        proved += includes(hashes[index % TILE_WIDTH], index, PROVED, proof, root)
    checked = check_equal("proofs", made=_PROOFS, held=proved)
    shutil.rmtree(folder)
    detail = f"p50 {median(took):.1f} ms of {_PROOFS} proofs from tiles on the disk, one after the other; {checked}"
    return line(f"proof in {PROVED:,} entries, p99", quantiles(took, n=100)[98], "ms", Goal(at_most=50), detail)


def _verification(folder: Path, entries: int) -> Line:
    name, signer = origin_of(_ENVIRONMENT, CELL), SigningKey.generate()
    tree, written = GrowingTiles(), 0
    for at in range(0, entries, TILE_WIDTH):
        leaves = [_leaf(number) for number in range(at, min(at + TILE_WIDTH, entries))]
        tree.extend(map(leaf_hash, leaves))
        _write(folder / Tile(0, at // TILE_WIDTH, len(leaves)).entries_path, bundle(leaves))
        for tile, content in tree.take_complete():
            _write(folder / tile.path, content)
        written += len(leaves)
    for tile, content in tree.partial():
        _write(folder / tile.path, content)
    text = Checkpoint(name, tree.size, tree.root()).text
    public_key = bytes(signer.verify_key)
    _write(folder / checkpoint_path(tree.size), signed_note(text, name, public_key, signer.sign(text).signature))
    began = time.perf_counter()
    checks, newest = verify_log(LogFolder(folder), {(name, key_id(name, public_key)): public_key}, is_signed)
    seconds = time.perf_counter() - began
    if newest is None or not all(check.holds for check in checks):
        raise CheckFailedError(str([check for check in checks if not check.holds]))
    checked = check_equal("entries", written=written, verified=newest.size)
    shutil.rmtree(folder)
    detail = f"on one core, {entries / seconds:,.0f} entries/s: {len(checks)} checks; {checked}"
    return line(f"verifying {entries:,} audit entries", seconds, "s", Goal(at_most=30), detail)


def _leaf(number: int) -> bytes:
    root = f"{number:064x}"
    body = {"batch": f"{number:032x}-1", "participations": 500, "participationsRoot": root, "ballotsRoot": root}
    entry = {"at": "2026-01-02T03:04:05.678901Z", "body": body, "id": str(UUID(int=number)), "kind": "votes.recorded"}
    return canonical_json(entry)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _link(first: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(first, path)
