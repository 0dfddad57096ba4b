"""One server of a pair: its data, its process, and how it is made from the other one."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from comitia.stack import postgres
from comitia.stack.account import give, unprivileged_account
from comitia.stack.ports import HOST
from comitia.stack.process import Account, ManagedProcess, StartError
from integrations.addresses import Address
from integrations.postgres.provision import Administrator
from integrations.postgres.replication import REPLICATOR, Replication

ARCHIVE = "archive"
_PASSFILE = "replicator"
_ANSWERS_WITHIN_S = 2.0
_OPTIONS = {
    "wal_keep_size": "512MB",  # for whoever has no slot yet
    "wal_retrieve_retry_interval": "500ms",
    "wal_receiver_status_interval": "1s",
    "hot_standby_feedback": "on",  # whoever reads the standby is not thrown out by the primary's cleaning
    "max_standby_streaming_delay": "5s",
    "shared_buffers": "128MB",  # several pairs share one machine
}


@dataclass(frozen=True, slots=True)
class PairPlace:
    """Where a pair lives: `folder` is one that the unprivileged account reaches, logs are ours."""

    folder: Path
    logs: Path

    @property
    def passfile(self) -> Path:
        """The replicator's password, in the form that PostgreSQL's own programs read."""
        return self.folder / _PASSFILE

    @property
    def secret(self) -> Path:
        """The administrator's password."""
        return self.folder / "administrator"

    @property
    def account(self) -> Account | None:
        """Who runs the servers and owns the data."""
        return unprivileged_account(self.folder)

    @property
    def programs(self) -> Path:
        """PostgreSQL's programs, where the account can run them."""
        return postgres.usable_install(self.account) / "bin"

    @property
    def administrator(self) -> Administrator:
        """Who may do anything; the same on both servers."""
        return Administrator(postgres.ADMINISTRATOR, self.secret.read_text())

    def connection(self, port: int, name: str) -> str:
        """Return how a program of PostgreSQL's connects to stream, under the name that commits wait for."""
        return (
            f"host={HOST} port={port} user={REPLICATOR} passfile={self.passfile} "
            f"application_name={name} connect_timeout=5"
        )

    def write_passfile(self, password: str) -> None:
        """Keep the replicator's password."""
        self.passfile.touch(mode=0o600)
        self.passfile.write_text(f"*:*:*:{REPLICATOR}:{password}\n")
        give(self.passfile, self.account)

    async def run(self, name: str, *command: str) -> None:
        """Run one of PostgreSQL's programs as the account until its end. Raises StartError where it fails."""
        program, *arguments = command
        tool = ManagedProcess(
            program,
            [str(self.programs / program), *arguments],
            self.logs / f"{name}.log",
            account=self.account,
            folder=self.folder,
        )
        if await tool.finish():
            raise StartError(f"{program} of {name} failed\n{tool.tail()}")


class Member:
    """One of the two servers; `name` is what the other one's commits wait for."""

    def __init__(self, pair: str, name: str, place: PairPlace, port: int) -> None:
        self.name = name
        self.place = place
        self.port = port
        self.cluster = place.folder / name
        self.address = Address(host=HOST, port=port)
        self.process = postgres.server(
            f"postgres-{pair}-{name}",
            place.programs,
            self.cluster,
            log=place.logs / f"postgres-{pair}-{name}.log",
            port=port,
            account=place.account,
            more=_OPTIONS,
        )

    @property
    def replication(self) -> Replication:
        """A fresh connection's worth of questions to this server."""
        return Replication(self.address, self.place.administrator)

    @property
    def exists(self) -> bool:
        """Whether it has data."""
        return (self.cluster / "PG_VERSION").exists()

    @property
    def follows(self) -> bool:
        """Whether its data start as a standby's."""
        return (self.cluster / "standby.signal").exists()

    async def make_empty(self, password: str, receivers: str) -> None:
        """Make a cluster whose commits wait for `receivers` from its first start on."""
        await postgres.ensure_cluster(
            self.place.programs,
            self.cluster,
            secret=self.place.secret,
            password=password,
            log=self.process.log,
            account=self.place.account,
        )
        self.write_settings({"synchronous_standby_names": receivers})

    async def make_from(self, primary: "Member") -> None:
        """Make it anew as a standby of the primary, from a base backup; what it had is gone afterwards.

        Raises:
            StartError: the primary does not give one.
        """
        await self.process.stop()
        fresh = self.cluster.with_name(f"{self.name}-new")
        shutil.rmtree(fresh, ignore_errors=True)
        await self.place.run(
            self.process.name,
            "pg_basebackup",
            *("-D", str(fresh), "-d", self.place.connection(primary.port, f"copy-{self.name}")),
            *("-X", "stream", "--checkpoint=fast", "--sync-method=syncfs", "--no-password"),
        )
        shutil.rmtree(self.cluster, ignore_errors=True)
        fresh.rename(self.cluster)
        self.write_settings(
            {
                "primary_conninfo": self.place.connection(primary.port, self.name),
                "primary_slot_name": self.name,
            }
        )
        signal_file = self.cluster / "standby.signal"
        signal_file.touch(mode=0o600)
        give(signal_file, self.place.account)

    def write_settings(self, settings: dict[str, str]) -> None:
        """Add to the settings that the data carry with them, whoever starts a server on them."""
        file = self.cluster / "postgresql.auto.conf"
        with file.open("a") as opened:
            opened.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        give(file, self.place.account)

    async def start(self, within_s: float) -> None:
        """Start it and wait until it answers. Raises StartError."""
        await self.process.start()
        await self.process.until(lambda: self.answers(_ANSWERS_WITHIN_S), within_s=within_s)

    async def answers(self, within_s: float) -> bool:
        """Tell whether it answers in time, primary or not."""
        replication = self.replication
        try:
            return await replication.is_primary(within_s) is not None
        finally:
            replication.close()
