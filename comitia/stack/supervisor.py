"""Runs the application processes, waits until they can do their job, and brings back whatever dies."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from comitia.stack import ports
from comitia.stack.applications import (
    APPLICATIONS,
    VOTING_WORKER,
    Application,
    Source,
    application_environment,
    present_source,
)
from comitia.stack.keys import make_signing_keys
from comitia.stack.probes import http_ok
from comitia.stack.process import ManagedProcess, StartError
from comitia.stack.state import StackState
from integrations.settings import Environment

READY_WITHIN_S = 90.0
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.5, 30.0
_STEADY_S = 60.0  # after this long a death counts as the first again
_OWN = ("COMITIA_CELLS__", "COMITIA_CATALOGUE__", "COMITIA_PLATFORM_TEMPORAL__", "COMITIA_DATABASE_PASSWORDS__")
_GRACE_S = 15.0  # a process finishes what it accepted


class Supervisor:
    """The application processes of a stack whose servers are up.

    Within `async with`, `processes` has them by name (`api-votes`, `workers-voting`, ...) and all are ready.
    `more` are further variables for every process; `source` is the code that they run, ours where it is not given.
    """

    def __init__(
        self,
        state: StackState,
        *,
        applications: Sequence[Application] = APPLICATIONS,
        environment: Environment = Environment.DEVELOPMENT,
        wanted_ports: Mapping[str, int] | None = None,
        more: Mapping[str, str] | None = None,
        source: Source | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.applications = applications
        self.processes: dict[str, ManagedProcess] = {}
        self._ports = ports.choose([a.name for a in applications], dict(wanted_ports or {}), say)
        self._keeper = Keeper(say)
        self._state, self._environment = state, environment
        source = source or present_source()
        for application in applications:
            own = application_environment(
                application, state, self._ports[application.name], environment=environment, build=source.build
            )
            self.processes[application.name] = ManagedProcess(
                application.name,
                application.command,
                Path(state.folder) / "logs" / f"{application.name}.log",
                environment={**_inherited(), **own, **(more or {})},
                folder=source.folder,
                stop_signal=signal.SIGTERM,
                grace_s=_GRACE_S,
            )

    def url(self, name: str) -> str:
        """Return the base address of a process, by its whole name or an API's service."""
        return f"http://{ports.HOST}:{self._ports.get(name) or self._ports[f'api-{name}']}"

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
        """Stop in order: who takes requests first, then who works them off."""
        await self._keeper.close()
        for package in ("api", "workers"):
            chosen = [self.processes[a.name] for a in self.applications if a.package == package]
            await asyncio.gather(*(process.stop() for process in chosen))

    async def start(self, name: str) -> None:
        """Start one process, also again after its end, and wait until it is ready. Raises StartError."""
        await self.processes[name].start()
        await self.ready(name)

    async def ready(self, name: str, *, within_s: float = READY_WITHIN_S) -> None:
        """Wait until one process says that it can do its job. Raises StartError."""
        port = self._ports[name]
        await self.processes[name].until(lambda: http_ok(ports.HOST, port, "/readyz"), within_s=within_s)

    def keep_running(self) -> None:
        """Bring back every process that ends without being told to, until the end."""
        for process in self.processes.values():
            self._keeper.keep(process, process.start)


class Keeper:
    """Starts processes again when they end by themselves, at growing intervals, and says so."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, process: ManagedProcess, start: Callable[[], Awaitable[None]]) -> None:
        """Watch a running process from now on."""
        task = asyncio.create_task(self._keep(process, start), name=f"keep-{process.name}")
        self._tasks.add(task)

    async def close(self) -> None:
        """Watch no longer; what runs goes on. Safe to repeat."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _keep(self, process: ManagedProcess, start: Callable[[], Awaitable[None]]) -> None:
        backoff = _BACKOFF_FIRST_S
        while True:
            began = time.monotonic()
            status = await process.wait()
            if process.stopping:
                return
            backoff = _BACKOFF_FIRST_S if time.monotonic() - began > _STEADY_S else backoff
            self._say(f"{process.name} ended ({_meaning(status)}); again in {backoff:.1f} s. Its log: {process.log}")
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _BACKOFF_MOST_S)
            try:
                await start()
            except (OSError, StartError) as error:
                self._say(f"{process.name} did not start: {error}")


def _meaning(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"


def _inherited() -> dict[str, str]:
    """Return our environment without its addresses and passwords: a process gets what is its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
