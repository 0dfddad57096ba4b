"""Whether this process can do its job now."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[object]]
DEFAULT_TIMEOUT_S: Final = 1.0
KEEP_S: Final = 0.25  # a report is shared this long, so that asking often costs nothing


@dataclass(frozen=True, slots=True)
class ReadinessReport:
    """What was found: `ready`, and for each named check `ok`, `failing` or `late`."""

    ready: bool
    checks: dict[str, str]


class Readiness:
    """Named checks, run together; one that raises, returns False or takes too long makes the process not ready.

    Also not ready before `start` and after `stop`, so that a balancer sends nothing more to a stopping process.
    """

    def __init__(self, timeout_s: float = DEFAULT_TIMEOUT_S, keep_s: float = KEEP_S) -> None:
        self._timeout_s = timeout_s
        self._keep_s = keep_s
        self._checks: dict[str, Check] = {}
        self._running: dict[str, asyncio.Task[str]] = {}
        self._started = False
        self._stopping = False
        self._last: tuple[float, ReadinessReport] | None = None
        self._lock = asyncio.Lock()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def add(self, name: str, check: Check) -> None:
        """Add a check: an async function that raises or returns False when the process cannot work.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._checks:
            raise ValueError(f"two readiness checks named {name}")
        self._checks[name] = check

    def start(self) -> None:
        """Say that everything is wired and serving."""
        self._started = True

    def stop(self) -> None:
        """Say that the process is stopping; not taken back."""
        self._stopping = True

    async def examine(self) -> ReadinessReport:
        """Run every check, at most one round at a time."""
        if self._stopping or not self._started:
            return ReadinessReport(ready=False, checks={"process": "stopping" if self._stopping else "starting"})
        async with self._lock:
            now = time.monotonic()
            if self._last is not None and now - self._last[0] < self._keep_s:
                return self._last[1]
            found = await asyncio.gather(*(self._run(name) for name in self._checks))
            checks = dict(zip(self._checks, found, strict=True))
            report = ReadinessReport(ready=all(state == "ok" for state in found), checks=checks)
            if self._last is not None and self._last[1].ready != report.ready:
                log.warning("readiness_changed", ready=report.ready, checks=checks)
            self._last = (time.monotonic(), report)
            return report

    async def _run(self, name: str) -> str:
        """Wait for a check no longer than it may take, also where it does not let itself be cancelled.

        A driver that tells its server of the cancellation waits for that, too. Such a check is not begun again before
        it has ended.
        """
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(_state(self._checks[name]))
            task.add_done_callback(lambda _: self._running.pop(name))
        done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        if not done and not task.cancelling():
            task.cancel()
        return "late" if not done or task.cancelled() else task.result()


async def _state(check: Check) -> str:
    try:
        return "failing" if await check() is False else "ok"
    except TimeoutError:
        return "late"
    except Exception as error:  # noqa: BLE001  # whatever a check raises means the same: not ready
        log.debug("readiness_check_failed", error=type(error).__name__)
        return "failing"
