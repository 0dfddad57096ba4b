"""What of one case convinces a third party, in one file: the decision, its history, its audit entries, all signed.

The same case gives the same bytes, whoever exports it and when: of a case that is over nothing changes any more, its
entries are proved under the first tree head that they came under, and that it was exported before is not a part of it.
Of a case that is open the bundle says so, and up to which event each history goes; as long as nothing happens in it,
that is the same as well.
docs/evidence-bundle.md has the format for whoever checks it with other tools.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from domain.audit import AuditKind
from domain.cases import CaseAddress, CaseKind, Step
from domain.certificates import canonical_json, instant
from domain.framing import framed
from domain.log_proofs import ProvedEntry
from domain.masking import masked
from domain.stored_zip import write_zip
from domain.tokens import Role

FORMAT: Final = "comitia-evidence/1"  # of a case that is over
FORMAT_2: Final = "comitia-evidence/2"  # of one that is open, and of a vote
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "signature.json"
DECISION: Final = "decision.json"
TIMELINE: Final = "timeline.json"
RECEIPT: Final = "receipt.json"
OPEN: Final = "open"
SHOWN_TO: Final = (Role.COMPLIANCE,)  # what a bundle shows in the clear is what this role sees, whoever exports it
# They say that somebody has looked or taken a copy, and no more
NOT_OF_THE_CASE: Final = frozenset({AuditKind.EVIDENCE_EXPORTED.value, AuditKind.HISTORY_READ.value})
_OF_AN_END: Final = ("stage", "reasons", "staffReasons", "caseNo", "policyVersion", "cases", "beganAt", "changedAt")

Json = dict[str, Any]


class EvidenceReason(StrEnum):
    """Why somebody needs the evidence; a code, as in every entry."""

    COMPLAINT = "complaint"
    DATA_SUBJECT = "data_subject"  # asks for what is known of them
    REGULATOR = "regulator"
    COURT = "court"
    AUDIT = "audit"
    SUSPECTED_FRAUD = "suspected_fraud"


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run of a process of the case: `events` is its history as it is kept, every payload encrypted.

    `last_event` is the id of the last event of one that is open, and 0 of a closed one.

    `left_out` says why there are no events. `builds` are the versions of the code that ran it, in the order in which
    they came to it. `steps` are what it did; their payloads are there where the key still is.
    """

    workflow_id: str
    run_id: str
    workflow_type: str
    builds: tuple[str, ...] = ()
    events: bytes = field(default=b"", repr=False)
    left_out: str = ""
    is_opened: bool = True
    last_event: int = 0
    steps: tuple[Step, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """What the directory keeps of a case at one instant: `decision` (None where nothing), and where its entries are.

    A place is None where an entry has none yet.
    """

    decision: Json | None = field(repr=False)
    places: Sequence[int | None]


@dataclass(frozen=True, slots=True)
class CaseEvidence:
    """Everything that goes into a bundle. `decision` has what the directory keeps; None where it keeps nothing."""

    address: CaseAddress
    decision: Json | None = field(repr=False)
    runs: Sequence[RecordedRun]
    entries: Sequence[ProvedEntry]
    receipt: bytes = field(default=b"", repr=False)  # of a vote, as its voter can have it

    @property
    def is_open(self) -> bool:
        """Tell whether a process of the case was not over."""
        return any(run.last_event for run in self.runs)

    @property
    def format(self) -> str:
        """The first format that can say all of this."""
        return FORMAT_2 if self.is_open or self.address.kind is CaseKind.SUBMISSION else FORMAT


@dataclass(frozen=True, slots=True)
class UnsignedBundle:
    """A bundle that nobody has signed yet: its manifest, and the files that it lists."""

    format: str
    manifest: bytes
    files: Sequence[tuple[str, bytes]] = field(repr=False)

    @property
    def message(self) -> bytes:
        """What is to be signed."""
        return signed_bytes(self.format, self.manifest)

    def signed(self, key_id: str, signature: bytes) -> bytes:
        """Return the bundle's file, with a signature (64 bytes of Ed25519) of the message."""
        value = canonical_json({"keyId": key_id, "signature": signature.hex()})
        return write_zip([(MANIFEST, self.manifest), (SIGNATURE, value), *self.files])


def bundle_of(evidence: CaseEvidence) -> UnsignedBundle:
    """Return the bundle of a case; the same evidence gives the same bytes, and under one key the same signature."""
    files = _files(evidence)
    return UnsignedBundle(evidence.format, canonical_json(_manifest(evidence, files)), files)


def signed_bytes(form: str, manifest: bytes) -> bytes:
    """Return what is signed of a manifest of a format."""
    return framed(form.encode(), manifest)


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """What checks bundles: the keys that they are signed with, by id, and those of audit logs, a line each."""

    bundles: Mapping[str, bytes]
    logs: Sequence[str]

    def document(self) -> Json:
        """Return the keys as one document, which `comitia verify bundle` takes."""
        return {
            "keys": [{"keyId": key_id, "publicKey": key.hex()} for key_id, key in self.bundles.items()],
            "verifierKeys": list(self.logs),
        }


def judged_login(attempt_id: str, verdict: Json, signals: Json) -> Json:
    """Return what the entry of a login's decision has the digest of."""
    return {"attempt": attempt_id, "verdict": verdict, "signals": signals}


def ended_registration(registration_id: str, record: Json) -> Json:
    """Return what the entry of a registration's end has the digest of: its id, and the decision as its record shows it.

    That is the stage that ended it, the reasons that its person was told and those for staff, the number of its case,
    the version of the policy where it is known, every case with its provider and the reference there, and both
    instants. Codes and ids, and nothing of a person; the references and instants are known to nobody who has the entry
    alone, so that trying codes out leads to none. A member that a record has besides is not a part of it.
    """
    return {"registration": registration_id, **{name: record[name] for name in _OF_AN_END if name in record}}


def digest_of(document: Json) -> bytes:
    """Return the SHA-256 of a document in its one form."""
    return sha256(canonical_json(document)).digest()


def _files(evidence: CaseEvidence) -> list[tuple[str, bytes]]:
    files = [
        (DECISION, canonical_json({"record": evidence.decision})),
        (TIMELINE, canonical_json({"steps": _timeline(evidence)})),
    ]
    if evidence.receipt:
        files.append((RECEIPT, evidence.receipt))
    files += [(_history_name(n), run.events) for n, run in enumerate(evidence.runs, start=1) if not run.left_out]
    for proved in evidence.entries:
        files.append((_entry_name(proved), proved.entry))
        files.append((_proof_name(proved), proved.proof.text))
    return files


def _manifest(evidence: CaseEvidence, files: Sequence[tuple[str, bytes]]) -> Json:
    address = evidence.address
    return {
        "format": evidence.format,
        **({"state": OPEN} if evidence.is_open else {}),
        "case": address.case_id,
        "kind": address.kind.value,
        "cell": address.cell,
        "files": [
            {"name": name, "sha256": sha256(content).hexdigest(), "size": len(content)} for name, content in files
        ],
        "histories": [_history(n, run) for n, run in enumerate(evidence.runs, start=1)],
        "entries": [
            {
                "file": _entry_name(proved),
                "proof": _proof_name(proved),
                "index": proved.proof.index,
                "kind": json.loads(proved.entry)["kind"],
            }
            for proved in evidence.entries
        ],
    }


def _history(number: int, run: RecordedRun) -> Json:
    return {
        "workflow": run.workflow_id,
        "run": run.run_id,
        "type": run.workflow_type,
        "builds": list(run.builds),
        **({"leftOut": run.left_out} if run.left_out else {"file": _history_name(number)}),
        **({} if run.is_opened else {"payloads": "key_destroyed"}),
        **({"lastEvent": run.last_event} if run.last_event else {}),
    }


def _timeline(evidence: CaseEvidence) -> list[Json]:
    steps = [(step, run) for run in evidence.runs for step in run.steps]
    steps.sort(key=lambda found: found[0].at)  # of one instant they stay as their histories have them
    return [{"run": run.run_id, **_step(step)} for step, run in steps]


def _step(step: Step) -> Json:
    """Return a step as `SHOWN_TO` sees it; empty fields are left out."""
    told = {
        "at": instant(step.at),
        "kind": step.kind.value,
        "process": step.process,
        "name": step.name,
        "state": step.state,
        "attempts": step.attempts,
        "endedAt": _moment(step.ended_at),
        "until": _moment(step.until),
        "code": step.code,
        "by": step.by,
        "given": None if step.given is None else masked(step.given, SHOWN_TO),
        "came": None if step.came is None else masked(step.came, SHOWN_TO),
    }
    return {name: value for name, value in told.items() if value}


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else instant(moment.astimezone(UTC))


def _history_name(number: int) -> str:
    return f"histories/{number}.history"


def _entry_name(proved: ProvedEntry) -> str:
    return f"entries/{proved.proof.index}.json"


def _proof_name(proved: ProvedEntry) -> str:
    return f"entries/{proved.proof.index}.tlog-proof"
