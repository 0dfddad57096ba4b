"""Checks what the letter provider sends: signed with the time of sending, so that a copy is soon worth nothing."""

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from domain.webhooks import WebhookEvent
from integrations.identity.webhook_parsing import BODY_BYTES_MAX, check_age, delivery_id, invalid
from integrations.vendor_settings import LettersSettings

VENDOR: Final = "letters"
TIME_HEADER: Final = "x-letters-timestamp"
SIGNATURE_HEADER: Final = "x-letters-signature"
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
_KIND: Final = re.compile(r"[a-z][a-z._]{0,63}")
_ID: Final = re.compile(r"[\w|.~-]{1,512}", re.ASCII)


class _Payload(msgspec.Struct, rename="camel"):
    event_id: str
    type: str
    case_id: str
    created_at: datetime


def webhook_signature(secret: bytes, at: str, body: bytes) -> str:
    """Return the lower-case hex HMAC-SHA-256 of `{at}.{body}`; `at` is in seconds since 1970."""
    return hmac.new(secret, at.encode("ascii") + b"." + body, hashlib.sha256).hexdigest()


class LettersWebhooks:
    """Takes what was sent within the last minutes; what is sent again is signed again, and keeps its event id."""

    def __init__(self, settings: LettersSettings, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since 1970."""
        self._secret = settings.webhook_secret.get_secret_value().encode()
        self._age_max_s = settings.webhook_age_max_s
        self._now = now

    def verify(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Return the event of a delivery.

        Raises:
            DomainError: `webhook_invalid`.
        """
        at = headers.get(TIME_HEADER, "")
        if len(body) > BODY_BYTES_MAX or not _SECONDS.fullmatch(at):
            raise invalid("the body is too large, or no time of sending")
        expected = webhook_signature(self._secret, at, body)
        if not hmac.compare_digest(headers.get(SIGNATURE_HEADER, "").encode(), expected.encode()):
            raise invalid("the signature does not match")
        try:
            payload = msgspec.json.decode(body, type=_Payload)
            check_age(datetime.fromtimestamp(int(at), UTC), datetime.fromtimestamp(self._now(), UTC), self._age_max_s)
        except (ValueError, OverflowError, RecursionError):
            raise invalid("not an event") from None
        good = _ID.fullmatch(payload.event_id) and _ID.fullmatch(payload.case_id) and _KIND.fullmatch(payload.type)
        if not good or payload.created_at.tzinfo is None:
            raise invalid("not an event")
        identifier = delivery_id(VENDOR, payload.event_id)
        return WebhookEvent(VENDOR, identifier, payload.case_id, payload.type, payload.created_at.astimezone(UTC))
