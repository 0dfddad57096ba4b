"""What the webhooks of every provider have in common: one refusal, times within reason, and ids for deliveries."""

import hashlib
from datetime import datetime, timedelta
from typing import Final

from domain.errors import DomainError, ErrorCode

BODY_BYTES_MAX: Final = 256 * 1024
AHEAD_MAX: Final = timedelta(minutes=5)


def invalid(detail: str) -> DomainError:
    """Return the refusal; `detail` never quotes what came."""
    return DomainError(ErrorCode.WEBHOOK_INVALID, detail)


def check_age(sent_at: datetime, now: datetime, age_max_s: int) -> None:
    """Accept what was sent neither too long ago nor in the future.

    Raises:
        DomainError: `webhook_invalid`.
    """
    if not now - timedelta(seconds=age_max_s) <= sent_at <= now + AHEAD_MAX:
        raise invalid("sent too long ago, or in the future")


def delivery_id(*parts: str) -> str:
    """Return 32 hexadecimal digits for what names an event, the same whenever the event is sent again."""
    framed = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    return hashlib.sha256(framed).hexdigest()[:32]
