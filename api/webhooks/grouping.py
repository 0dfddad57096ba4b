"""Stores in one transaction what came while the last one was under way, so that a rush costs few commits."""

from collections.abc import Awaitable, Callable, Sequence

from api.grouping import Grouped
from domain.errors import DomainError, ErrorCode
from domain.webhook_inbox import Delivery

_WAITING_MAX = 5_000  # some seconds of a rush; whoever comes then is told that it was not kept, and sends it again


class GroupedStore:
    """The deliveries of one cell."""

    def __init__(self, store: Callable[[Sequence[Delivery]], Awaitable[tuple[bool, ...]]]) -> None:
        """`store` is that of a `WebhookInbox`."""
        self._grouped = Grouped(store)

    @property
    def waiting(self) -> int:
        """Return how many wait for their transaction to begin."""
        return len(self._grouped)

    async def store(self, delivery: Delivery) -> bool:
        """Return once a delivery is durable, whoever stored it; False where it came before.

        Raises:
            DomainError: what `WebhookInbox.store` raises; `directory_unavailable` where too many wait.
        """
        if len(self._grouped) >= _WAITING_MAX:
            raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE, "too many webhooks wait")
        return await self._grouped.ask(delivery)

    async def close(self) -> None:
        """Return when nothing waits any more."""
        await self._grouped.close()
