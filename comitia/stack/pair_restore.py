"""Brings a destroyed or spoilt pair back from its archive, to the end of the log or to any moment before."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from comitia.stack import postgres
from comitia.stack.account import give
from comitia.stack.pair_state import Mode, PairState
from comitia.stack.pair_watch import HOLD
from comitia.stack.ports import HOST, free_port
from comitia.stack.postgres_archive import FINISHED
from comitia.stack.postgres_pair import MEMBERS, PostgresPair, until
from comitia.stack.process import ManagedProcess, StartError
from integrations.addresses import Address
from integrations.postgres.provision import Administrator
from integrations.postgres.replication import Replication

_HELD_WITHIN_S = 60.0
_REPLAYED_WITHIN_S = 3600.0
_LOOK_EVERY_S = 0.2


class RestoreError(RuntimeError):
    """Nothing was restored; what was there is as it was."""


@dataclass(frozen=True, slots=True)
class Target:
    """Up to where the log is replayed; neither given, up to its end."""

    at: datetime | None = None  # commits up to and including this instant
    lsn: str = ""

    def settings(self) -> dict[str, str]:
        """Return what the server is told."""
        if self.at is not None:
            return {"recovery_target_time": self.at.astimezone(UTC).isoformat(sep=" ")}
        return {"recovery_target_lsn": self.lsn} if self.lsn else {}

    def is_before(self, backup: "Backup") -> bool:
        """Tell whether a backup was not finished by then, and so cannot be its start."""
        if self.at is not None:
            return backup.finished_at > self.at
        return bool(self.lsn) and backup.end > position(self.lsn)


@dataclass(frozen=True, slots=True)
class Backup:
    """A base backup."""

    folder: Path
    finished_at: datetime
    end: int  # the position in the log from which on it is whole

    @classmethod
    def read(cls, folder: Path) -> "Backup":
        """Return what a folder's name and manifest say."""
        manifest = json.loads((folder / "backup_manifest").read_text())
        finished_at = datetime.strptime(folder.name, FINISHED).replace(tzinfo=UTC)
        return cls(folder, finished_at, max(position(piece["End-LSN"]) for piece in manifest["WAL-Ranges"]))


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored server, up to be looked at: it commits nothing, since the archive does not follow it yet."""

    address: Address
    administrator: Administrator
    backup: Backup
    replayed_to: int
    archived_to: str  # the newest piece of the archive that there was


def position(lsn: str) -> int:
    """Return a position in the log, written as two numbers in hexadecimal, as bytes. Raises ValueError."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


@asynccontextmanager
async def restoring(pair: PostgresPair, target: Target, *, watched: bool) -> AsyncIterator[Restored]:
    """Restore within the block; what was restored becomes the pair's data when the block ends without an error.

    `watched` says that somebody runs this pair: it is stopped first, and serves again afterwards.

    Raises:
        RestoreError: no backup is old enough, or the target is beyond the log's end. What was there is as it was.
    """
    hold = pair.place.folder / HOLD
    await asyncio.to_thread(hold.write_text, "")
    try:
        if watched:
            await _stopped(hold)
        backup = choose(pair, target)
        fresh = pair.place.folder / "restored"
        await pair.place.run("restore", "pg_verifybackup", "--no-parse-wal", "--quiet", str(backup.folder))
        await asyncio.to_thread(_copy, backup.folder, fresh, pair)
        address = Address(host=HOST, port=free_port([]))
        server = _recovery(pair, fresh, address.port, target)
        try:
            replication = Replication(address, pair.administrator)
            await server.start()
            replayed_to = await _replayed(server, replication)
            yield Restored(address, pair.administrator, backup, replayed_to, _newest(pair))
        finally:
            await server.stop()
        await asyncio.to_thread(_take, pair, fresh)
    finally:
        await asyncio.to_thread(hold.unlink, missing_ok=True)


def choose(pair: PostgresPair, target: Target) -> Backup:
    """Return the newest base backup that the target can be reached from. Raises RestoreError."""
    found = [Backup.read(folder) for folder in pair.archive.backups()]
    usable = [backup for backup in found if not target.is_before(backup)]
    if not usable:
        raise RestoreError(f"none of the {len(found)} base backups of {pair.name} was finished by then")
    return usable[-1]


async def _stopped(hold: Path) -> None:
    async def said() -> bool:
        return bool(await asyncio.to_thread(hold.read_text))

    try:
        async with asyncio.timeout(_HELD_WITHIN_S):
            await until(said, every_s=_LOOK_EVERY_S)
    except TimeoutError:
        raise RestoreError("whoever runs the pair did not stop it") from None


def _copy(backup: Path, fresh: Path, pair: PostgresPair) -> None:
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(backup, fresh)
    (fresh / "recovery.signal").touch(mode=0o600)
    (fresh / "standby.signal").unlink(missing_ok=True)
    (fresh / "pg_wal").mkdir(mode=0o700, exist_ok=True)
    for file in (fresh, *fresh.rglob("*")):
        give(file, pair.place.account)


def _recovery(pair: PostgresPair, fresh: Path, port: int, target: Target) -> ManagedProcess:
    wal = pair.archive.wal
    settings = {
        # Given to this one start only: a standby must never take a half-written piece of the log from the archive.
        # The last one is padded with zeros, which end the log where it ends.
        "restore_command": f'cp "{wal}/%f" "%p" 2>/dev/null || cp "{wal}/%f.partial" "%p" 2>/dev/null',
        "recovery_target_timeline": "latest",
        "recovery_target_action": "promote",
        "shared_buffers": "128MB",
        **target.settings(),
    }
    return postgres.server(
        f"restore-{pair.name}",
        pair.place.programs,
        fresh,
        log=pair.place.logs / f"restore-{pair.name}.log",
        port=port,
        account=pair.place.account,
        more=settings,
    )


async def _replayed(server: ManagedProcess, replication: Replication) -> int:
    async def writes() -> bool:
        return bool(await replication.is_primary(2.0))

    try:
        await server.until(writes, within_s=_REPLAYED_WITHIN_S)
        return await replication.flushed()
    except StartError as error:
        raise RestoreError(str(error)) from None
    finally:
        replication.close()


def _newest(pair: PostgresPair) -> str:
    pieces = [file.name for file in pair.archive.wal.iterdir() if not file.name.endswith(".history")]
    return max(pieces, default="nothing")


def _take(pair: PostgresPair, fresh: Path) -> None:
    """Put what was restored in the place of both members; the standby is built from it."""
    generation = pair.state.generation + 1
    for name in MEMBERS:
        spoilt = pair.place.folder / name
        if spoilt.exists():
            spoilt.rename(spoilt.with_name(f"{name}-before-{generation}"))
    fresh.rename(pair.place.folder / MEMBERS[0])
    os.sync()  # copied files, of which the server knows nothing
    PairState(primary=MEMBERS[0], mode=Mode.ALONE, generation=generation).write(pair.place.folder)
