"""Whether the record of a case says the same as its entries, which were written in the transaction of the decision."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from domain.account_ends import DeletionStage
from domain.audit import AuditKind
from domain.cases import CaseKind
from domain.evidence_bundles import Json, digest_of
from domain.registrations import ENDED


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


@dataclass(frozen=True, slots=True)
class _Rule:
    """Which entry goes with a record, whether the record has to have one, and whether the two say the same."""

    entry: AuditKind
    is_over: Callable[[Json], bool]
    is_said: Callable[[Json, Json], bool]

    def __call__(self, record: Json, entries: Sequence[SealedEntry]) -> str:
        body = _last(self.entry, entries)
        if body is None:
            _require(not self.is_over(record), f"no entry {self.entry}")
            return f"it has not come to an end: no entry {self.entry}"
        _require(self.is_said(record, body), f"another one than that of the entry {self.entry}")
        return f"the entry {self.entry} says the same"


def _last(kind: AuditKind, entries: Sequence[SealedEntry]) -> Json | None:
    return next((entry.body for entry in reversed(entries) if entry.kind == kind), None)


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - what is required comes first
    if not holds:
        raise ContradictedError(otherwise)


def _is_login(record: Json, body: Json) -> bool:
    judged = record["judged"]
    says: tuple[Any, Any] = body["after"], body["facts"]["policyVersion"]
    return says == (digest_of(judged).hex(), judged["verdict"]["policy_version"])


def _is_registration(record: Json, body: Json) -> bool:
    """Of a registration that goes on after an end, the next case does: it was appealed."""
    stage, case_no, ended = record["stage"], record["caseNo"], body["facts"]["caseNo"]
    if stage not in ENDED:
        return bool(ended < case_no)
    return (body["outcome"], ended) == (stage, case_no)


def _is_deletion(record: Json, body: Json) -> bool:
    return all(body["facts"][name] == record[name] for name in ("casesErased", "credentialsRemoved"))


_COMPARED: Final[Mapping[CaseKind, Callable[[Json, Sequence[SealedEntry]], str]]] = {
    CaseKind.LOGIN: _Rule(AuditKind.LOGIN_DECIDED, lambda _: True, _is_login),
    CaseKind.REGISTRATION: _Rule(
        AuditKind.REGISTRATION_ENDED, lambda record: record["stage"] in ENDED, _is_registration
    ),
    CaseKind.DELETION: _Rule(
        AuditKind.ACCOUNT_DELETED, lambda record: record["stage"] == DeletionStage.COMPLETED, _is_deletion
    ),
}
