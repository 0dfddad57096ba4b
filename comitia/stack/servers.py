"""The servers of one machine as one thing: started together, ready together, stopped in order."""

import asyncio
import fcntl
import os
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from comitia.stack import kafka, ports, postgres, redis, temporal, temporal_server, temporal_store
from comitia.stack.addresses import DATABASES, addresses_of, port_names
from comitia.stack.applications import SUPPORT, codec_url_at
from comitia.stack.pair_watch import PairWatch
from comitia.stack.postgres_member import PairPlace
from comitia.stack.postgres_pair import PostgresPair
from comitia.stack.process import ManagedProcess
from comitia.stack.replaced import Replaced, read_replaced
from comitia.stack.state import (
    CATALOGUE,
    CELLS,
    PLATFORM,
    ROLES,
    StackState,
    kept_secret,
    new_secret,
    read_state,
)
from comitia.stack.temporal_indexes import drop_unused_indexes
from comitia.stack.topology import Topology, check_same
from integrations.addresses import Address, DatabaseAddress
from integrations.postgres.migrate import Tree, migrate
from integrations.postgres.provision import provision
from integrations.postgres.roles import CATALOGUE_ROLES, CELL_ROLES, OWNER

NAMESPACES = (*CELLS, PLATFORM)
PAIRS = "pairs"


def _migrate_alone(address: DatabaseAddress, password: SecretStr, tree: Tree) -> str:
    """Migrate a database that no process is connected to yet."""
    return migrate(address, password, tree, finish=True)


class FolderInUseError(RuntimeError):
    """Another stack runs in this folder."""


