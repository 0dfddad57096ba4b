"""What vendors tell us unasked. A webhook is a hint that something may have changed, and never says what is true."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A delivery whose signature was good.

    `delivery_id` is the same whenever the vendor sends this event again. `case_id` is ours, as the case was opened
    with (empty where the event is of none). `kind` is the vendor's word. `sent_at` is when the vendor made it.
    """

    vendor: str
    delivery_id: str
    case_id: str
    kind: str
    sent_at: datetime


class WebhookVerifier(Protocol):
    """Checks what one vendor sends."""

    def verify(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Return the event in a raw body; header names are in lower case.

        The signature is over the body as it came and is compared in constant time before anything is parsed.

        Raises:
            DomainError: `webhook_invalid`; unsigned, altered, of an algorithm that was not agreed, too old or no event.
        """
        ...
