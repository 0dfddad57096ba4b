"""One child process that cannot outlive us: it is told to stop in order, and killed with its group if it does not."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from integrations.death import die_with

_LOG_ROTATED_BYTES = 16 * 1024 * 1024
_LOG_TAIL_BYTES = 2000
_ASK_FIRST_AFTER_S, _ASK_LAST_AFTER_S = 0.03, 0.2


class StartError(RuntimeError):
    """A process ended, or was not ready in time; the message carries the end of its log."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that a process runs as, where that is not ours."""

    uid: int
    gid: int


class Running(Protocol):
    """What is asked of a process that was started, as asyncio has it."""

    @property
    def pid(self) -> int:
        """Its id."""

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal, or None while it runs."""

    async def wait(self) -> int:
        """Wait for its end; return the exit status."""

    def send_signal(self, signal: int) -> None:
        """Send a signal. Raises ProcessLookupError where it has ended."""


class Forking(Protocol):
    """What forks a process instead of running its command: `comitia/stack/template.py`."""

    async def fork(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, death_signal: signal.Signals
    ) -> Running:
        """Return a process that does what `python -m` with these arguments would. Raises StartError."""


@dataclass(slots=True, eq=False)
class ManagedProcess:
    """A command, run again with every `start`.

    It leads its own session, so that Ctrl-C reaches the supervisor alone. `stop_signal` asks it to end in order.
    `death_signal` is what the kernel sends it when the supervisor dies without a chance to say so. `inherited` are
    descriptors that it keeps. One that is `python -m` is forked by a `template` that has its modules, where there is
    one and no other `folder` to take them from.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] | None = None  # None: ours
    folder: Path | None = None
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    grace_s: float = 10.0
    inherited: Sequence[int] = ()
    template: Forking | None = None
    stopping: bool = False
    _process: Running | None = field(default=None, init=False)

    @property
    def pid(self) -> int | None:
        """The id of the running process, or None."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the command; output goes to the end of `log`. Raises StartError where a template is gone."""
        self.stopping = False
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_ROTATED_BYTES:
            self.log.replace(self.log.with_suffix(".1.log"))
        if self.template is not None and self.folder is None:
            own = os.environ if self.environment is None else self.environment
            self._process = await self.template.fork(self.command[2:], own, self.log, self.death_signal)
            return
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env=None if self.environment is None else dict(self.environment),
                cwd=self.folder,
                start_new_session=True,
                user=None if self.account is None else self.account.uid,
                group=None if self.account is None else self.account.gid,
                extra_groups=None if self.account is None else [],
                pass_fds=self.inherited,
                preexec_fn=die_with(os.getpid(), self.death_signal),
            )

    async def wait(self) -> int:
        """Wait for its end; return the exit status, negative for a signal."""
        assert self._process is not None, f"{self.name} was never started"
        return await self._process.wait()

    async def finish(self) -> int:
        """Start it, wait for its end and return the exit status; it is killed where we are told to stop."""
        await self.start()
        try:
            return await self.wait()
        finally:
            await self.kill()

    async def stop(self) -> None:
        """Ask it to end, wait `grace_s`, then kill its group. Safe to repeat."""
        self.stopping = True
        if self.pid is None:
            return
        self._send(self.stop_signal)
        try:
            async with asyncio.timeout(self.grace_s):
                await self.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Kill its group at once and wait until it is gone, as a power cut would: `stopping` stays as it was."""
        if self.pid is None:
            return
        with contextlib.suppress(ProcessLookupError):  # it has just ended, and nobody has waited for it yet
            os.killpg(self.pid, signal.SIGKILL)
        await self.wait()

    async def until(self, ready: Callable[[], Awaitable[bool]], *, within_s: float) -> None:
        """Ask `ready` until it says so, at first every 30 ms, then less and less often up to five times a second.

        Raises:
            StartError: the process ended, or the time is over.
        """
        assert self._process is not None, f"{self.name} was never started"
        try:
            async with asyncio.timeout(within_s):
                pause_s = _ASK_FIRST_AFTER_S
                while not await ready():
                    if self._process.returncode is not None:
                        raise StartError(f"{self.name} ended with status {self._process.returncode}\n{self.tail()}")
                    await asyncio.sleep(pause_s)
                    pause_s = min(1.2 * pause_s, _ASK_LAST_AFTER_S)
        except TimeoutError:
            raise StartError(f"{self.name} was not ready after {within_s:.0f} s\n{self.tail()}") from None

    def tail(self) -> str:
        """Return the end of the log, with the place of the rest."""
        if not self.log.exists():
            return f"(nothing in {self.log})"
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
            end = log.read().decode(errors="replace")
        return f"{end.strip()}\n(from {self.log})"

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        try:
            self._process.send_signal(number)
        except ProcessLookupError:  # it ended a moment ago
            return
