"""The third place of a pair: its whole write-ahead log as it is written, and base backups to start from.

Every commit waits until the log is here, so the archive alone brings back all that was ever acknowledged.
"""

import asyncio
import re
import secrets
import shutil
import signal
from datetime import UTC, datetime
from pathlib import Path

from comitia.stack.account import give
from comitia.stack.postgres_member import ARCHIVE, Member, PairPlace
from comitia.stack.process import ManagedProcess

_SEGMENT = re.compile(r"^(?P<timeline>[0-9A-F]{8})(?P<log>[0-9A-F]{8})(?P<piece>[0-9A-F]{8})(?P<partial>\.partial)?$")
_FIRST_PIECE = re.compile(r"^START WAL LOCATION: .* \(file ([0-9A-F]{24})\)$", re.MULTILINE)
FINISHED = "%Y%m%dT%H%M%S.%fZ"  # names a base backup by when it was whole
_PIECES = 256  # segments of 16 MiB in one "log" of the file name


class Archive:
    """Receives the log of one pair's primary into `wal`, and keeps base backups in `base`."""

    def __init__(self, pair: str, place: PairPlace) -> None:
        self.folder = place.folder / ARCHIVE
        self.wal = self.folder / "wal"
        self.base = self.folder / "base"
        self._place = place
        self._name = f"postgres-{pair}-{ARCHIVE}"
        self.process = self._receiver(0)

    def prepare(self) -> None:
        """Make the folders. Safe to repeat."""
        for folder in (self.folder, self.wal, self.base):
            folder.mkdir(mode=0o700, exist_ok=True)
            give(folder, self._place.account)

    async def follow(self, primary: Member) -> None:
        """Receive from this server from now on, and from nobody else.

        What an earlier primary wrote after the place where this one took over was never acknowledged: it is put aside.
        """
        await self.process.stop()
        fork = await primary.replication.fork()
        if fork is not None:
            self.leave_branch(*fork)
        self.process = self._receiver(primary.port)
        await self.process.start()

    async def back_up(self, member: Member) -> Path:
        """Take a base backup from one of the servers and check it against its manifest; return its folder.

        Raises:
            StartError: it could not be taken, or is damaged.
        """
        fresh = self.base / f"new-{secrets.token_hex(4)}"
        source = ("-D", str(fresh), "-d", self._place.connection(member.port, "backup"), "--no-password")
        how = ("-X", "none", "--checkpoint=fast", "--sync-method=syncfs")
        await self._place.run(self._name, "pg_basebackup", *source, *how)
        await self._place.run(self._name, "pg_verifybackup", "--no-parse-wal", "--quiet", str(fresh))
        target = self.base / datetime.now(UTC).strftime(FINISHED)
        fresh.rename(target)
        return target

    async def forget_before(self, backup: Path) -> None:
        """Remove older base backups, and the log that only they need."""
        for older in [found for found in self.backups() if found < backup]:
            await asyncio.to_thread(shutil.rmtree, older)
        label = await asyncio.to_thread((backup / "backup_label").read_text)
        first = _FIRST_PIECE.search(label)
        assert first is not None, f"{backup} says no place in the log"
        await self._place.run(self._name, "pg_archivecleanup", str(self.wal), first.group(1))

    def backups(self) -> list[Path]:
        """Return the finished base backups, oldest first."""
        return sorted(found for found in self.base.iterdir() if not found.name.startswith("new-"))

    def leave_branch(self, timeline: int, segment: int) -> None:
        """Make room for a timeline that left the older ones within this segment. Safe to repeat."""
        aside = self.folder / f"left-at-{timeline:08X}"
        for file in list(self.wal.iterdir()):
            found = _SEGMENT.match(file.name)
            if found is None or int(found["timeline"], 16) >= timeline:
                continue
            number = int(found["log"], 16) * _PIECES + int(found["piece"], 16)
            if number > segment:
                aside.mkdir(mode=0o700, exist_ok=True)
                file.rename(aside / file.name)
            elif number == segment and not found["partial"]:
                # the receiver goes on at the start of the last piece that it calls partial
                file.rename(file.with_name(f"{file.name}.partial"))

    def _receiver(self, port: int) -> ManagedProcess:
        return ManagedProcess(
            self._name,
            [
                str(self._place.programs / "pg_receivewal"),
                *("-D", str(self.wal), "-d", self._place.connection(port, ARCHIVE), "--no-password"),
                *("--slot", ARCHIVE, "--synchronous", "--no-loop", "--status-interval=1"),
            ],
            self._place.logs / f"{self._name}.log",
            folder=self._place.folder,
            account=self._place.account,
            stop_signal=signal.SIGINT,
            grace_s=5.0,
        )
