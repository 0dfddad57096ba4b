"""Processes that open ballots, one per core: most of a recount is arithmetic that one core cannot do in time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Self, TypeVar

from domain.errors import DomainError, ErrorCode
from integrations.spawned import SpawnedProcesses

SMALL = 500  # rows: some milliseconds, where a process takes a second to start
_AHEAD = 2  # pages per process that wait, so that none is ever idle

Row = TypeVar("Row")
Result = TypeVar("Result")


class CountingPool:
    """Runs a function over pages on every core, results in the order of the pages.

    Processes start with the first page that is worth it, and end with each use, so that no key outlives it.
    """

    def __init__(self, processes: int = 0, *, small: int = SMALL) -> None:
        """`processes` 0 is one per core; pages of up to `small` rows are worked off here."""
        self._pool = SpawnedProcesses(processes)
        self._small = small

    def __enter__(self) -> Self:
        """Use it."""
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
                running.append((page, self._submit(work, subject, page)))
                if len(running) > self._pool.processes * _AHEAD:
                    rows, future = running.popleft()
                    yield rows, await asyncio.wrap_future(future)
            while running:
                rows, future = running.popleft()
                yield rows, await asyncio.wrap_future(future)
        except BrokenProcessPool as error:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, "a process that opens ballots has died") from error

    def _submit(self, work: Callable[..., Result], subject: Any, page: Sequence[Any]) -> Future[Result]:
        if len(page) <= self._small:
            done: Future[Result] = Future()
            done.set_result(work(subject, page))
            return done
        return self._pool.submit(work, subject, page)