class Servers:
    """PostgreSQL, Kafka, Temporal and Redis with their data in `folder`, databases migrated.

    A server whose addresses are all in `environment` (`COMITIA_CELLS__EU__REDIS__PORT` and so on) is not started.
    Within `async with`, `state` has the addresses and `processes` what was started, by name. `topology` is how many
    there are of each; a folder keeps the one that it was made with. `migrations` brings a database to a newest
    revision: ours, with nothing left of releases before it, unless it is told to stay at that of another release.
    """

    def __init__(
        self,
        folder: Path,
        *,
        environment: Mapping[str, str] = os.environ,
        wanted_ports: Mapping[str, int] | None = None,
        topology: Topology | None = None,
        ui: bool = False,
        migrations: Callable[[DatabaseAddress, SecretStr, Tree], object] = _migrate_alone,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = folder.absolute()
        self.processes: dict[str, ManagedProcess] = {}
        self.pairs: dict[str, PairWatch] = {}  # by database, where each has a standby; they look after themselves
        self._replaced: Replaced = read_replaced(environment)
        self._wanted = dict(wanted_ports or {})
        self._topology = topology or Topology()
        self._ui = ui
        self._migrations = migrations
        self._say = say
        self._lock: FileIO | None = None
        self._state: StackState | None = None
        self._readiness: dict[str, Callable[[], Awaitable[None]]] = {}

    @property
    def state(self) -> StackState:
        """The addresses and secrets of this start."""
        assert self._state is not None, "the servers are not started"
        return self._state

    async def __aenter__(self) -> Self:
        """Start what is not replaced, all at once, and return when everything is ready and migrated.

        Raises:
            FolderInUseError: another stack runs here.
            OtherTopologyError: its data was made by other servers.
            StartError: a server did not come up; the others are stopped again.
        """
        self._take_folder()
        try:
            self._state = self._next_state()
            self.record()  # secrets first: data made with a forgotten password is lost
            async with asyncio.TaskGroup() as group:
                for name, needed, start in self._starts():
                    if needed:
                        group.create_task(start(), name=name)
            await self._migrate()
            self.record()
        except BaseExceptionGroup as failures:
            await self.__aexit__()
            raise _first(failures) from None
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop what was started, Temporal before its store, and leave the folder for the next start."""
        if "temporal" in self.processes:
            await self.processes["temporal"].stop()
        await asyncio.gather(*(process.stop() for process in self.processes.values()))
        await asyncio.gather(*(pair.__aexit__() for pair in self.pairs.values()))
        if self._state is not None:
            self._state = self._state.model_copy(update={"pids": {}, "urls": {}, "supervisor_pid": 0})
            self._state.write()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def start(self, name: str) -> None:
        """Start a stopped server again and wait until it is ready. Raises StartError."""
        await self.processes[name].start()
        await self._readiness[name]()
        self.record()

    async def stop(self, name: str) -> None:
        """Stop one server and leave the others running."""
        await self.processes[name].stop()

    def record(self, pids: Mapping[str, int] | None = None, urls: Mapping[str, str] | None = None) -> None:
        """Write down the present processes, with those of `pids` besides, and `urls`."""
        running = {**self.processes, **{n: p for watch in self.pairs.values() for n, p in watch.pair.processes.items()}}
        own = {name: process.pid for name, process in running.items() if process.pid is not None}
        update: dict[str, Any] = {"supervisor_pid": os.getpid(), "pids": {**own, **(pids or {})}}
        if urls is not None:
            update["urls"] = dict(urls)
        self._state = self.state.model_copy(update=update)
        self._state.write()

    def _take_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)  # PostgreSQL's account passes through; what is inside is closed by itself
        lock = FileIO(self.folder / "lock", "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise FolderInUseError(f"a stack runs in {self.folder} already") from None
        self._lock = lock
        for name in ("logs", "redis", "temporal", *kafka.broker_names(self._topology.kafka_brokers)):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)

    def _next_state(self) -> StackState:
        before = read_state(self.folder)
        if before is not None:
            check_same(before.topology, self._topology)
        known = before.settings["database_passwords"] if before else {}
        passwords = {role: known.get(role) or new_secret() for role in ROLES} | self._replaced.passwords
        wanted = {**(before.ports if before else {}), **self._wanted}
        chosen = ports.choose(port_names(self._topology), wanted, self._say)
        addresses = addresses_of(chosen, self._topology, self._replaced)
        return StackState(
            folder=self.folder,
            stack_id=before.stack_id if before else secrets.token_hex(8),
            settings={**addresses, "database_passwords": passwords},
            topology=self._topology,
            ports=chosen,
            supervisor_pid=os.getpid(),
        )

    def _starts(self) -> list[tuple[str, bool, Callable[[], Coroutine[Any, Any, None]]]]:
        databases: list[tuple[str, bool, Callable[[], Coroutine[Any, Any, None]]]] = [
            ("postgres", self._replaced.needs("database"), self._start_postgres)
        ]
        if self._topology.standby:
            databases = [
                (f"pair-{name}", self._replaced.database(name) is None, partial(self._start_database_pair, name))
                for name in DATABASES
            ]
        return [
            *databases,
            ("kafka", self._replaced.needs("kafka"), self._start_kafka),
            ("temporal", self._replaced.needs("temporal"), self._start_temporal),
            ("redis", self._replaced.needs("redis"), self._start_redis),
        ]

    async def _run(
        self, name: str, process: ManagedProcess, ready: Callable[[], Awaitable[None]], *, wait: bool = True
    ) -> None:
        self.processes[name] = process
        self._readiness[name] = ready
        await process.start()
        if wait:
            await ready()

    async def _start_redis(self) -> None:
        port = self.state.ports["redis"]
        process = redis.process(self.folder / "redis", self._log("redis"), port)
        await self._run("redis", process, lambda: redis.ready(process, port))

    async def _start_kafka(self) -> None:
        chosen, count = self.state.ports, self._topology.kafka_brokers
        brokers = await kafka.processes(self.folder.joinpath, self._log, chosen, brokers=count)
        for broker in brokers:
            # started again it waits for itself only: another may be away
            again = partial(kafka.ready, broker, chosen[broker.name])
            await self._run(broker.name, broker, again, wait=False)
        await asyncio.gather(*(kafka.ready(broker, chosen[broker.name], brokers=count) for broker in brokers))

    async def _start_temporal(self) -> None:
        chosen, folder = self.state.ports, self.folder / "temporal"
        if self._topology.temporal_server:
            store = await self._start_temporal_store()
            process = temporal_server.process(folder, self._log("temporal"), chosen, store)
            await self._run("temporal", process, lambda: temporal_server.ready(process, chosen, NAMESPACES))
            return
        codec_url = codec_url_at(self._wanted.get(SUPPORT.name))
        process = temporal.process(folder, self._log("temporal"), chosen, NAMESPACES, ui=self._ui, codec_url=codec_url)
        await self._run("temporal", process, lambda: temporal.ready(process, chosen, NAMESPACES))
        await asyncio.to_thread(drop_unused_indexes, folder / temporal.DATABASE)

    async def _start_temporal_store(self) -> temporal_store.Store:
        """Start Temporal's own PostgreSQL, so that a cell's can be killed alone."""
        name, log = temporal_store.NAME, self._log(temporal_store.NAME)
        password = kept_secret(self.folder / "temporal" / "store-password")
        if self._topology.temporal_standby:
            pair = (await self.start_pair("temporal")).pair
            await temporal_store.prepare(pair.primary.address, pair.administrator, password, log)
            return temporal_store.Store(pair.members, password)
        address = Address(host=ports.HOST, port=self.state.ports[name])
        data = await asyncio.to_thread(postgres.data_folder, self.folder, self.state.stack_id, name)
        process = await postgres.process(data, log, address.port, new_secret(), name=name)
        administrator = postgres.read_administrator(data)
        await self._run(name, process, lambda: postgres.ready(process, address.port, administrator))
        await temporal_store.prepare(address, administrator, password, log)
        return temporal_store.Store((address,), password)

    async def _start_database_pair(self, name: str) -> None:
        watch = await self.start_pair(name)
        await provision(
            watch.pair.primary.address,
            watch.pair.administrator,
            {name: _roles(name)},
            self.state.settings["database_passwords"],
        )

    async def start_pair(self, name: str) -> PairWatch:
        """Start a server with its standby and archive on the ports `postgres-{name}-a` and `-b`; it is ours to stop.

        Raises:
            StartError: it did not come up.
        """
        home = pair_folder(self.folder, self.state.stack_id, name)  # not in a thread: the first one makes it for all
        chosen = self.state.ports
        pair = PostgresPair(
            name,
            PairPlace(home, self.folder / "logs"),
            (chosen[f"postgres-{name}-a"], chosen[f"postgres-{name}-b"]),
            say=self._say,
        )
        self.pairs[name] = PairWatch(pair, changed=self.record)
        return await self.pairs[name].__aenter__()

    async def _start_postgres(self) -> None:
        port = self.state.ports["postgres"]
        data = await asyncio.to_thread(postgres.data_folder, self.folder, self.state.stack_id)
        process = await postgres.process(data, self._log("postgres"), port, new_secret())
        administrator = postgres.read_administrator(data)
        await self._run("postgres", process, lambda: postgres.ready(process, port, administrator))
        ours = [name for name in DATABASES if self._replaced.database(name) is None]
        await provision(
            Address(host=ports.HOST, port=port),
            administrator,
            {name: _roles(name) for name in ours},
            self.state.settings["database_passwords"],
        )

    async def _migrate(self) -> None:
        password = SecretStr(self.state.password(OWNER))
        for name in DATABASES:
            if self._replaced.database(name) is not None and OWNER not in self._replaced.passwords:
                self._say(f"the database {name} is not ours and no password of {OWNER} is given: not migrated")
                continue
            tree = Tree.CATALOGUE if name == CATALOGUE else Tree.CELL
            await asyncio.to_thread(self._migrations, self.state.database(name), password, tree)

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"


def pair_folder(folder: Path, stack_id: str, name: str) -> Path:
    """Return where the pair of one database lives."""
    return postgres.data_folder(folder, stack_id, PAIRS) / name


def _roles(database: str) -> tuple[str, ...]:
    return (OWNER, *(CATALOGUE_ROLES if database == CATALOGUE else CELL_ROLES))


def _first(failure: BaseException) -> BaseException:
    """Return what a person should read: the first of the failures that a task group collected."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
