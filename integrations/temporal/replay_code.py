"""Replays with one code, or each execution with the code that its history says has carried it out."""

import asyncio
import os
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import replace
from typing import Final, Protocol

from temporalio.api.history.v1 import History

from domain.errors import DomainError, ErrorCode
from domain.replay import BUILD_UNKNOWN, RELEASE_MISSING, RELEASE_UNUSABLE, Execution, ReplayCode, ReplayVerdict
from integrations.temporal.events import build_of
from integrations.temporal.replay_pool import (
    ReadableHistories,
    ReplayDiedError,
    ReplayPool,
    pages_of,
    read_page,
    unjudged,
)
from integrations.temporal.replay_process import Readable
from integrations.temporal.replay_releases import Code

_BUILDS_MAX: Final = 4  # whose processes wait for more at once: each holds a release in memory

_Begun = Future[list[ReplayVerdict]]


class Builds(Protocol):
    """Where the code of builds is at hand."""

    def of_build(self, build: str) -> Code | None:
        """Return the code of a build, or None where it is not at hand. Raises LookupError where it is none."""
        ...


class Replayer(Protocol):
    """Gives verdicts, each of which names the build of its code where that is not ours; `build` is what all are of."""

    build: str

    def over(self, histories: ReadableHistories, executions: AsyncIterator[Execution]) -> AsyncGenerator[ReplayVerdict]:
        """Return a verdict on each of these executions. Raises DomainError, as `ReplayPool.over`."""
        ...

    def close(self) -> None:
        """End its processes."""
        ...


class OneCode:
    """Replays everything with the same code."""

    def __init__(self, code: Code, workflows: Sequence[type], processes: int) -> None:
        """`workflows` are ours. Raise LookupError where the code is none of a release."""
        self.build = code.build
        self._told = "" if code.folder is None else code.build
        self._pool = ReplayPool(workflows, processes=processes, release=code.folder)

    def close(self) -> None:
        """End its processes."""
        self._pool.__exit__()

    async def over(
        self, histories: ReadableHistories, executions: AsyncIterator[Execution]
    ) -> AsyncGenerator[ReplayVerdict]:
        """Return a verdict on each of these executions."""
        async with aclosing(self._pool.over(histories, executions)) as verdicts:
            async for verdict in verdicts:
                yield replace(verdict, code=self._told)


class RecordedCode:
    """Replays each execution with the newest code that its history names, where that is at hand."""

    build = ReplayCode.RECORDED.value

    def __init__(self, builds: Builds, workflows: Sequence[type], processes: int) -> None:
        """`workflows` are ours; there are so many `processes` for each build, 0 for one per core."""
        self._builds = builds
        self._workflows = workflows
        self._processes = processes
        self._ahead = 2 * (processes or len(os.sched_getaffinity(0)))  # so that no process is idle
        self._pools: dict[str, ReplayPool] = {}  # the one that was used last comes last

    @property
    def pools(self) -> Mapping[str, ReplayPool]:
        """What replays now, by build."""
        return self._pools

    def close(self) -> None:
        """End its processes."""
        for build in tuple(self._pools):
            self._pools.pop(build).__exit__()

    async def over(
        self, histories: ReadableHistories, executions: AsyncIterator[Execution]
    ) -> AsyncGenerator[ReplayVerdict]:
        """Return a verdict on each of these executions; `cannot` where its code is not known or not at hand."""
        running: deque[tuple[str, _Begun]] = deque()
        async for page in pages_of(executions):
            cannot, readable = await read_page(histories, page)
            for verdict in cannot:
                yield verdict
            for build, some in _by_build(readable).items():
                pool = await self._pool(build)
                if len(self._pools) > _BUILDS_MAX:
                    async for verdict in _judged(running):  # so that nothing is lost with the processes that end now
                        yield verdict
                    self._pools.pop(next(iter(self._pools))).__exit__()
                running.append((build, pool.submit(some) if isinstance(pool, ReplayPool) else _unjudged(some, pool)))
            async for verdict in _judged(running, self._ahead):
                yield verdict
        async for verdict in _judged(running):
            yield verdict

    async def _pool(self, build: str) -> ReplayPool | str:
        """Return what replays with the code of a build, or why nothing does."""
        if not build:
            return BUILD_UNKNOWN
        pool: ReplayPool | str | None = self._pools.pop(build, None)
        if pool is None:
            pool = await asyncio.to_thread(self._opened, build)
        if isinstance(pool, ReplayPool):
            self._pools[build] = pool
        return pool

    def _opened(self, build: str) -> ReplayPool | str:
        try:
            code = self._builds.of_build(build)
            if code is None:
                return RELEASE_MISSING
            return ReplayPool(self._workflows, processes=self._processes, release=code.folder)
        except LookupError:
            return RELEASE_UNUSABLE


def _by_build(page: Sequence[Readable]) -> Mapping[str, list[Readable]]:
    """Return histories by the newest build that each of them names, or by none."""
    found = defaultdict[str, list[Readable]](list)
    for readable in page:
        builds = filter(None, map(build_of, reversed(History.FromString(readable[1]).events)))
        found[next(builds, "")].append(readable)
    return found


def _unjudged(page: Sequence[Readable], why: str) -> _Begun:
    done = _Begun()
    done.set_result([unjudged(found, why) for found in page])
    return done


async def _judged(running: deque[tuple[str, _Begun]], left: int = 0) -> AsyncIterator[ReplayVerdict]:
    """Return the verdicts of what was begun first, until no more is `left`."""
    while len(running) > left:
        build, judged = running.popleft()
        try:
            verdicts = await asyncio.wrap_future(judged)
        except ReplayDiedError as error:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, f"a process that replays {build} has died") from error
        for verdict in verdicts:
            yield replace(verdict, code=build)
