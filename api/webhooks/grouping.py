"""Stores in one transaction what came while the last one was under way, so that a rush costs few commits."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from domain.errors import DomainError, ErrorCode
from domain.webhook_inbox import Delivery

_GROUP_MAX = 500
_WAITING_MAX = 5_000  # some seconds of a rush; whoever comes then is told that it was not kept, and sends it again


class GroupedStore:
    """The deliveries of one cell. One that comes alone is stored at once: nobody waits for company."""

    def __init__(self, store: Callable[[Sequence[Delivery]], Awaitable[tuple[bool, ...]]]) -> None:
        """`store` is that of a `WebhookInbox`."""
        self._store = store
        self._waiting: deque[tuple[Delivery, asyncio.Future[bool]]] = deque()
        self._storing: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Return how many wait for their transaction to begin."""
        return len(self._waiting)

    async def store(self, delivery: Delivery) -> bool:
        """Return once a delivery is durable, whoever stored it; False where it came before.

        Raises:
            DomainError: what `WebhookInbox.store` raises; `directory_unavailable` where too many wait.
        """
        if len(self._waiting) >= _WAITING_MAX:
            raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE, "too many webhooks wait")
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, answer))
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_all())
        return await answer

    async def close(self) -> None:
        """Return when nothing waits any more."""
        if self._storing is not None:
            await self._storing

    async def _store_all(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(_GROUP_MAX, len(self._waiting)))]
                await self._store_group(group)
        finally:
            self._storing = None

    async def _store_group(self, group: list[tuple[Delivery, asyncio.Future[bool]]]) -> None:
        wanted = [(delivery, answer) for delivery, answer in group if not answer.done()]  # nobody waits for the others
        if not wanted:
            return
        try:
            told = await self._store([delivery for delivery, _ in wanted])
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it, one by one
            for _, answer in wanted:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), is_new in zip(wanted, told, strict=True):
            if not answer.done():
                answer.set_result(is_new)
