"""An evidence bundle made by hand: a login, its decision, a history, and its entries in a log."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from nacl.signing import SigningKey
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import History, HistoryEvent

from domain.audit import AuditEntry, AuditKind, canonical_entry
from domain.bundle_verification import BundleKeys, read_bundle_keys
from domain.cases import CaseAddress, Step, StepKind, case_at
from domain.checkpoints import Checkpoint
from domain.contracts.login import ChallengeOutcome, LoginDecision, LoginSignals, LoginVerdict
from domain.evidence_bundles import (
    SHOWN_TO,
    CaseEvidence,
    Json,
    PublicKeys,
    RecordedRun,
    bundle_of,
    digest_of,
    judged_login,
)
from domain.log_proofs import EntryProof, ProvedEntry
from domain.masking import masked
from domain.merkle import leaf_hash
from domain.merkle_proofs import inclusion_path
from domain.merkle_tiles import GrowingTiles
from tests.log_world import ORIGIN, VERIFIER_KEY, leaf, tree_head


@dataclass(frozen=True, slots=True)
class EntryBefore:
    """An entry as a release before wrote it, with less in it than the catalogue asks for now."""

    kind: AuditKind
    body: Json


KEY_ID = "evidence-bundle/2026-01-01/1"
KEY = SigningKey(bytes(range(1, 33)))
BEGAN = datetime(2026, 1, 2, tzinfo=UTC)
CASE = f"a_eu_{'a' * 26}"
SIGNALS = LoginSignals(my_logins=3, all_logins=90, sightings=(), challenge=ChallengeOutcome.PASSED, device_known=True)
VERDICT = LoginVerdict(decision=LoginDecision.CHALLENGE, score_permille=12, reasons=(), policy_version=1)
PUBLIC_KEYS = PublicKeys({KEY_ID: bytes(KEY.verify_key)}, [VERIFIER_KEY])
HISTORY = History(
    events=[
        HistoryEvent(event_id=1, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED),
        HistoryEvent(event_id=2, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED),
    ]
).SerializeToString(deterministic=True)


def keys() -> BundleKeys:
    """Return what a machine has that checks bundles."""
    return read_bundle_keys(json.dumps(PUBLIC_KEYS.document()).encode())


def address(case_id: str = CASE) -> CaseAddress:
    found = case_at(case_id)
    assert found is not None
    return found


def judged() -> Json:
    return judged_login(CASE, masked(VERDICT, SHOWN_TO), masked(SIGNALS, SHOWN_TO))


def decided(**fields: Any) -> AuditEntry:
    """Return the entry of the decision."""
    facts = {"policyVersion": 1, "method": "password", "provider": "", "factors": "totp,mail_code"}
    told = {"outcome": "challenge", "after": digest_of(judged()), "facts": facts, **fields}
    return AuditEntry(AuditKind.LOGIN_DECIDED, "process:assess-login", CASE, **told)


def ended(case: str = CASE, outcome: str = "stepped_up", factor: str = "totp") -> AuditEntry:
    """Return the entry of how a login ended."""
    return AuditEntry(AuditKind.LOGIN_ENDED, "process:auth", case, outcome=outcome, facts={"factor": factor})


def record(**fields: Any) -> Json:
    """Return the record of the login; `fields` take the place of its own."""
    return {
        "judged": judged(),
        "method": "password",
        "provider": "",
        "factors": ["totp", "mail_code"],
        "outcome": "stepped_up",
        "factor": "totp",
        "at": "2026-01-02T00:00:00.000000Z",
        "endedAt": "2026-01-02T00:00:01.000000Z",
        **fields,
    }


def proved(*entries: AuditEntry | EntryBefore, origin: str = ORIGIN) -> list[ProvedEntry]:
    """Return entries with their proofs, each third one of a log."""
    leaves = [leaf(number) for number in range(3 * len(entries) + 2)]
    for n, entry in enumerate(entries):
        at = BEGAN + timedelta(seconds=n)
        leaves[3 * n + 1] = canonical_entry(str(UUID(int=900 + n)), at, entry.kind, entry.body)
    tree = GrowingTiles()
    tree.extend(map(leaf_hash, leaves))
    note, hashes = tree_head(tree, origin=origin)[1], [leaf_hash(each) for each in leaves]
    head = Checkpoint(origin, tree.size, tree.root())
    return [
        ProvedEntry(leaves[place], head, EntryProof(place, tuple(inclusion_path(hashes, place)), note))
        for place in range(1, 3 * len(entries) + 1, 3)
    ]


def evidence(**fields: Any) -> CaseEvidence:
    """Return the evidence of a login; `fields` take the place of its own."""
    step = Step(
        at=BEGAN, kind=StepKind.ACTIVITY, process="AssessLogin", name="record_login", state="completed", came=VERDICT
    )
    run = RecordedRun(
        f"assess-login/eu/{CASE}",
        str(UUID(int=7)),
        "AssessLogin",
        ("build-1",),
        HISTORY,
        steps=(step,),
    )
    made = {
        "address": address(),
        "decision": record(),
        "runs": [run],
        "entries": proved(decided(), ended()),
        **fields,
    }
    return CaseEvidence(**made)


def signed(made: CaseEvidence, key: SigningKey = KEY, key_id: str = KEY_ID) -> bytes:
    """Return the bundle of some evidence."""
    unsigned = bundle_of(made)
    return unsigned.signed(key_id, key.sign(unsigned.message).signature)
