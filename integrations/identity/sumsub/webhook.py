"""Checks what Sumsub sends: who signed it, and which of our cases it is about. Its verdict is not even read."""

import hmac
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from domain.webhooks import WebhookEvent
from integrations.identity.webhook_parsing import BODY_BYTES_MAX, check_age, delivery_id, invalid
from integrations.vendor_settings import SumsubSettings

VENDOR: Final = "sumsub"
DIGEST_HEADER: Final = "x-payload-digest"
ALGORITHM_HEADER: Final = "x-payload-digest-alg"
ALGORITHMS: Final = {"HMAC_SHA1_HEX": "sha1", "HMAC_SHA256_HEX": "sha256", "HMAC_SHA512_HEX": "sha512"}
_KIND: Final = re.compile(r"[A-Za-z]{1,64}")
_ID: Final = re.compile(r"[\w|.~-]{1,512}", re.ASCII)


class _Payload(msgspec.Struct, rename="camel"):
    type: str
    applicant_id: str
    external_user_id: str | None = None
    correlation_id: str | None = None
    created_at: str | None = None  # with an offset
    created_at_ms: str | None = None  # UTC without saying so


def payload_digest(secret: bytes, algorithm: str, body: bytes) -> str:
    """Return the lower-case hex HMAC of a raw body under one of `ALGORITHMS`."""
    return hmac.new(secret, body, ALGORITHMS[algorithm]).hexdigest()


class SumsubWebhooks:
    """Takes the one algorithm that was agreed: the header only has to say the same."""

    def __init__(self, settings: SumsubSettings, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since 1970."""
        self._secret = settings.webhook_secret.get_secret_value().encode()
        self._algorithm = settings.webhook_algorithm
        self._age_max_s = settings.webhook_age_max_s
        self._now = now

    def verify(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Return the event of a delivery, of a kind that we know or not.

        Raises:
            DomainError: `webhook_invalid`.
        """
        if len(body) > BODY_BYTES_MAX:
            raise invalid("the body is too large")
        if headers.get(ALGORITHM_HEADER) != self._algorithm:
            raise invalid("not the algorithm that was agreed")
        digest = headers.get(DIGEST_HEADER, "")
        if not hmac.compare_digest(digest.encode(), payload_digest(self._secret, self._algorithm, body).encode()):
            raise invalid("the signature does not match")
        return self._event(body)

    def _event(self, body: bytes) -> WebhookEvent:
        try:
            payload = msgspec.json.decode(body, type=_Payload)
            sent_at = _sent_at(payload)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors too
            raise invalid("not an event") from None
        case_id = payload.external_user_id or ""
        if not _KIND.fullmatch(payload.type) or not _ID.fullmatch(payload.applicant_id):
            raise invalid("not an event")
        if case_id and not _ID.fullmatch(case_id):
            raise invalid("not an event")
        check_age(sent_at, datetime.fromtimestamp(self._now(), UTC), self._age_max_s)
        at = payload.created_at_ms or payload.created_at or ""
        identifier = delivery_id(VENDOR, payload.applicant_id, payload.type, at, payload.correlation_id or "")
        return WebhookEvent(VENDOR, identifier, case_id, payload.type, sent_at)


def _sent_at(payload: _Payload) -> datetime:
    """Return when an event was made. Raises ValueError where it does not say."""
    if payload.created_at_ms:
        return datetime.fromisoformat(payload.created_at_ms).replace(tzinfo=UTC)
    at = datetime.fromisoformat(payload.created_at or "")
    if at.tzinfo is None:
        raise ValueError("a time without an offset")
    return at
