"""Asks in one call for what came while the last one was under way, so that a rush costs few calls."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

_GROUP_MAX = 500

T = TypeVar("T")
A = TypeVar("A")


class Grouped(Generic[T, A]):
    """Whoever comes alone is asked for at once: nobody waits for company."""

    def __init__(self, ask: Callable[[Sequence[T]], Awaitable[Sequence[A]]]) -> None:
        """`ask` gives an answer to each of a group, in order."""
        self._ask = ask
        self._waiting: deque[tuple[T, asyncio.Future[A]]] = deque()
        self._asking: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Return how many wait for a call that has not begun."""
        return len(self._waiting)

    async def ask(self, one: T) -> A:
        """Return the answer to one, whatever it was asked together with, or raise what that call raised."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await answer

    async def close(self) -> None:
        """Return when nothing waits any more."""
        if self._asking is not None:
            await self._asking

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(_GROUP_MAX, len(self._waiting)))]
                await self._ask_group(group)
        finally:
            self._asking = None

    async def _ask_group(self, group: list[tuple[T, asyncio.Future[A]]]) -> None:
        wanted = [(one, answer) for one, answer in group if not answer.done()]  # nobody waits for the others
        if not wanted:
            return
        try:
            told = await self._ask([one for one, _ in wanted])
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it, one by one
            for _, answer in wanted:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), said in zip(wanted, told, strict=True):
            if not answer.done():
                answer.set_result(said)
