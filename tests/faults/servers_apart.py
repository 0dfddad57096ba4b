"""The stack in which servers are kept from each other: a standby, Temporal's store and three brokers, behind proxies.

One cell has a PostgreSQL with a standby, Temporal is production's on a store of its own, and what brokers tell each
other goes through a proxy before each. Applications reach every server straight.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from comitia.stack import kafka, ports, temporal_store
from comitia.stack.ports import HOST
from comitia.stack.postgres_pair import MEMBERS
from comitia.stack.servers import Servers
from comitia.stack.state import StackState, merged
from comitia.stack.temporal_store import Store
from comitia.stack.topology import Topology
from integrations.addresses import Address
from tests.end_to_end.house import open_house
from tests.faults.proxies import Proxies, Way
from tests.faults.stage import Stage

PAIRED_CELL = "us"
PAIR = tuple(f"postgres-{PAIRED_CELL}-{each}" for each in MEMBERS)
BROKERS = kafka.broker_names(3)
APART = Topology(temporal_server=True, kafka_brokers=len(BROKERS))
STANDBY_WAY, STORE_WAY = f"{PAIR[1]}~{PAIR[0]}", f"temporal~{temporal_store.NAME}"


def broker_way(broker: str) -> str:
    """Return the way on which the other brokers reach this one."""
    return f"brokers~{broker}"


class ServersApart(Servers):
    """Those servers, with a proxy on each way between them. `proxies` run from before the first server starts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, environment={}, topology=APART)
        self.proxies: Proxies | None = None
        self._starting = asyncio.Lock()

    async def __aexit__(self, *_: object) -> None:
        """Stop the servers, then the proxies."""
        await super().__aexit__()
        if self.proxies is not None:
            await self.proxies.stop()
            self.proxies = None

    def _next_state(self) -> StackState:
        state = super()._next_state()
        chosen = dict(state.ports)
        inside = [f"{broker}-inside" for broker in BROKERS]
        ways = (STANDBY_WAY, STORE_WAY, *map(broker_way, BROKERS))
        for name in (*PAIR, "toxiproxy", *inside, *ways):
            chosen[name] = ports.free_port(chosen.values())
        first, second = (chosen[name] for name in PAIR)
        database = {"host": HOST, "port": first, "name": PAIRED_CELL, "others": f"{HOST}:{second}"}
        own = {"cells": {PAIRED_CELL: {"database": database}}}
        return state.model_copy(update={"ports": chosen, "settings": merged(state.settings, own)})

    def _starts(self) -> Any:
        return [*super()._starts(), (f"pair-{PAIRED_CELL}", True, partial(self._start_database_pair, PAIRED_CELL))]

    async def _proxied(self) -> None:
        """Start the proxies, once."""
        chosen = self.state.ports
        upstream = {STANDBY_WAY: chosen[PAIR[0]], STORE_WAY: chosen[temporal_store.NAME]}
        upstream |= {broker_way(broker): chosen[f"{broker}-inside"] for broker in BROKERS}
        async with self._starting:
            if self.proxies is None:
                ways = [_way(name, chosen[name], port) for name, port in upstream.items()]
                self.proxies = Proxies(chosen["toxiproxy"], ways, self._log("toxiproxy"))
                await self.proxies.start()

    async def _start_temporal_store(self) -> Store:
        await self._proxied()
        store = await super()._start_temporal_store()
        return replace(store, addresses=(Address(host=HOST, port=self.state.ports[STORE_WAY]),))

    async def _start_kafka(self) -> None:
        await self._proxied()
        chosen = self.state.ports
        brokers = await kafka.processes(self.folder.joinpath, self._log, chosen, brokers=len(BROKERS))
        for broker in brokers:
            broker.command = [*broker.command, *_listening(broker.name, chosen)]
            again = partial(kafka.ready, broker, chosen[broker.name])
            await self._run(broker.name, broker, again, wait=False)
        await asyncio.gather(*(kafka.ready(broker, chosen[broker.name], brokers=len(BROKERS)) for broker in brokers))


def _way(name: str, listen: int, upstream: int) -> Way:
    process, server = name.split("~")
    return Way(process, server, listen, upstream)


def _listening(broker: str, chosen: Mapping[str, int]) -> list[str]:
    """Return a broker's options: clients reach it straight, the other brokers through its proxy."""
    clients, inside = f"PLAINTEXT://{HOST}:{chosen[broker]}", f"INSIDE://{HOST}:{chosen[f'{broker}-inside']}"
    options = {
        "listeners": f"{clients},{inside},CONTROLLER://{HOST}:{chosen[f'{broker}-controller']}",
        "advertised.listeners": f"{clients},INSIDE://{HOST}:{chosen[broker_way(broker)]}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "INSIDE",
    }
    return [part for option, value in options.items() for part in ("--override", f"{option}={value}")]


@asynccontextmanager
async def open_servers_apart(folder: Path, notes: Path, *, voters: int, seed: int) -> AsyncIterator[Stage]:
    """Start everything in `folder`, notebooks in `notes`, and leave nothing behind."""
    async with AsyncExitStack() as lifetime:
        servers = ServersApart(folder)
        house = await lifetime.enter_async_context(open_house(folder, servers=servers, traced=False))
        stage = await Stage.of(house, notes, voters=voters, seed=seed)
        stage.proxies = servers.proxies
        yield stage
