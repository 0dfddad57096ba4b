"""Applicants of the sandbox: their states, and how each is written on the wire."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from integrations.identity.sumsub.sandbox_errors import SandboxError

DAILY_MAX: Final = 500
_CHECKING: Final = frozenset({"pending", "prechecked", "queued"})
_STEPS: Final = ("IDENTITY", "SELFIE")

Tell = Callable[[str, "Applicant"], None]


@dataclass(slots=True)
class Applicant:
    """One applicant, as far as Sumsub's interface shows it."""

    external_user_id: str
    level: str
    fields: dict[str, Any] = field(default_factory=dict)  # what was given when it was made
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    inspection_id: str = field(default_factory=lambda: secrets.token_hex(12))
    review_id: str = field(default_factory=lambda: secrets.token_hex(12))
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: str = "init"
    attempts: int = 0
    result: dict[str, Any] | None = None
    info: dict[str, Any] | None = None
    risk_labels: dict[str, list[str]] = field(default_factory=dict)
    images: dict[int, bytes] = field(default_factory=dict)  # digests
    deleted: bool = False

    @property
    def is_rejected_for_good(self) -> bool:
        """Tell whether no more data is taken."""
        return self.status == "completed" and (self.result or {}).get("reviewRejectType") == "FINAL"

    def review(self) -> dict[str, Any]:
        """Return the review block."""
        block: dict[str, Any] = {
            "reviewId": self.review_id,
            "attemptId": f"{self.review_id[:20]}{self.attempts:04x}",
            "attemptCnt": self.attempts,
            "levelName": self.level,
            "createDate": f"{self.created_at:%Y-%m-%d %H:%M:%S}+0000",
            "reviewStatus": self.status,
            "priority": 0,
        }
        return block if self.result is None else {**block, "reviewResult": self.result}

    def as_json(self) -> dict[str, Any]:
        """Return the applicant object."""
        found: dict[str, Any] = {
            **self.fields,
            "id": self.id,
            "createdAt": f"{self.created_at:%Y-%m-%d %H:%M:%S}",
            "createdBy": "service",
            "key": "SANDBOX",
            "clientId": "sandbox",
            "inspectionId": self.inspection_id,
            "externalUserId": self.external_user_id,
            "applicantPlatform": "API",
            "requiredIdDocs": {"docSets": [{"idDocSetType": step} for step in _STEPS]},
            "review": self.review(),
        }
        found |= {"info": self.info} if self.info else {}
        found |= {"riskLabels": self.risk_labels} if self.risk_labels else {}
        return found | ({"deleted": True} if self.deleted else {})

    def steps(self) -> dict[str, Any]:
        """Return the status of each step, None where nothing was handed in."""
        if not self.images:
            return dict.fromkeys(_STEPS)
        images = {"imageIds": sorted(self.images), "imageReviewResults": {}, "forbidden": False}
        return {step: images | ({"reviewResult": self.result} if self.result else {}) for step in _STEPS}


