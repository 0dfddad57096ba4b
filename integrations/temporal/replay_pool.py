"""Replays many executions on every core, in processes that know no address and no key."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Final, Protocol, Self

import uvloop
from temporalio.api.history.v1 import History
from temporalio.client import WorkflowHistory
from temporalio.runtime import Runtime, TelemetryConfig

from domain.errors import DomainError, ErrorCode
from domain.replay import HISTORY_GONE, ReplayVerdict, Verdict
from integrations.temporal.histories import Execution
from integrations.temporal.replaying import Replays

PAGE: Final = 100  # executions: starting a replayer costs about as much as twenty of them
_AHEAD: Final = 2  # pages per process that wait, so that none is ever idle
_READ_AT_ONCE: Final = 16

Readable = tuple[str, bytes]  # a workflow id, and a history whose payloads are open


class ReadableHistories(Protocol):
    """Histories whose payloads are opened: the server's, or those of an archive."""

    async def read(self, workflow_id: str, run_id: str = "") -> WorkflowHistory | None:
        """Return the history of a run, of the newest one without `run_id`; None where there is none.

        Raises DomainError: what can be said later by a retryable code, and any other where it never can.
        """
        ...


class ReplayPool:
    """One process per core; they start with the first page and end with each use.

    Spawned, not forked: a copy of ours would have its keys and its connections. What they are handed is histories.
    """

    def __init__(self, workflows: Sequence[type], *, processes: int = 0) -> None:
        """`processes` 0 is one per core. Workflows are found by their names there, so they stand in modules."""
        self._workflows = tuple(workflows)
        self.processes = processes or len(os.sched_getaffinity(0))
        self._pool = ProcessPoolExecutor(self.processes, mp_context=get_context("spawn"), initializer=log_nothing)

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def submit(self, page: Sequence[Readable]) -> Future[list[ReplayVerdict]]:
        """Begin to judge some histories; of none, no process is started."""
        if not page:
            done: Future[list[ReplayVerdict]] = Future()
            done.set_result([])
            return done
        return self._pool.submit(judge_page, self._workflows, tuple(page))

    async def over(
        self, histories: ReadableHistories, executions: AsyncIterator[Execution]
    ) -> AsyncGenerator[ReplayVerdict]:
        """Return a verdict on each of these executions; reading, opening and replaying go on at once.

        Raises:
            DomainError: `workflows_unavailable`; also where a process died.
        """
        running: deque[tuple[list[ReplayVerdict], Future[list[ReplayVerdict]]]] = deque()
        try:
            async for page in _pages(executions):
                cannot, readable = await _read(histories, page)
                running.append((cannot, self.submit(readable)))
                if len(running) > self.processes * _AHEAD:
                    for verdict in await _ended(*running.popleft()):
                        yield verdict
            while running:
                for verdict in await _ended(*running.popleft()):
                    yield verdict
        except BrokenProcessPool as error:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "a process that replays has died") from error


def log_nothing() -> None:
    """Have this process log nothing: the SDK tells errors of workflows with their text, which may quote a history."""
    logging.disable()
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=None)))


def judge_page(workflows: tuple[type, ...], page: tuple[Readable, ...]) -> list[ReplayVerdict]:
    """Judge histories in this process, which runs no event loop."""
    histories = [WorkflowHistory(workflow_id, History.FromString(events).events) for workflow_id, events in page]
    return uvloop.run(Replays(workflows).judge(histories))


async def _ended(cannot: list[ReplayVerdict], judged: Future[list[ReplayVerdict]]) -> list[ReplayVerdict]:
    return [*cannot, *await asyncio.wrap_future(judged)]


async def _pages(executions: AsyncIterator[Execution]) -> AsyncIterator[list[Execution]]:
    page: list[Execution] = []
    async for execution in executions:
        page.append(execution)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


async def _read(histories: ReadableHistories, page: Sequence[Execution]) -> tuple[list[ReplayVerdict], list[Readable]]:
    """Return verdicts on what cannot be read, and the rest."""
    at_once = asyncio.Semaphore(_READ_AT_ONCE)

    async def one(execution: Execution) -> ReplayVerdict | Readable:
        async with at_once:
            return await read_one(histories, execution)

    found = await asyncio.gather(*(one(execution) for execution in page))
    cannot = [each for each in found if isinstance(each, ReplayVerdict)]
    return cannot, [each for each in found if not isinstance(each, ReplayVerdict)]


async def read_one(histories: ReadableHistories, execution: Execution) -> ReplayVerdict | Readable:
    """Return an execution's history, or why there is none to be judged. Raises DomainError `workflows_unavailable`."""
    try:
        history = await histories.read(execution.workflow_id, execution.run_id)
    except DomainError as error:
        if error.code is ErrorCode.WORKFLOWS_UNAVAILABLE:
            raise
        return _cannot(execution, error.code.value)
    if history is None or not history.events:
        return _cannot(execution, HISTORY_GONE)
    return execution.workflow_id, History(events=history.events).SerializeToString()


def _cannot(execution: Execution, why: str) -> ReplayVerdict:
    return ReplayVerdict(
        execution.workflow_id, execution.run_id, execution.workflow_type, verdict=Verdict.CANNOT, why=why
    )
