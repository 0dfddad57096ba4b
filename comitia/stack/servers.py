"""The four servers of one machine as one thing: started together, ready together, stopped in order."""

import asyncio
import fcntl
import os
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from comitia.stack import kafka, ports, postgres, redis, temporal
from comitia.stack.process import ManagedProcess
from comitia.stack.replaced import Replaced, read_replaced
from comitia.stack.state import CATALOGUE, CELLS, PLATFORM, ROLES, StackState, merged, new_secret, read_state
from integrations.postgres.migrate import Tree, migrate
from integrations.postgres.provision import provision
from integrations.postgres.roles import CATALOGUE_ROLES, CELL_ROLES, OWNER
from integrations.settings import Address, DatabaseAddress

NAMESPACES = (*CELLS, PLATFORM)
DATABASES = (*CELLS, CATALOGUE)


class FolderInUseError(RuntimeError):
    """Another stack runs in this folder."""


class Servers:
    """PostgreSQL, Kafka, Temporal and Redis with their data in `folder`, databases migrated.

    A server whose addresses are all in `environment` (`COMITIA_CELLS__EU__REDIS__PORT` and so on) is not started.
    Within `async with`, `state` has the addresses and `processes` what was started, by name. `migrations` brings a
    database to a newest revision: ours unless it is told to stay at that of another release.
    """

    def __init__(
        self,
        folder: Path,
        *,
        environment: Mapping[str, str] = os.environ,
        wanted_ports: Mapping[str, int] | None = None,
        ui: bool = False,
        migrations: Callable[[DatabaseAddress, SecretStr, Tree], object] = migrate,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = folder.absolute()
        self.processes: dict[str, ManagedProcess] = {}
        self._replaced: Replaced = read_replaced(environment)
        self._wanted = dict(wanted_ports or {})
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
        """Stop what was started, none of which calls another, and leave the folder for the next start."""
        await asyncio.gather(*(process.stop() for process in self.processes.values()))
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
        own = {name: process.pid for name, process in self.processes.items() if process.pid is not None}
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
        for name in ("kafka", "logs", "redis", "temporal"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)

    def _next_state(self) -> StackState:
        before = read_state(self.folder)
        known = before.settings["database_passwords"] if before else {}
        passwords = {role: known.get(role) or new_secret() for role in ROLES} | self._replaced.passwords
        wanted = {**(before.ports if before else {}), **self._wanted}
        chosen = ports.choose(ports.SERVER_PORTS, wanted, self._say)
        addresses = merged(_own_addresses(chosen), self._replaced_addresses(chosen))
        return StackState(
            folder=self.folder,
            stack_id=before.stack_id if before else secrets.token_hex(8),
            settings={**addresses, "database_passwords": passwords},
            ports=chosen,
            supervisor_pid=os.getpid(),
        )

    def _replaced_addresses(self, chosen: dict[str, int]) -> dict[str, Any]:
        """A replaced address replaces all of ours but names: host, port, TLS and Redis database are its own."""
        values = {name: value for name, value in self._replaced.values.items() if name != "database_passwords"}
        own = _own_addresses(chosen)
        for cell, servers in values.get("cells", {}).items():
            for server, address in servers.items():
                kept = {
                    k: own["cells"][cell][server][k] for k in ("name", "namespace") if k in own["cells"][cell][server]
                }
                servers[server] = {"host": ports.HOST, "database": "0", **kept, **address}
                if server != "redis":
                    servers[server].pop("database")
        return values

    def _starts(self) -> list[tuple[str, bool, Callable[[], Coroutine[Any, Any, None]]]]:
        return [
            ("postgres", self._replaced.needs("database"), self._start_postgres),
            ("kafka", self._replaced.needs("kafka"), self._start_kafka),
            ("temporal", self._replaced.needs("temporal"), self._start_temporal),
            ("redis", self._replaced.needs("redis"), self._start_redis),
        ]

    async def _run(self, name: str, process: ManagedProcess, ready: Callable[[], Awaitable[None]]) -> None:
        self.processes[name] = process
        self._readiness[name] = ready
        await process.start()
        await ready()

    async def _start_redis(self) -> None:
        port = self.state.ports["redis"]
        process = redis.process(self.folder / "redis", self._log("redis"), port)
        await self._run("redis", process, lambda: redis.ready(process, port))

    async def _start_kafka(self) -> None:
        chosen = self.state.ports
        process = await kafka.process(self.folder / "kafka", self._log("kafka"), chosen)
        await self._run("kafka", process, lambda: kafka.ready(process, chosen["kafka"]))

    async def _start_temporal(self) -> None:
        chosen, folder = self.state.ports, self.folder / "temporal"
        process = temporal.process(folder, self._log("temporal"), chosen, NAMESPACES, ui=self._ui)
        await self._run("temporal", process, lambda: temporal.ready(process, chosen, NAMESPACES))

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
            {name: (OWNER, *(CATALOGUE_ROLES if name == CATALOGUE else CELL_ROLES)) for name in ours},
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


def _own_addresses(chosen: Mapping[str, int]) -> dict[str, Any]:
    def at(server: str, **more: Any) -> dict[str, Any]:
        return {"host": ports.HOST, "port": chosen[server], **more}

    return {
        "cells": {
            cell: {
                "database": at("postgres", name=cell),
                "redis": at("redis", database=number),
                "kafka": at("kafka"),
                "temporal": at("temporal", namespace=cell),
            }
            for number, cell in enumerate(CELLS)
        },
        CATALOGUE: at("postgres", name=CATALOGUE),
        "platform_temporal": at("temporal", namespace=PLATFORM),
    }


def _first(failure: BaseException) -> BaseException:
    """Return what a person should read: the first of the failures that a task group collected."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
