"""`comitia up`: every server and every service on one machine, until Ctrl-C."""

import asyncio
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from comitia.stack.applications import APPLICATIONS, CONSOLES
from comitia.stack.control import Say, controlled
from comitia.stack.keeper import Keeper
from comitia.stack.ports import HOST, PRODUCTION_PORTS, SERVER_PORTS
from comitia.stack.rolling import roll
from comitia.stack.sandboxes import SANDBOX_PORTS, Sandboxes
from comitia.stack.servers import Servers
from comitia.stack.source import keep_source
from comitia.stack.state import StackState
from comitia.stack.supervisor import Supervisor
from comitia.stack.topology import Topology

FIXED_PORTS: Mapping[str, int] = {
    **SERVER_PORTS,
    **PRODUCTION_PORTS,
    **SANDBOX_PORTS,
    **{a.name: a.port for a in APPLICATIONS},
}
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SERVER_LABELS = {
    "postgres": "PostgreSQL",
    "redis": "Redis",
    "kafka": "Kafka",
    "temporal": "Temporal",
    "temporal-store": "Temporal's PostgreSQL",
}


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs within `running_stack`: the servers, and the services unless they were left out."""

    servers: Servers
    supervisor: Supervisor | None
    sandboxes: Sandboxes | None = None

    @property
    def state(self) -> StackState:
        """Addresses and secrets."""
        return self.servers.state


@dataclass(frozen=True, slots=True)
class Restarting:
    """Replaces services of a running stack when it is asked to, and says so where it runs."""

    servers: Servers
    supervisor: Supervisor
    sandboxes: Sandboxes
    say: Say

    async def __call__(self, names: Sequence[str], say: Say) -> None:
        """Replace these processes, or all of them. Raises as `roll`."""

        def say_twice(text: str) -> None:
            self.say(text)
            say(text)

        try:
            source = keep_source(self.servers.state.releases_folder)
            await roll(self.supervisor, names, source=source, say=say_twice)
        finally:
            self.servers.record({**self.supervisor.pids, **self.sandboxes.pids})


async def enter_stack(
    lifetime: AsyncExitStack,
    folder: Path,
    console: Console,
    *,
    wanted_ports: Mapping[str, int],
    services: bool,
    topology: Topology | None = None,
) -> Stack:
    """Start everything within `lifetime` and keep it running; whatever dies is started again and said so.

    Raises:
        FolderInUseError: a stack runs in `folder` already.
        OtherTopologyError: its data was made by other servers.
        StartError: something did not come up; what had started is stopped again.
    """

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)  # it may quote a log, whose brackets are its own

    allow_many_files()
    servers = Servers(folder, wanted_ports=wanted_ports, topology=topology, ui=True, say=say)
    await lifetime.enter_async_context(servers)
    keeper = Keeper(say)
    lifetime.push_async_callback(keeper.close)
    supervisor = sandboxes = None
    if services:
        source = keep_source(servers.state.releases_folder)
        sandboxes = Sandboxes(servers.state, wanted_ports=wanted_ports, say=say)
        supervisor = Supervisor(
            servers.state,
            wanted_ports=wanted_ports,
            more=sandboxes.variables,
            reserved=sandboxes.ports,
            source=source,
            say=say,
        )
        sandboxes.webhooks_url = f"{supervisor.url('webhooks')}/v1/webhooks"
        await lifetime.enter_async_context(sandboxes)
        keeper.keep(sandboxes.process, sandboxes.process.start)
        await lifetime.enter_async_context(supervisor)
        supervisor.keep_running()
        addresses = {**supervisor.urls, sandboxes.process.name: sandboxes.url}
        servers.record({**supervisor.pids, **sandboxes.pids}, addresses)
        await lifetime.enter_async_context(controlled(servers.folder, Restarting(servers, supervisor, sandboxes, say)))
    for name, process in servers.processes.items():
        keeper.keep(process, lambda name=name: servers.start(name))  # type: ignore[misc]
    return Stack(servers, supervisor, sandboxes)


async def up(
    folder: Path, console: Console, *, wanted_ports: Mapping[str, int], services: bool, topology: Topology
) -> None:
    """Run a stack, show its addresses, and stop it in order when told to. Raises as `enter_stack`."""
    ended = end_on_signals()
    async with AsyncExitStack() as lifetime:
        lifetime.callback(console.print, "stopped")
        starting = asyncio.create_task(
            enter_stack(lifetime, folder, console, wanted_ports=wanted_ports, services=services, topology=topology)
        )
        waiting = asyncio.create_task(ended.wait())
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        stack = starting.result()
        console.print(address_table(stack))
        if stack.supervisor is not None:
            places = ", ".join(f"{stack.supervisor.url(service)}{path}" for _, service, path in CONSOLES)
            console.print(f"Staff open {places}; comitia staff puts them on the roll.", soft_wrap=True)
        console.print(f"Logs are in {folder / 'logs'}. Ctrl-C stops everything.")
        await waiting
        console.print("stopping")


def end_on_signals() -> asyncio.Event:
    """Return what is set by the first Ctrl-C or SIGTERM; the second ends us, and the kernel what we started."""
    ended = asyncio.Event()

    def end() -> None:
        if ended.is_set():
            os._exit(130)
        ended.set()

    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, end)
    return ended


def allow_many_files() -> None:
    """Raise our limit of open files, which children inherit, to what we may have: each stream is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def address_table(stack: Stack) -> Table:
    """Return the addresses of what runs, for a person."""
    table = Table("what", *(Column(name, overflow="fold") for name in ("address", "more")))  # to be copied whole
    if stack.supervisor is not None:
        for application in stack.supervisor.applications:
            url = stack.supervisor.url(application.name)
            table.add_row(application.name, url, f"{url}/docs" if application.package == "api" else f"{url}/metrics")
    if stack.sandboxes is not None:
        table.add_row("sandboxes of vendors", stack.sandboxes.url, f"{stack.sandboxes.url}/mail/messages")
    chosen = stack.state.ports
    for name in stack.servers.processes:
        table.add_row(_SERVER_LABELS.get(name, name), f"{HOST}:{chosen[name]}", "")
    for name, watch in stack.servers.pairs.items():
        pair = watch.pair
        table.add_row(f"PostgreSQL {name}", f"{HOST}:{pair.primary.port}", f"standby {HOST}:{pair.standby.port}")
    if (
        "temporal" in stack.servers.processes and not stack.state.topology.temporal_server
    ):  # whose UI is a program apart
        table.add_row("Temporal's UI", f"http://{HOST}:{chosen['temporal-ui']}", "")
    return table
