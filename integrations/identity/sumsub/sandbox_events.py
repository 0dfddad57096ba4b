"""The sandbox's webhooks: Sumsub's payloads and signatures, and every way in which they go wrong."""

import secrets
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from pydantic import Field

from integrations.identity.sumsub.sandbox_applicants import Applicant
from integrations.identity.sumsub.webhook import ALGORITHM_HEADER, DIGEST_HEADER, payload_digest
from integrations.sandboxes.control import ControlModel
from integrations.sandboxes.deliveries import Deliveries, Delivery


class WebhookFaultKind(StrEnum):
    """How an event goes wrong on its way."""

    LOST = "lost"
    REPEATED = "repeated"  # the same event twice
    SWAPPED = "swapped"  # held until the next event has been sent
    WRONG_DIGEST = "wrong_digest"
    UNKNOWN_ALGORITHM = "unknown_algorithm"
    MISSING_HEADER = "missing_header"
    ALTERED = "altered"  # after signing
    OLD = "old"  # made an hour before, and sent now
    UNKNOWN_TYPE = "unknown_type"


class WebhookFault(ControlModel):
    """One switch: the next `count` events of `type` (of any, if empty) go wrong."""

    kind: WebhookFaultKind
    count: int = Field(default=1, ge=1, le=1_000_000)
    type: str = ""


class Events:
    """Tells the receiver of changes."""

    def __init__(self, deliveries: Deliveries, secret: bytes, algorithm: str) -> None:
        self.deliveries = deliveries
        self._secret = secret
        self._algorithm = algorithm
        self._faults: list[tuple[WebhookFault, int]] = []
        self._held: list[tuple[str, bytes]] = []

    def add_fault(self, fault: WebhookFault) -> None:
        """Let the next events that match go wrong."""
        self._faults.append((fault, fault.count))

    def tell(self, kind: str, applicant: Applicant) -> None:
        """Send an event, or what a switch makes of it."""
        fault = self._take(kind)
        if fault is WebhookFaultKind.UNKNOWN_TYPE:
            kind = "applicantSomethingNew"
        made_at = datetime.now(UTC) - timedelta(hours=1 if fault is WebhookFaultKind.OLD else 0)
        body = msgspec.json.encode(_payload(kind, applicant, made_at))
        match fault:
            case WebhookFaultKind.LOST:
                return
            case WebhookFaultKind.SWAPPED:
                self._held.append((kind, body))
                return
            case WebhookFaultKind.REPEATED:
                self._send(kind, body, None)
        delivery = self._send(kind, body, fault)
        held, self._held = self._held, []
        for later_kind, later_body in held:
            self.deliveries.send(later_kind, later_body, self._sign, after=delivery)

    def _send(self, kind: str, body: bytes, fault: WebhookFaultKind | None) -> Delivery:
        def sign(content: bytes) -> dict[str, str]:
            match fault:
                case WebhookFaultKind.WRONG_DIGEST:
                    return {**self._sign(content), DIGEST_HEADER: secrets.token_hex(32)}
                case WebhookFaultKind.UNKNOWN_ALGORITHM:
                    return {**self._sign(content), ALGORITHM_HEADER: "HMAC_MD5_HEX"}
                case WebhookFaultKind.MISSING_HEADER:
                    return {ALGORITHM_HEADER: self._algorithm}
                case WebhookFaultKind.ALTERED:
                    return self._sign(body)
                case _:
                    return self._sign(content)

        sent = body.replace(b'"type"', b' "type"', 1) if fault is WebhookFaultKind.ALTERED else body
        return self.deliveries.send(kind, sent, sign)

    def _sign(self, content: bytes) -> dict[str, str]:
        digest = payload_digest(self._secret, self._algorithm, content)
        return {DIGEST_HEADER: digest, ALGORITHM_HEADER: self._algorithm}

    def _take(self, kind: str) -> WebhookFaultKind | None:
        for index, (fault, left) in enumerate(self._faults):
            if fault.type in {"", kind}:
                self._faults[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                return fault.kind
        return None


def _payload(kind: str, applicant: Applicant, made_at: datetime) -> dict[str, Any]:
    body = {
        "applicantId": applicant.id,
        "inspectionId": applicant.inspection_id,
        "applicantType": "individual",
        "correlationId": secrets.token_hex(16),
        "levelName": applicant.level,
        "externalUserId": applicant.external_user_id,
        "type": kind,
        "sandboxMode": True,
        "reviewStatus": applicant.status,
        "createdAt": f"{made_at:%Y-%m-%d %H:%M:%S}+0000",
        "createdAtMs": f"{made_at:%Y-%m-%d %H:%M:%S}.{made_at.microsecond // 1000:03d}",
        "clientId": "sandbox",
    }
    return body if applicant.result is None else {**body, "reviewResult": applicant.result}
