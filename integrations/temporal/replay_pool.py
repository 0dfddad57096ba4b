"""Replays many executions on every core, in processes that know no address and no key."""

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, Self

import msgspec
from temporalio.api.history.v1 import History
from temporalio.client import WorkflowHistory

from domain.errors import DomainError, ErrorCode
from domain.replay import HISTORY_GONE, RELEASE_UNUSABLE, Execution, ReplayVerdict, Verdict
from integrations.temporal import replay_elsewhere
from integrations.temporal.closed_histories import is_end
from integrations.temporal.codec import PayloadChangedError
from integrations.temporal.replay_process import Readable, environment, name_of, read_frame, write_frame

PAGE: Final = 100  # executions: starting a replayer costs about as much as twenty of them
_PAGE_EVENTS: Final = 4_000  # or few more histories than that: of long ones every process has some
_AHEAD: Final = 2  # pages per process that wait, so that none is ever idle
_READ_AT_ONCE: Final = 16


class ReplayDiedError(Exception):
    """A process that replays has ended before its work."""


class ReadableHistories(Protocol):
    """Histories whose payloads are opened: the server's, or those of an archive."""

    async def read(self, workflow_id: str, run_id: str = "") -> WorkflowHistory | None:
        """Return the history of a run, of the newest one without `run_id`; None where there is none.

        Raises DomainError: what can be said later by a retryable code, and any other where it never can.
        """
        ...


class _Child:
    """A process that replays, and the pipes to it."""

    def __init__(self, release: Path | None) -> None:
        runs = ("-m", "integrations.temporal.replay_process") if release is None else (replay_elsewhere.__file__,)
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
            (sys.executable, "-P", *runs),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment("" if release is None else str(release)),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self.pid = self._process.pid
        self._is_ours = release is None
        self.is_usable = True

    def load(self, names: Sequence[str]) -> None:
        """Have it load workflows; a release that makes it end instead is not usable. Raises ReplayDiedError."""
        try:
            self.send(names)
            self._read()
        except ReplayDiedError:
            self.is_usable = self._is_ours or self._process.wait() <= 0
            if self.is_usable:  # it was ended from outside
                raise

    def send(self, message: object) -> None:
        """Send names or a page. Raises ReplayDiedError."""
        try:
            write_frame(self._to, msgspec.msgpack.encode(message))
        except OSError as error:
            raise ReplayDiedError from error

    def verdicts(self) -> list[ReplayVerdict]:
        """Wait for the verdicts on a page. Raises ReplayDiedError."""
        return msgspec.msgpack.decode(self._read(), type=list[ReplayVerdict])

    def _read(self) -> bytes:
        try:
            return read_frame(self._from)
        except (EOFError, OSError) as error:
            raise ReplayDiedError from error

    def kill(self) -> None:
        """End it, whatever it is at; whoever waits for it hears that."""
        self._process.kill()

    def close(self) -> None:
        """Forget a process that was ended."""
        self._process.wait()
        for pipe in (self._to, self._from):
            with suppress(OSError):  # what was still to be sent goes nowhere
                pipe.close()


