"""Replays with one code, or each execution with the code that its history says has carried it out."""

import asyncio
import os
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import Future
from contextlib import ExitStack, aclosing
from typing import Final, Protocol, Self

from temporalio.api.history.v1 import History

from comitia.releases import Code, Releases
from domain.errors import DomainError, ErrorCode
from domain.replay import BUILD_UNKNOWN, RELEASE_MISSING, ReplayVerdict, Verdict
from integrations.temporal.closed_histories import is_end
from integrations.temporal.events import build_of
from integrations.temporal.histories import Execution
from integrations.temporal.replay_pool import (
    ReadableHistories,
    ReplayDiedError,
    ReplayPool,
    pages_of,
    read_page,
)
from integrations.temporal.replay_process import Readable
from workflows.registry import WORKFLOWS

RECORDED: Final = "recorded"


class Replayer(Protocol):
    """Gives verdicts; `build` is what they are kept under, and each comes with the build of its code, if not ours."""

    build: str

    def over(
        self, histories: ReadableHistories, executions: AsyncIterator[Execution]
    ) -> AsyncGenerator[tuple[ReplayVerdict, str]]:
        """Return a verdict on each of these executions. Raises DomainError `workflows_unavailable`."""
        ...


class OneCode:
    """Replays everything with the same code."""

    def __init__(self, code: Code, processes: int) -> None:
        """Raise LookupError where the code is none of a release."""
        self.build = code.build
        self._told = "" if code.folder is None else code.build
        self._pool = _pool(code, processes)

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End its processes."""
        self._pool.__exit__()

    async def over(
        self, histories: ReadableHistories, executions: AsyncIterator[Execution]
    ) -> AsyncGenerator[tuple[ReplayVerdict, str]]:
        """Return a verdict on each of these executions."""
        async with aclosing(self._pool.over(histories, executions)) as verdicts:
            async for verdict in verdicts:
                yield verdict, self._told


class RecordedCode:
    """Replays each execution with the newest code that its history names, where that is at hand."""

    build = RECORDED

    def __init__(self, releases: Releases, processes: int) -> None:
        self._releases = releases
        self._processes = processes
        self._ahead = 2 * (processes or len(os.sched_getaffinity(0)))  # so that no process is idle
        self._pools: dict[str, ReplayPool | None] = {}
        self._lifetime = ExitStack()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End its processes."""
        self._lifetime.close()

    async def over(
        self, histories: ReadableHistories, executions: AsyncIterator[Execution]
    ) -> AsyncGenerator[tuple[ReplayVerdict, str]]:
        """Return a verdict on each of these executions; `cannot` where its code is not known or not at hand."""
        running: deque[tuple[str, Future[list[ReplayVerdict]]]] = deque()
        async for page in pages_of(executions):
            cannot, readable = await read_page(histories, page)
            for verdict in cannot:
                yield verdict, ""
            by_build = defaultdict[str, list[Readable]](list)
            for found in readable:
                by_build[_newest_build(found)].append(found)
            for build, some in by_build.items():
                running.append((build, self._begun(build, some)))
            while len(running) > self._ahead:
                for judged in await _ended(*running.popleft()):
                    yield judged
        while running:
            for judged in await _ended(*running.popleft()):
                yield judged

    def _begun(self, build: str, some: list[Readable]) -> Future[list[ReplayVerdict]]:
        pool = self.pool(build)
        if pool is not None:
            return pool.submit(some)
        cannot: Future[list[ReplayVerdict]] = Future()
        cannot.set_result([_cannot(found, RELEASE_MISSING if build else BUILD_UNKNOWN) for found in some])
        return cannot

    def pool(self, build: str) -> ReplayPool | None:
        """Return what replays with the code of a build; None where that is not known or not at hand."""
        if build not in self._pools:
            self._pools[build] = self._opened(build) if build else None
        return self._pools[build]

    def _opened(self, build: str) -> ReplayPool | None:
        code = self._releases.of_build(build)
        return None if code is None else self._lifetime.enter_context(_pool(code, self._processes))


async def _ended(build: str, judged: Future[list[ReplayVerdict]]) -> list[tuple[ReplayVerdict, str]]:
    try:
        return [(verdict, build) for verdict in await asyncio.wrap_future(judged)]
    except ReplayDiedError as error:
        raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, f"a process that replays {build} has died") from error


def replayer(name: str, releases: Releases, own_build: str, processes: int) -> OneCode | RecordedCode:
    """Return what replays with the code of this name, with our own where there is none. Raises LookupError."""
    if name == RECORDED:
        return RecordedCode(releases, processes)
    return OneCode(releases.named(name) if name else Code(own_build), processes)


def _pool(code: Code, processes: int) -> ReplayPool:
    return ReplayPool(WORKFLOWS, processes=processes, release=code.folder)


def _newest_build(found: Readable) -> str:
    builds = filter(None, map(build_of, reversed(History.FromString(found[1]).events)))
    return next(builds, "")


def _cannot(found: Readable, why: str) -> ReplayVerdict:
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