class Applicants:
    """Every applicant of the sandbox; `tell` is called after each change with the event that it is."""

    def __init__(self, levels: set[str], tell: Tell) -> None:
        self.levels = levels
        self.daily_max = DAILY_MAX
        self._tell = tell
        self._by_id: dict[str, Applicant] = {}

    def get(self, applicant_id: str) -> Applicant:
        """Return an applicant. Raises SandboxError 404."""
        if applicant_id not in self._by_id:
            raise SandboxError(404, f"Applicant with id {applicant_id} not found (anf)")
        return self._by_id[applicant_id]

    def find(self, external_user_id: str) -> Applicant | None:
        """Return the applicant of an own id."""
        return next((each for each in self._by_id.values() if each.external_user_id == external_user_id), None)

    def create(self, external_user_id: str, level: str, fields: dict[str, Any]) -> Applicant:
        """Add an applicant. Raises SandboxError: an unknown level, an own id that is taken, too many today."""
        if level not in self.levels:
            raise SandboxError(404, f"Level {level} not found")
        known = self.find(external_user_id)
        if known is not None:
            raise SandboxError(409, f"Applicant with external user id '{external_user_id}' already exists: {known.id}")
        since = datetime.now(UTC) - timedelta(days=1)
        if sum(each.created_at > since for each in self._by_id.values()) >= self.daily_max:
            raise SandboxError(403, "Too many applicants in the sandbox today")
        applicant = Applicant(external_user_id, level, fields)
        self._by_id[applicant.id] = applicant
        self._tell("applicantCreated", applicant)
        return applicant

    def add_document(self, applicant: Applicant, document: dict[str, Any], content: bytes) -> int:
        """Take a document's data and image. Raises SandboxError: nothing is taken, the file is known or empty."""
        self._take_data(applicant)
        if not content:
            raise SandboxError(400, "Empty file", 1003)
        digest = hashlib.sha256(content).digest()
        if digest in applicant.images.values():
            raise SandboxError(409, "Duplicate document", 1000)
        image_id = secrets.randbelow(2**31)
        applicant.images[image_id] = digest
        info = applicant.info or {}
        known = [each for each in info.get("idDocs", []) if each["idDocType"] != document["idDocType"]]
        top: dict[str, Any] = {
            name: document[name] for name in ("firstName", "lastName", "dob", "country") if name in document
        }
        applicant.info = {**info, **top, "idDocs": [*known, document]}
        return image_id

    def check(self, applicant: Applicant) -> None:
        """Move to pending, with another attempt where the one before was answered; then the checks run."""
        self._take_data(applicant)
        if not applicant.images:
            raise SandboxError(409, f"Applicant is missing required steps: [{', '.join(_STEPS)}]")
        applicant.attempts += applicant.status == "completed"
        applicant.result = None
        for status, event in (("pending", "applicantPending"), ("queued", "applicantPrechecked")):
            applicant.status = status
            self._tell(event, applicant)

    def hold(self, applicant: Applicant) -> None:
        """Leave the decision to a human."""
        applicant.status = "onHold"
        self._tell("applicantOnHold", applicant)

    def decide(self, applicant: Applicant, result: dict[str, Any], risk_labels: dict[str, list[str]]) -> None:
        """Answer the review; a later answer replaces an earlier one."""
        applicant.status, applicant.result = "completed", result
        applicant.risk_labels = risk_labels
        self._tell("applicantReviewed", applicant)

    def reset(self, applicant: Applicant) -> None:
        """Begin again."""
        _refuse_while_checking(applicant)
        applicant.attempts += applicant.status == "completed"
        applicant.status, applicant.result = "init", None
        self._tell("applicantReset", applicant)

    def set_presence(self, applicant: Applicant, *, deleted: bool) -> None:
        """Deactivate or reactivate."""
        _refuse_while_checking(applicant)
        if applicant.deleted is deleted:
            raise SandboxError(409, "Applicant is already in the state", 3000)
        applicant.deleted = deleted
        self._tell("applicantDeactivated" if deleted else "applicantActivated", applicant)

    def forget_person(self, applicant: Applicant) -> None:
        """Erase personal data, and keep the record."""
        applicant.info = None
        applicant.fields = {name: value for name, value in applicant.fields.items() if name in {"type", "lang"}}
        applicant.images.clear()
        self._tell("applicantPersonalDataDeleted", applicant)

    def delete(self, applicant: Applicant) -> None:
        """Erase the record too."""
        self.forget_person(applicant)
        del self._by_id[applicant.id]
        self._tell("applicantDeleted", applicant)

    def _take_data(self, applicant: Applicant) -> None:
        if applicant.deleted:
            raise SandboxError(409, "Applicant is marked as deleted", 1008)
        if applicant.is_rejected_for_good:
            raise SandboxError(409, "Applicant was rejected for good", 1009)
        _refuse_while_checking(applicant)


def _refuse_while_checking(applicant: Applicant) -> None:
    if applicant.status in _CHECKING:
        raise SandboxError(409, f"Applicant is being checked: {applicant.status}")
