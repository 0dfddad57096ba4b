"""Fingerprint's webhooks: `fpjs-event-signature: v1=<hex HMAC-SHA-256 of the raw body>`, perhaps several."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from domain.errors import DomainError, ErrorCode
from domain.webhooks import WebhookEvent
from integrations.devices.client import EVENT_ID
from integrations.devices.mapping import GarbledEventError, read_event
from integrations.vendor_settings import FingerprintSettings

HEADER: Final = "fpjs-event-signature"
VENDOR: Final = "fingerprint"
_HEADER_MAX: Final = 4096
_CLOCK_SKEW_S: Final = 60.0


def signature(body: bytes, secret: bytes) -> str:
    """Return the header's value for a body."""
    return f"v1={hmac.new(secret, body, hashlib.sha256).hexdigest()}"


def is_signed(body: bytes, header: str, secrets: Sequence[bytes]) -> bool:
    """Tell whether any `v1` signature in the header is that of the body under any secret, in constant time each."""
    if not body or len(header) > _HEADER_MAX:
        return False
    given = [part.strip().encode() for part in header.split(",")]
    expected = [signature(body, secret).encode() for secret in secrets if secret]
    # Every pair is compared, so that the time says nothing of which matched
    return sum(hmac.compare_digest(one, other) for one in given for other in expected) > 0


class FingerprintWebhooks:
    """Implements `WebhookVerifier`. The event inside is a hint: what it says is read again by its id."""

    def __init__(self, secrets: Sequence[bytes], *, age_max_s: float, now: Callable[[], float] = time.time) -> None:
        self._secrets = secrets
        self._age_max_s = age_max_s
        self._now = now

    @classmethod
    def of(cls, settings: FingerprintSettings) -> "FingerprintWebhooks":
        """Return the verifier of these settings; without a secret nothing is accepted."""
        secrets = [secret.get_secret_value().encode() for secret in settings.webhook_secrets]
        return cls(secrets, age_max_s=settings.webhook_age_max_s)

    def verify(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Return the event in a raw body; the vendor sends once more after 5 minutes, under the same event id."""
        if not is_signed(body, headers.get(HEADER, ""), self._secrets):
            raise DomainError(ErrorCode.WEBHOOK_INVALID, "not signed as agreed")
        try:
            content = json.loads(body)
            event = read_event(content) if isinstance(content, dict) else None
        except (ValueError, RecursionError, GarbledEventError):
            event = None
        if event is None or not EVENT_ID.fullmatch(event.event_id):
            raise DomainError(ErrorCode.WEBHOOK_INVALID, "no event inside")
        age_s = self._now() - event.at.timestamp()
        if not -_CLOCK_SKEW_S <= age_s <= self._age_max_s:
            raise DomainError(ErrorCode.WEBHOOK_INVALID, "not of now")
        return WebhookEvent(vendor=VENDOR, delivery_id=event.event_id, case_id="", kind="event", sent_at=event.at)
