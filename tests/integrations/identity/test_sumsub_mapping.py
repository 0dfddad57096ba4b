from datetime import date
from typing import Any

import msgspec
import pytest

from domain.proofing import Document, ProofingState
from integrations.identity.sumsub.mapping import Applicant, NotUnderstoodError, finding_of

PASSPORT = {"idDocType": "PASSPORT", "country": "FRA", "number": "12AB 34", "dob": "1990-02-03"}
ID_CARD = {"idDocType": "ID_CARD", "country": "AUT", "number": "9", "dob": "1990-02-03"}
INFO = {"firstName": "Ada", "dob": "1990-02-03", "idDocs": [ID_CARD, PASSPORT]}


def applicant(status: str = "completed", result: dict[str, Any] | None = None, **more: Any) -> Applicant:
    review = {"reviewStatus": status, "attemptCnt": 1, **({"reviewResult": result} if result else {})}
    return msgspec.convert({"id": "a", "externalUserId": "c", "review": review, **more}, Applicant)


def red(kind: str, *labels: str, **more: Any) -> dict[str, Any]:
    return {"reviewAnswer": "RED", "reviewRejectType": kind, "rejectLabels": list(labels), **more}


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("init", ProofingState.WAITING_FOR_PERSON),
        ("awaitingUser", ProofingState.WAITING_FOR_PERSON),
        ("pending", ProofingState.IN_REVIEW),
        ("prechecked", ProofingState.IN_REVIEW),
        ("queued", ProofingState.IN_REVIEW),
        ("awaitingService", ProofingState.IN_REVIEW),
        ("onHold", ProofingState.IN_REVIEW),
        ("somethingNew", ProofingState.IN_REVIEW),
    ],
)
@pytest.mark.parametrize("result", [None, {"reviewAnswer": "GREEN"}, red("FINAL", "DUPLICATE")])
def test_an_answer_counts_only_when_the_review_is_completed(status: str, state: ProofingState, result: Any) -> None:
    finding = finding_of(applicant(status, result, info=INFO))
    assert (finding.state, finding.reasons, finding.document, finding.attempt) == (state, (), None, 2)
    assert not finding.same_face


def test_an_approval_names_the_most_telling_document_and_the_date_of_birth() -> None:
    finding = finding_of(applicant(result={"reviewAnswer": "GREEN"}, info=INFO))
    assert finding.state is ProofingState.APPROVED
    assert finding.document == Document("FRA", "passport", "12AB 34")
    assert finding.born_on == date(1990, 2, 3)
    for secret in ("12AB", "1990", "Ada"):
        assert secret not in repr(finding)


@pytest.mark.parametrize(
    "info",
    [
        None,
        {},
        {"dob": "1990-02-03"},
        {"idDocs": [{**PASSPORT, "dob": "soon"}]},
        {"idDocs": [{**PASSPORT, "number": ""}], "dob": "1990-02-03"},
        {"idDocs": [{**PASSPORT, "dob": ""}]},
    ],
)
def test_an_approval_of_nobody_decides_nothing(info: Any) -> None:
    more = {} if info is None else {"info": info}
    with pytest.raises(NotUnderstoodError) as caught:
        finding_of(applicant(result={"reviewAnswer": "GREEN"}, **more))
    assert "1990" not in str(caught.value)


@pytest.mark.parametrize(("kind", "state"), [("RETRY", ProofingState.RETRY), ("FINAL", ProofingState.REJECTED)])
@pytest.mark.parametrize("label", ["FORGERY", "LOW_QUALITY", "SOMETHING_NEW"])
def test_the_kind_of_a_rejection_decides_and_no_label_does(kind: str, state: ProofingState, label: str) -> None:
    result = red(kind, label, moderationComment="Please take another photo", clientComment="a known forger")
    finding = finding_of(applicant(result=result, info=INFO))
    assert (finding.state, finding.reasons) == (state, (label.lower(),))
    assert (finding.advice, finding.document) == ("Please take another photo", None)


@pytest.mark.parametrize(
    "result", [{}, {"reviewAnswer": "YELLOW"}, {"reviewAnswer": "RED"}, red("LATER"), {"reviewAnswer": ""}]
)
def test_a_verdict_of_an_unknown_kind_decides_nothing(result: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstoodError):
        finding_of(applicant(result=result, info=INFO))


@pytest.mark.parametrize(
    ("labels", "risk_labels", "same_face"),
    [
        (["DUPLICATE"], {}, True),
        ([], {"selfie": ["sameFaceWithDifferentData"]}, True),
        ([], {"crossCheck": ["manyAccountDuplicates"], "device": None}, False),
    ],
)
def test_a_face_seen_before_is_told(labels: list[str], risk_labels: Any, same_face: bool) -> None:  # noqa: FBT001
    finding = finding_of(applicant(result=red("FINAL", *labels), riskLabels=risk_labels))
    assert finding.same_face is same_face


def test_labels_are_words_and_few() -> None:
    many = [f"LABEL_{number}" for number in range(100)]
    result = red("RETRY", "a text of Ada Lovelace", *many, *many, moderationComment="x" * 10_000)
    finding = finding_of(applicant(result=result, riskLabels={"device": ["vpnUsage", "x y"], "Ada L.": ["a"]}))
    assert finding.reasons == tuple(f"label_{number}" for number in range(50))
    assert finding.risk_labels == ("device:vpnusage",)
    assert len(finding.advice) == 2000


def test_who_was_deactivated_is_gone() -> None:
    assert finding_of(applicant(result={"reviewAnswer": "GREEN"}, deleted=True)).state is ProofingState.GONE
