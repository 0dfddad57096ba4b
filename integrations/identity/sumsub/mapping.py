"""What Sumsub says of an applicant, in our words."""

import re
from collections.abc import Iterable
from datetime import date
from typing import Final

import msgspec

from domain.proofing import Document, ProofingFinding, ProofingState

_WAITING: Final = frozenset({"init", "awaitingUser"})
_COMPLETED: Final = "completed"
_ADVICE_CHARACTERS_MAX: Final = 2000
_LABELS_MAX: Final = 50
_LABEL: Final = re.compile(r"[a-z0-9_]{1,64}")
# What a document is called, most telling first: the first of these that an applicant has is the one that counts.
_KINDS: Final = {
    "PASSPORT": "passport",
    "ID_CARD": "id_card",
    "RESIDENCE_PERMIT": "residence_permit",
    "DRIVERS": "driving_licence",
}
_DUPLICATE: Final = "duplicate"
_SAME_FACE: Final = "selfie:samefacewithdifferentdata"


class NotUnderstoodError(Exception):
    """Sumsub says something that decides a case and that we have no word for."""


class ReviewResult(msgspec.Struct, rename="camel"):
    """The result of a review; `client_comment` is not read, since it must not be shown."""

    review_answer: str = ""
    reject_labels: list[str] = []
    review_reject_type: str = ""
    moderation_comment: str | None = None


class Review(msgspec.Struct, rename="camel"):
    """The review of an applicant."""

    review_status: str = "init"
    attempt_cnt: int = 0
    review_result: ReviewResult | None = None


class IdDocument(msgspec.Struct, rename="camel"):
    """A document as it was read."""

    id_doc_type: str
    country: str = ""
    number: str = ""
    dob: str = ""


class ApplicantInfo(msgspec.Struct, rename="camel"):
    """What was read from documents."""

    dob: str = ""
    id_docs: list[IdDocument] = []


class Applicant(msgspec.Struct, rename="camel"):
    """An applicant, as far as we look."""

    id: str
    external_user_id: str = ""
    info: ApplicantInfo | None = None
    fixed_info: dict[str, object] | None = None
    email: str | None = None
    phone: str | None = None
    review: Review = msgspec.field(default_factory=Review)
    risk_labels: dict[str, list[str] | None] | None = None
    deleted: bool = False

    @property
    def names_somebody(self) -> bool:
        """Tell whether the record still says who the person is."""
        return bool(self.info or self.fixed_info or self.email or self.phone)


def finding_of(applicant: Applicant) -> ProofingFinding:
    """Return what Sumsub found.

    Raises:
        NotUnderstoodError: a verdict of a kind that we do not know, or an approval without document or date of birth.
    """
    review = applicant.review
    result = review.review_result or ReviewResult()
    state = ProofingState.GONE if applicant.deleted else _state(review, result)
    reasons = _labels(result.reject_labels) if review.review_status == _COMPLETED else ()
    risk_labels = _risk_labels(applicant.risk_labels or {})
    finding = ProofingFinding(
        state=state,
        attempt=max(review.attempt_cnt, 0) + 1,
        reasons=reasons,
        advice=(result.moderation_comment or "")[:_ADVICE_CHARACTERS_MAX] if reasons else "",
        risk_labels=risk_labels,
        same_face=_DUPLICATE in reasons or _SAME_FACE in risk_labels,
    )
    if state is not ProofingState.APPROVED:
        return finding
    document, born_on = _identity(applicant.info)
    return ProofingFinding(
        state=state,
        attempt=finding.attempt,
        risk_labels=risk_labels,
        same_face=finding.same_face,
        document=document,
        born_on=born_on,
    )


def _state(review: Review, result: ReviewResult) -> ProofingState:
    """Return the state: an answer counts only once the review is completed, and a label never decides."""
    if review.review_status in _WAITING:
        return ProofingState.WAITING_FOR_PERSON
    if review.review_status != _COMPLETED:
        return ProofingState.IN_REVIEW  # pending, prechecked, queued, awaitingService, onHold, or a newer word
    match result.review_answer, result.review_reject_type:
        case "GREEN", _:
            return ProofingState.APPROVED
        case "RED", "RETRY":
            return ProofingState.RETRY
        case "RED", "FINAL":
            return ProofingState.REJECTED
        case _:
            raise NotUnderstoodError("a verdict of an unknown kind")


def _labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Return labels in lower case; what has not the form of one is text, and is left out."""
    lowered = dict.fromkeys(label.lower() for label in labels)
    return tuple(label for label in lowered if _LABEL.fullmatch(label))[:_LABELS_MAX]


def _risk_labels(groups: dict[str, list[str] | None]) -> tuple[str, ...]:
    found = (
        f"{name}:{label}"
        for group in sorted(groups)
        for name in _labels([group])
        for label in _labels(groups[group] or [])
    )
    return tuple(found)[:_LABELS_MAX]


def _identity(info: ApplicantInfo | None) -> tuple[Document, date]:
    documents = [each for each in (info.id_docs if info else []) if each.country and each.number]
    ranks = {kind: rank for rank, kind in enumerate(_KINDS)}
    documents.sort(key=lambda each: (ranks.get(each.id_doc_type, len(ranks)), each.country, each.number))
    if info is None or not documents:
        raise NotUnderstoodError("an approval without a document")
    chosen = documents[0]
    try:
        born_on = date.fromisoformat(chosen.dob or info.dob)
    except ValueError:
        raise NotUnderstoodError("an approval without a date of birth") from None
    kind = _KINDS.get(chosen.id_doc_type, chosen.id_doc_type.lower())
    return Document(chosen.country, kind, chosen.number), born_on
