"""Runs the application processes, waits until they can do their job, and brings back whatever dies."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from comitia.stack import ports
from comitia.stack.applications import (
    APPLICATIONS,
    CONSOLES,
    VOTING_WORKER,
    Application,
    application_environment,
)
from comitia.stack.keeper import Keeper
from comitia.stack.keys import make_signing_keys
from comitia.stack.probes import http_ok
from comitia.stack.process import ManagedProcess
from comitia.stack.source import Source, present_source
from comitia.stack.state import StackState
from comitia.stack.template import NAME as TEMPLATE_NAME
from comitia.stack.template import Template
from integrations.listening import Listen
from integrations.settings import Environment, Settings

READY_WITHIN_S = 90.0
_OWN = ("COMITIA_CELLS__", "COMITIA_CATALOGUE__", "COMITIA_PLATFORM_TEMPORAL__", "COMITIA_DATABASE_PASSWORDS__")
_GRACE_S = 45.0  # a process finishes what it accepted; what `api/http/shared.py` and its gateways and workers take


class Supervisor:
    """The application processes of a stack whose servers are up.

    Within `async with`, `processes` has them by name (`api-votes`, `workers-voting`, ...) and all are ready.
    `more` are further variables for every process, `reserved` ports that others will listen on; `source` is the code
    that they run, ours where it is not given.
    """

    def __init__(
        self,
        state: StackState,
        *,
        applications: Sequence[Application] = APPLICATIONS,
        environment: Environment = Environment.DEVELOPMENT,
        wanted_ports: Mapping[str, int] | None = None,
        more: Mapping[str, str] | None = None,
        reserved: Iterable[int] = (),
        source: Source | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.applications = applications
        self.processes: dict[str, ManagedProcess] = {}
        self._ports = ports.choose(
            [a.name for a in applications], dict(wanted_ports or {}), say, taken=(*state.ports.values(), *reserved)
        )
        self._keeper = Keeper(say)
        self._keeping = False
        self._replaced: set[ManagedProcess] = set()  # still running beside their successors
        self._state, self._environment, self._more = state, environment, dict(more or {})
        self._source = source or present_source()
        modules = dict.fromkeys(module for application in applications for module in application.modules)
        self._template = Template(list(modules), _inherited(), self._log(TEMPLATE_NAME))
        for application in applications:
            self.processes[application.name] = self._process(
                application, self._source, {"COMITIA_LISTEN_MODE": Listen.FIRST}
            )

    def url(self, name: str) -> str:
        """Return the base address of a process, by its whole name or an API's service."""
        return f"http://{ports.HOST}:{self._ports.get(name) or self._ports[f'api-{name}']}"

    def build(self, name: str) -> str:
        """Return the build id of a process."""
        environment = self.processes[name].environment
        assert environment is not None
        return environment["COMITIA_BUILD"]

    @property
    def urls(self) -> dict[str, str]:
        """Base addresses by name."""
        return {name: self.url(name) for name in self.processes}

    @property
    def pids(self) -> dict[str, int]:
        """Ids of what runs now, by name."""
        return {name: process.pid for name, process in self.processes.items() if process.pid is not None}

    async def __aenter__(self) -> Self:
        """Start the voting worker, then all the others at once; return when every one is ready.

        Raises:
            StartError: one of them ended, or was not ready in time; the others are stopped again.
        """
        names = list(self.processes)
        first = [VOTING_WORKER.name] if VOTING_WORKER.name in names else []
        try:
            await make_signing_keys(self._state, self._environment)
            for wave in (first, [name for name in names if name not in first]):
                await asyncio.gather(*(self.start(name) for name in wave))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop in order: who takes requests first, then who works them off.

        Workers that stay for what their build began are not waited for: it waits too, and is not lost.
        """
        await self._keeper.close()
        for process in self._replaced:
            process.grace_s = _GRACE_S
        for package in ("api", "workers"):
            names = {a.name for a in self.applications if a.package == package}
            chosen = [process for process in (*self.processes.values(), *self._replaced) if process.name in names]
            await asyncio.gather(*(process.stop() for process in chosen))
        await self._template.close()

    async def start(self, name: str) -> None:
        """Start one process, also again after its end, and wait until it is ready. Raises StartError."""
        await self.processes[name].start()
        await self.ready(name)

    async def ready(self, name: str, *, within_s: float = READY_WITHIN_S) -> None:
        """Wait until one process says that it can do its job. Raises StartError."""
        await self._ready(self.processes[name], within_s)

    async def _ready(self, process: ManagedProcess, within_s: float = READY_WITHIN_S) -> None:
        environment = process.environment or {}
        # where two of a name run, the port of the service may be answered by either
        port = int(environment.get("COMITIA_HEALTH_PORT") or self._ports[process.name])
        await process.until(lambda: http_ok(ports.HOST, port, "/readyz"), within_s=within_s)

    async def succeed(self, name: str, source: Source) -> ManagedProcess:
        """Start a successor of a running process beside it; return the predecessor once the successor is ready.

        Both serve the same port until `retire` is called with the predecessor. One that ends meanwhile comes back
        without taking over again what its build had.

        Raises:
            StartError: the successor did not come up and is gone; the predecessor goes on as before.
        """
        application = next(a for a in self.applications if a.name == name)
        predecessor, before = self.processes[name], self.processes[name].environment
        health_port = ports.free_port(self._ports.values())
        beside = {"COMITIA_LISTEN_MODE": Listen.BESIDE, "COMITIA_HEALTH_PORT": str(health_port)}
        successor = self._process(application, source, beside)
        predecessor.environment = {
            **(before or {}),
            "COMITIA_LISTEN_MODE": Listen.BESIDE,
            "COMITIA_WORKER_TAKES_OVER": str(source.build == self.build(name)),
        }
        try:
            await successor.start()
            await self._ready(successor)
        except BaseException:
            await successor.kill()
            predecessor.environment = before
            if application.package == "workers":  # which may have lost its place to the one that is gone
                await predecessor.stop()
                await self.start(name)
            raise
        self._replaced.add(predecessor)
        self.processes[name] = successor
        if self._keeping:
            self._keeper.keep(successor, successor.start)
        return predecessor

    async def retire(self, predecessor: ManagedProcess) -> int:
        """Stop a process that has a successor, in order; return its exit status, 0 where it came to its own end."""
        if predecessor.name.startswith("workers-"):  # which stays for what its build began, as long as it is set to
            predecessor.grace_s = _GRACE_S + _drain_s(predecessor.environment or {})
        await predecessor.stop()
        self._replaced.discard(predecessor)
        return await predecessor.wait()

    def keep_running(self) -> None:
        """Bring back every process that ends without being told to, until the end."""
        self._keeping = True
        for process in self.processes.values():
            self._keeper.keep(process, process.start)

    def _process(self, application: Application, source: Source, variables: Mapping[str, str]) -> ManagedProcess:
        own = application_environment(
            application, self._state, self._ports[application.name], environment=self._environment, build=source.build
        )
        links = {name: self.url(service) + path for name, service, path in CONSOLES if f"api-{service}" in self._ports}
        own["COMITIA_CONSOLE_LINKS"] = json.dumps(links)
        return ManagedProcess(
            application.name,
            application.command,
            self._log(application.name),
            environment={**_inherited(), **own, **variables, **self._more},
            folder=source.folder,
            stop_signal=signal.SIGTERM,
            grace_s=_GRACE_S,
            template=self._template if self._is_templated(application, source) else None,
        )

    def _is_templated(self, application: Application, source: Source) -> bool:
        """Tell whether the template has what a process runs: the code of the first start, and no stand-in for it.

        Coverage is of interpreters that were started afresh.
        """
        is_measured = any(name.startswith("COVERAGE_") for name in os.environ)
        own = (application.package, application.service)
        return source == self._source and application.command[2:] == own and not is_measured

    def _log(self, name: str) -> Path:
        return Path(self._state.folder) / "logs" / f"{name}.log"


def _drain_s(environment: Mapping[str, str]) -> float:
    """Return how long a worker with these variables stays for what its build began."""
    usual: float = Settings.model_fields["worker_drain_s"].default
    return float(environment.get("COMITIA_WORKER_DRAIN_S", usual))


def _inherited() -> dict[str, str]:
    """Return our environment without its addresses and passwords: a process gets what is its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
