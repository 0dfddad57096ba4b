"""Whether the record of a case says the same as its entries, which were written in the transaction of the decision.

An entry that a release before wrote has less in it: what it does not say binds nothing, and the answer tells so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from domain.account_ends import DeletionStage
from domain.audit import AuditKind
from domain.cases import CaseKind
from domain.contracts.login import LoginDecision, LoginOutcome
from domain.evidence_bundles import Json, digest_of, ended_registration
from domain.registrations import ENDED

_BEFORE: Final = "a release before wrote it"


class ContradictedError(ValueError):
    """The record of a case says something else than its entries."""


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """An entry of a case, as it is in the log: its kind and its body."""

    kind: str
    body: Json


def compare_with_entries(kind: CaseKind, record: Json, entries: Sequence[SealedEntry]) -> str:
    """Return what was compared of a record with the entries of its case, which are in the order of the log.

    Raises:
        ContradictedError: they do not say the same.
        ValueError, KeyError, TypeError: the record or an entry is not what it should be.
    """
    return _COMPARED[kind](record, entries)


def _login(record: Json, entries: Sequence[SealedEntry]) -> str:
    decided = _last(AuditKind.LOGIN_DECIDED, entries)
    if decided is None:
        raise ContradictedError(f"no entry {AuditKind.LOGIN_DECIDED}")
    judged, facts = record["judged"], decided["facts"]
    told = {
        "policyVersion": judged["verdict"]["policy_version"],
        "method": record["method"],
        "provider": record["provider"],
        "factors": ",".join(record["factors"]),
    }
    is_said = decided["after"] == digest_of(judged).hex() and _agree(facts, told)
    _require(is_said, f"another one than that of the entry {AuditKind.LOGIN_DECIDED}")
    said = "" if "method" in facts else f", and nothing of method, provider and factors: {_BEFORE}"
    return f"the entry {AuditKind.LOGIN_DECIDED} says the same{said}; {_end_of_login(record, entries)}"


def _end_of_login(record: Json, entries: Sequence[SealedEntry]) -> str:
    """A login ends as an entry of its end says, or else as its decision did at once."""
    ended, (outcome, factor) = _last(AuditKind.LOGIN_ENDED, entries), (record["outcome"], record["factor"] or "")
    if ended is None:
        _require((outcome, factor) == (_at_once(record), ""), f"no entry {AuditKind.LOGIN_ENDED}")
        return "it ended with it" if outcome else "it has not come to an end"
    is_said = outcome == ended["outcome"] and _agree(ended.get("facts", {}), {"factor": factor})
    _require(is_said, f"another end than that of the entry {AuditKind.LOGIN_ENDED}")
    said = "" if "facts" in ended else f", and nothing of the factor: {_BEFORE}"
    return f"the entry {AuditKind.LOGIN_ENDED} says the same{said}"


def _at_once(record: Json) -> str | None:
    """Return how a decision ends a login; None where it waits for one of its factors."""
    decision = record["judged"]["verdict"]["decision"]
    if decision == LoginDecision.ALLOW:
        return LoginOutcome.ALLOWED
    return LoginOutcome.DENIED if decision == LoginDecision.DENY or not record["factors"] else None


def _registration(record: Json, entries: Sequence[SealedEntry]) -> str:
    """A registration ends again where it was appealed, or an approval was taken back: its last end counts."""
    ended, stage, case_no = _last(AuditKind.REGISTRATION_ENDED, entries), record["stage"], record["caseNo"]
    if ended is None:
        _require(stage not in ENDED, f"no entry {AuditKind.REGISTRATION_ENDED}")
        return f"it has not come to an end: no entry {AuditKind.REGISTRATION_ENDED}"
    if stage not in ENDED:
        _require(ended["facts"]["caseNo"] < case_no, f"the entry {AuditKind.REGISTRATION_ENDED} is of its end")
        return f"it goes on in another case than that of the entry {AuditKind.REGISTRATION_ENDED}"
    says = ended["outcome"], ended["facts"]["caseNo"], ended.get("after")
    digest = digest_of(ended_registration(ended["subject"], record)).hex()
    expected = stage, case_no, None if says[2] is None else digest
    _require(says == expected, f"another one than that of the entry {AuditKind.REGISTRATION_ENDED}")
    said = f" of stage and case, and nothing of the rest: {_BEFORE}" if says[2] is None else ""
    return f"the entry {AuditKind.REGISTRATION_ENDED} says the same{said}"


def _deletion(record: Json, entries: Sequence[SealedEntry]) -> str:
    done = _last(AuditKind.ACCOUNT_DELETED, entries)
    if done is None:
        _require(record["stage"] != DeletionStage.COMPLETED, f"no entry {AuditKind.ACCOUNT_DELETED}")
        return f"it has not come to an end: no entry {AuditKind.ACCOUNT_DELETED}"
    is_said = all(done["facts"][name] == record[name] for name in ("casesErased", "credentialsRemoved"))
    _require(is_said, f"another one than that of the entry {AuditKind.ACCOUNT_DELETED}")
    return f"the entry {AuditKind.ACCOUNT_DELETED} says the same"


_COMPARED: Final[Mapping[CaseKind, Callable[[Json, Sequence[SealedEntry]], str]]] = {
    CaseKind.LOGIN: _login,
    CaseKind.REGISTRATION: _registration,
    CaseKind.DELETION: _deletion,
}


def _last(kind: AuditKind, entries: Sequence[SealedEntry]) -> Json | None:
    return next((entry.body for entry in reversed(entries) if entry.kind == kind), None)


def _agree(facts: Json, told: Json) -> bool:
    """Tell whether what an entry says of these is what the record tells."""
    return all(facts[name] == value for name, value in told.items() if name in facts)


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - what is required comes first
    if not holds:
        raise ContradictedError(otherwise)
