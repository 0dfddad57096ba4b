"""The stack of `make faults`: a PostgreSQL for one cell alone, two processes that take votes, a proxy on every way.

Where root may mount, that PostgreSQL and Kafka have small file systems of their own, which can be filled.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from comitia.stack import kafka, ports, postgres
from comitia.stack.account import give, unprivileged_account
from comitia.stack.applications import APPLICATIONS
from comitia.stack.ports import HOST
from comitia.stack.process import ManagedProcess
from comitia.stack.servers import Servers
from comitia.stack.state import CATALOGUE, CELLS, StackState, merged, new_secret
from comitia.stack.supervisor import Supervisor
from integrations.addresses import Address
from integrations.postgres.provision import provision
from integrations.postgres.roles import CELL_ROLES, OWNER
from tests.end_to_end.house import open_house
from tests.faults.proxies import Proxies, Way
from tests.faults.stage import DOOR, Stage, second

OWN_CELL = "us"
OWN_POSTGRES = f"postgres-{OWN_CELL}"
SERVERS = ("postgres", OWN_POSTGRES, "redis", "kafka", "temporal")
_DISK_MB = {OWN_POSTGRES: 800, "kafka": 300}


ALL = (*APPLICATIONS, second(next(each for each in APPLICATIONS if each.name == DOOR)))


class WholeServers(Servers):
    """The servers, with a PostgreSQL for the cell `us` alone and a way from every process to every server.

    `disks` are the mounted file systems, by server; `undiskable` says why there are none.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, environment={})
        self.disks: dict[str, Path] = {}
        self.undiskable = ""
        self.ways: list[Way] = []

    @property
    def control_port(self) -> int:
        """Where the proxies are told what to do."""
        return self.state.ports["toxiproxy"]

    def unmount(self) -> None:
        """Take the file systems away again, after what used them has stopped."""
        for place in self.disks.values():
            subprocess.run(["umount", str(place)], check=False)
        self.disks.clear()

    def _next_state(self) -> StackState:
        state = super()._next_state()
        chosen = dict(state.ports)
        for name in (OWN_POSTGRES, "toxiproxy"):
            chosen[name] = ports.free_port(chosen.values())
        for application in ALL:
            for server in SERVERS:
                listen = chosen[f"{application.name}~{server}"] = ports.free_port(chosen.values())
                upstream = chosen[server]
                if server == "kafka":  # answers with the address that belongs to the listener it was asked at
                    upstream = chosen[f"kafka<{application.name}"] = ports.free_port(chosen.values())
                self.ways.append(Way(application.name, server, listen, upstream))
        own = {"cells": {OWN_CELL: {"database": {"host": HOST, "port": chosen[OWN_POSTGRES], "name": OWN_CELL}}}}
        return state.model_copy(update={"ports": chosen, "settings": merged(state.settings, own)})

    def _starts(self) -> Any:
        return [*super()._starts(), (OWN_POSTGRES, True, self._start_own_postgres)]

    async def _start_own_postgres(self) -> None:
        port, state = self.state.ports[OWN_POSTGRES], self.state
        data = await asyncio.to_thread(postgres.data_folder, self.folder, state.stack_id, OWN_POSTGRES)
        await asyncio.to_thread(self._mount, OWN_POSTGRES, data)
        process = await postgres.process(data, self._log(OWN_POSTGRES), port, new_secret(), name=OWN_POSTGRES)
        administrator = postgres.read_administrator(data)
        await self._run(OWN_POSTGRES, process, lambda: postgres.ready(process, port, administrator))
        roles, passwords = (OWNER, *CELL_ROLES), state.settings["database_passwords"]
        await provision(Address(host=HOST, port=port), administrator, {OWN_CELL: roles}, passwords)

    async def _start_kafka(self) -> None:
        chosen = self.state.ports
        await asyncio.to_thread(self._mount, "kafka", self.folder / "kafka" / "data")
        (broker,) = await kafka.processes(self.folder.joinpath, self._log, chosen)
        broker.command = [*broker.command, *_listening(chosen, self.ways)]
        await self._run("kafka", broker, lambda: kafka.ready(broker, chosen["kafka"]))

    def _mount(self, server: str, place: Path) -> None:
        """Give a server a small file system of its own where we may."""
        place.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB[server]}m,mode=0700", "tmpfs", str(place)]
        if os.geteuid() != 0 or shutil.which("mount") is None:
            self.undiskable = "only root may mount"
            return
        account = unprivileged_account(place) if server == OWN_POSTGRES else None
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            self.undiskable = f"mounting is refused here: {done.stderr.strip()}"
            return
        self.disks[server] = place
        give(place, account)


def _listening(chosen: Mapping[str, int], ways: list[Way]) -> list[str]:
    """Return Kafka's options: one listener per process, which names the process's proxy as the broker's address."""
    inside = f"PLAINTEXT://{HOST}:{chosen['kafka']}"
    listeners = [inside, f"CONTROLLER://{HOST}:{chosen['kafka-controller']}"]
    advertised, protocols = [inside], ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"]
    for way in ways:
        if way.server == "kafka":
            name = f"VIA_{way.process.upper().replace('-', '_')}"
            listeners.append(f"{name}://{HOST}:{way.upstream}")
            advertised.append(f"{name}://{HOST}:{way.listen}")
            protocols.append(f"{name}:PLAINTEXT")
    options = {
        "listeners": ",".join(listeners),
        "advertised.listeners": ",".join(advertised),
        "listener.security.protocol.map": ",".join(protocols),
        "num.network.threads": "1",
    }
    return [part for option, value in options.items() for part in ("--override", f"{option}={value}")]


def _by_way(process: str, chosen: Mapping[str, int]) -> dict[str, str]:
    """Return the addresses of a process's own proxies as its variables."""
    variables = {
        f"COMITIA_{CATALOGUE.upper()}__PORT": chosen[f"{process}~postgres"],
        "COMITIA_PLATFORM_TEMPORAL__PORT": chosen[f"{process}~temporal"],
    }
    for cell in CELLS:
        database = OWN_POSTGRES if cell == OWN_CELL else "postgres"
        for name, server in {"DATABASE": database, "REDIS": "redis", "KAFKA": "kafka", "TEMPORAL": "temporal"}.items():
            variables[f"COMITIA_CELLS__{cell.upper()}__{name}__PORT"] = chosen[f"{process}~{server}"]
    return {name: str(port) for name, port in variables.items()}


@asynccontextmanager
async def open_whole_stack(folder: Path, notes: Path, *, voters: int, seed: int) -> AsyncIterator[Stage]:
    """Start everything in `folder`, notebooks in `notes`, and leave nothing behind."""
    async with AsyncExitStack() as lifetime:
        servers = WholeServers(folder)
        lifetime.callback(servers.unmount)
        proxies: list[Proxies] = []

        async def arrange(supervisor: Supervisor) -> None:
            found = Proxies(servers.control_port, servers.ways, folder / "logs" / "toxiproxy.log")
            lifetime.push_async_callback(found.stop)
            await found.start()
            proxies.append(found)
            for name, process in supervisor.processes.items():
                _redirect(process, _by_way(name, servers.state.ports))

        house = await lifetime.enter_async_context(
            open_house(folder, servers=servers, applications=ALL, arrange=arrange, traced=False)
        )
        stage = await Stage.of(house, notes, voters=voters, seed=seed)
        stage.proxies = proxies[0]
        stage.disks, stage.undiskable = servers.disks, servers.undiskable
        yield stage


def _redirect(process: ManagedProcess, variables: Mapping[str, str]) -> None:
    process.environment = {**(process.environment or {}), **variables}
