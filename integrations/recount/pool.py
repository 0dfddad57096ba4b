"""Processes that open ballots, one per core: most of a recount is arithmetic that one core cannot do in time."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Self, TypeVar

from domain.errors import DomainError, ErrorCode

_AHEAD = 2  # pages per process that wait, so that none is ever idle

Row = TypeVar("Row")
Result = TypeVar("Result")


class CountingPool:
    """Runs a function over pages on every core, results in the order of the pages.

    Processes are spawned, not forked: ours has threads and connections that a copy must not have. Closed at the end
    of each use, so that no key outlives it.
    """

    def __init__(self, processes: int = 0) -> None:
        """`processes` 0 is one per core."""
        self._processes = processes or len(os.sched_getaffinity(0))
        self._pool = ProcessPoolExecutor(self._processes, mp_context=get_context("spawn"))

    def __enter__(self) -> Self:
        """Use it; the processes start with the first page."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes, and whatever they know."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def over(
        self, pages: AsyncIterator[Sequence[Row]], work: Callable[..., Result], subject: Any
    ) -> AsyncIterator[tuple[Sequence[Row], Result]]:
        """Return each page with `work(subject, page)`.

        Raises:
            DomainError: `key_unavailable` where a process died; what `pages` raises.
        """
        running: deque[tuple[Sequence[Row], Future[Result]]] = deque()
        try:
            async for page in pages:
                running.append((page, self._pool.submit(work, subject, page)))
                if len(running) > self._processes * _AHEAD:
                    rows, future = running.popleft()
                    yield rows, await asyncio.wrap_future(future)
            while running:
                rows, future = running.popleft()
                yield rows, await asyncio.wrap_future(future)
        except BrokenProcessPool as error:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, "a process that opens ballots has died") from error
