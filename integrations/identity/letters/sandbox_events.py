"""Webhooks of the letter provider's sandbox, signed anew at each attempt."""

import secrets
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from integrations.identity.letters.sandbox_cases import Case
from integrations.identity.letters.webhook import SIGNATURE_HEADER, TIME_HEADER, webhook_signature
from integrations.sandboxes.control import ControlModel
from integrations.sandboxes.deliveries import Deliveries

_STALE_S: Final = 3600


class WebhookFaultKind(StrEnum):
    """How an event goes wrong on its way."""

    LOST = "lost"
    REPEATED = "repeated"
    WRONG_SIGNATURE = "wrong_signature"
    STALE = "stale"  # signed an hour before


class WebhookFault(ControlModel):
    """The next event goes wrong."""

    kind: WebhookFaultKind


class Events:
    """Tells the receiver of changes."""

    def __init__(self, deliveries: Deliveries, secret: bytes) -> None:
        self.deliveries = deliveries
        self._secret = secret
        self._faults: list[WebhookFaultKind] = []

    def add_fault(self, fault: WebhookFault) -> None:
        """Let the next event go wrong."""
        self._faults.append(fault.kind)

    def tell(self, kind: str, case: Case) -> None:
        """Send an event, or what a switch makes of it."""
        fault = self._faults.pop(0) if self._faults else None
        if fault is WebhookFaultKind.LOST:
            return
        made_at = datetime.now(UTC).isoformat()
        body = msgspec.json.encode(
            {"eventId": f"le_{secrets.token_hex(12)}", "type": kind, "caseId": case.case_id, "createdAt": made_at}
        )

        def sign(content: bytes) -> dict[str, str]:
            at = str(int(time.time()) - (_STALE_S if fault is WebhookFaultKind.STALE else 0))
            secret = b"another" if fault is WebhookFaultKind.WRONG_SIGNATURE else self._secret
            return {TIME_HEADER: at, SIGNATURE_HEADER: webhook_signature(secret, at, content)}

        for _ in range(2 if fault is WebhookFaultKind.REPEATED else 1):
            self.deliveries.send(kind, body, sign)