class ReplayPool:
    """One process per core; they start with the first page and end with each use.

    Started anew, not forked: a copy of ours would have its keys, its connections and its environment. What they are
    handed is histories.
    """

    def __init__(self, workflows: Sequence[type], *, processes: int = 0, release: Path | None = None) -> None:
        """`processes` 0 is one per core. Workflows are found by their names there, so they stand in modules.

        With `release`, a folder with the code of another one, it replays with its workflows, all of them.

        Raises:
            LookupError: that is no such folder.
        """
        self._release = release
        self._names = [name_of(workflow) for workflow in workflows] if release is None else workflows_in(release)
        self.processes = processes or len(os.sched_getaffinity(0))
        self._threads = ThreadPoolExecutor(self.processes, "replay")  # each waits for a process of its own
        self._own = threading.local()
        self._children: list[_Child] = []
        self._is_open = True
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        with self._lock:
            self._is_open = False
            for child in self._children:
                child.kill()
        self._threads.shutdown(cancel_futures=True)
        for child in self._children:
            child.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that have started."""
        return tuple(child.pid for child in self._children)

    def submit(self, page: Sequence[Readable]) -> Future[list[ReplayVerdict]]:
        """Begin to judge some histories; of none, no process is started.

        The future raises ReplayDiedError where its process does not live to the end.
        """
        if not page:
            done: Future[list[ReplayVerdict]] = Future()
            done.set_result([])
            return done
        return self._threads.submit(self._judge, tuple(page))

    def _judge(self, page: tuple[Readable, ...]) -> list[ReplayVerdict]:
        child: _Child | None = getattr(self._own, "child", None)
        if child is None:
            with self._lock:
                if not self._is_open:
                    raise ReplayDiedError
                child = self._own.child = _Child(self._release)
                self._children.append(child)
            child.load(self._names)
        if not child.is_usable:
            return [unjudged(found, RELEASE_UNUSABLE) for found in page]
        child.send(page)
        return child.verdicts()

    async def over(
        self, histories: ReadableHistories, executions: AsyncIterator[Execution]
    ) -> AsyncGenerator[ReplayVerdict]:
        """Return a verdict on each of these executions; reading, opening and replaying go on at once.

        Raises:
            DomainError: as `read_one`; `workflows_unavailable` also where a process died.
        """
        running: deque[tuple[list[ReplayVerdict], Future[list[ReplayVerdict]]]] = deque()
        try:
            async for page in pages_of(executions):
                cannot, readable = await read_page(histories, page)
                running.append((cannot, self.submit(readable)))
                if len(running) > self.processes * _AHEAD:
                    for verdict in await _ended(*running.popleft()):
                        yield verdict
            while running:
                for verdict in await _ended(*running.popleft()):
                    yield verdict
        except ReplayDiedError as error:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "a process that replays has died") from error


async def _ended(cannot: list[ReplayVerdict], judged: Future[list[ReplayVerdict]]) -> list[ReplayVerdict]:
    return [*cannot, *await asyncio.wrap_future(judged)]


def workflows_in(release: Path) -> list[str]:
    """Return the names of the workflows of a release, as its registry has them.

    Raises:
        LookupError: it is no folder of a release.
    """
    try:
        registry = (release / "workflows" / "registry.py").read_text()
    except OSError as error:
        raise LookupError(f"{release}: not the code of a release") from error
    found = re.findall(r"^from (workflows\.\w+) import (\w+)$", registry, re.MULTILINE)
    if not found:
        raise LookupError(f"{release}: a release without workflows")
    return [f"{module}:{name}" for module, name in found]


async def pages_of(executions: AsyncIterator[Execution]) -> AsyncIterator[list[Execution]]:
    """Return executions by pages, of which a process takes one at a time."""
    page: list[Execution] = []
    events = 0
    async for execution in executions:
        page.append(execution)
        events += execution.events
        if len(page) == PAGE or events >= _PAGE_EVENTS:
            yield page
            page, events = [], 0
    if page:
        yield page


async def read_page(
    histories: ReadableHistories, page: Sequence[Execution]
) -> tuple[list[ReplayVerdict], list[Readable]]:
    """Return verdicts on what cannot be read, and the rest. Raises DomainError as `read_one`."""
    at_once = asyncio.Semaphore(_READ_AT_ONCE)

    async def one(execution: Execution) -> ReplayVerdict | Readable:
        async with at_once:
            return await read_one(histories, execution)

    found = await asyncio.gather(*(one(execution) for execution in page))
    cannot = [each for each in found if isinstance(each, ReplayVerdict)]
    return cannot, [each for each in found if not isinstance(each, ReplayVerdict)]


async def read_one(histories: ReadableHistories, execution: Execution) -> ReplayVerdict | Readable:
    """Return an execution's history, or why there never is one to be judged.

    Raises:
        DomainError: what can be said later, as `workflows_unavailable`, `key_unavailable`, `objects_unavailable`.
    """
    try:
        history = await histories.read(execution.workflow_id, execution.run_id)
    except DomainError as error:
        if error.spec.retryable and not isinstance(error, PayloadChangedError):
            raise
        return cannot(execution, error.code.value)
    if history is None or not history.events:
        return cannot(execution, HISTORY_GONE)
    return execution.workflow_id, History(events=history.events).SerializeToString()


def unjudged(found: Readable, why: str) -> ReplayVerdict:
    """Return why a history that could be read is not judged."""
    events = History.FromString(found[1]).events
    started = events[0].workflow_execution_started_event_attributes
    return ReplayVerdict(
        workflow_id=found[0],
        run_id=started.original_execution_run_id,
        workflow_type=started.workflow_type.name,
        verdict=Verdict.CANNOT,
        why=why,
        is_closed=is_end(events[-1]),
    )


def cannot(execution: Execution, why: str) -> ReplayVerdict:
    """Return the verdict on an execution of which nothing can be said."""
    return ReplayVerdict(
        execution.workflow_id, execution.run_id, execution.workflow_type, verdict=Verdict.CANNOT, why=why
    )
