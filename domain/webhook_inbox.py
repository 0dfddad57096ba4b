"""Webhooks wait here: stored before they are answered, handled afterwards, each delivery once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from domain.webhooks import WebhookEvent

BODY_MAX = 65_536  # bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery whose signature was good; `body` as it came, at most `BODY_MAX` bytes, or empty to keep none."""

    event: WebhookEvent
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class WaitingDelivery:
    """A delivery to handle; `attempts` counts this one."""

    delivery: Delivery
    received_at: datetime
    attempts: int


class WebhookInbox(Protocol):
    """The deliveries that came to one cell.

    All calls raise DomainError `directory_unavailable` or `key_unavailable`.
    """

    async def store(self, deliveries: Sequence[Delivery]) -> tuple[bool, ...]:
        """Keep deliveries, durably on return; tell of each in order whether it is new. Safe to repeat.

        What comes under a known delivery id changes nothing, whatever it says.

        Raises:
            DomainError: `payload_too_large`.
        """
        ...

    async def take(
        self, limit: int, lease: timedelta, *, older_than: timedelta = timedelta(0)
    ) -> tuple[WaitingDelivery, ...]:
        """Take deliveries to handle that came at least `older_than` ago, oldest first; nobody else has them meanwhile.

        Who does not say `handled` within `lease` leaves them to others.
        """
        ...

    async def handled(self, vendor: str, delivery_id: str) -> None:
        """Note that a delivery is handled; its body is gone from then on. Safe to repeat."""
        ...

    async def forget(self, older_than: timedelta) -> int:
        """Forget deliveries that were handled so long ago, and return how many.

        Keep longer than a vendor may repeat one: a forgotten delivery id is new again.
        """
        ...
