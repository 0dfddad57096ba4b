"""The catalogue of audit entries: what is written down of each kind of act, and the one form in which it is sealed.

An entry names whoever acted, and a case: a survey, a login, a registration, a deletion, a member of staff. It never
names a voter, an address or a choice, since it is kept for good and shown to auditors. The case's row says whose it is
for as long as that may be known.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from domain.certificates import canonical_json, instant
from domain.ids import (
    ATTEMPT_ID,
    DELETION_ID,
    RECOVERY_ID,
    REGISTRATION_ID,
    REJUDGEMENT_ID,
    REPLAY_ID,
    STAFF_ID,
    SURVEY_ID,
)

ENTRY_MAX: Final = 65_535  # bytes of one entry in a log, as C2SP tlog-tiles has them
CATALOGUE_LOG: Final = "catalogue"  # the log of the catalogue's database; a cell's goes by the cell's name
_DIGEST_BYTES: Final = 32

_ACTOR = re.compile(r"[a-z]+:[A-Za-z0-9_.@-]{1,80}")
_CODE = re.compile(r"[a-z0-9_.,:-]{0,256}")
_CLIENT_ID = re.compile(r"c_[a-z2-7]{16}")
_KEY_ID = re.compile(r"[a-z][a-z0-9/-]{0,127}/[0-9]{4}-[0-9]{2}-[0-9]{2}/[1-9][0-9]{0,5}")
_NOTHING = re.compile("")
_LONG_WORK = re.compile(r"[jw]_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}")
_STAFF_SESSION = re.compile(r"t_[a-z2-7]{26}")
_CASE_OR_VOTE = re.compile(r"[radq]_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}|[A-Za-z0-9_-]{56}")  # a vote by its submission
_A_CASE = re.compile(r"[radq]_[a-z][a-z0-9]{0,15}_[a-z2-7]{26}")


class AuditKind(StrEnum):
    """What happened; stored for good, so a kind is added and never used again for something else."""

    VOTES_RECORDED = "votes.recorded"
    VOTE_FOR_LOST_SURVEY = "fault.vote_for_lost_survey"
    VOTE_FOR_SEALED_SURVEY = "fault.vote_for_sealed_survey"

    SURVEY_CREATED = "survey.created"
    SURVEY_UPDATED = "survey.updated"
    SURVEY_DELETED = "survey.deleted"
    SURVEY_PUBLISHED = "survey.published"
    SURVEY_CORRECTED = "survey.corrected"
    SURVEY_PAUSED = "survey.paused"
    SURVEY_RESUMED = "survey.resumed"
    SURVEY_EXTENDED = "survey.extended"
    SURVEY_FINISHED = "survey.finished"
    CERTIFICATION_ASKED = "survey.certification_asked"
    SURVEY_CERTIFIED = "survey.certified"
    SURVEY_KEYS_MADE = "survey.keys_made"
    SURVEY_BALLOTS_OPENED = "survey.ballots_opened"
    SURVEY_KEYS_DESTROYED = "survey.keys_destroyed"
    EXPORT_ASKED = "export.asked"
    EXPORT_CANCELLED = "export.cancelled"
    EXPORT_COMPLETED = "export.completed"
    EXPORT_FETCHED = "export.fetched"

    KEY_MADE = "key.made"
    KEY_DESTROYED = "key.destroyed"

    LOGIN_DECIDED = "login.decided"
    LOGIN_ENDED = "login.ended"
    REGISTRATION_ENDED = "registration.ended"
    ACCOUNT_RECOVERED = "account.recovered"
    DELETION_ASKED = "deletion.asked"
    ACCOUNT_DELETED = "deletion.completed"
    STAFF_ADDED = "staff.added"
    STAFF_DISABLED = "staff.disabled"
    STAFF_SIGNED_IN = "staff.signed_in"
    STAFF_REFUSED = "staff.refused"
    CLIENT_ADDED = "client.added"
    CLIENT_DISABLED = "client.disabled"
    ROLL_ENROLLED = "roll.enrolled"
    CASE_ACTION_ASKED = "case.action_asked"
    CASE_ACTION_TAKEN = "case.action_taken"
    CASE_UNMASKING = "case.unmasking"
    EVIDENCE_EXPORTED = "evidence.exported"
    HISTORY_DECODED = "history.decoded"
    HISTORY_READ = "history.read"
    DECISIONS_REJUDGED = "decisions.rejudged"
    EXECUTIONS_REPLAYED = "executions.replayed"
    WORK_CANCELLED = "work.cancelled"


@dataclass(frozen=True, slots=True)
class KindRule:
    """What an entry of a kind has: its subject's form, which digests, and which facts besides."""

    subject: re.Pattern[str]
    before: bool = False
    after: bool = False
    facts: frozenset[str] = frozenset()


_CHANGED: Final = KindRule(SURVEY_ID, before=True, after=True)
RULES: Final[Mapping[AuditKind, KindRule]] = {
    AuditKind.VOTES_RECORDED: KindRule(
        _NOTHING, facts=frozenset({"batch", "participations", "participationsRoot", "ballotsRoot"})
    ),
    AuditKind.VOTE_FOR_LOST_SURVEY: KindRule(_NOTHING, facts=frozenset({"batch", "survey", "code"})),
    AuditKind.VOTE_FOR_SEALED_SURVEY: KindRule(_NOTHING, facts=frozenset({"batch", "votes"})),
    AuditKind.SURVEY_CREATED: KindRule(SURVEY_ID, after=True),
    AuditKind.SURVEY_UPDATED: _CHANGED,
    AuditKind.SURVEY_DELETED: KindRule(SURVEY_ID, before=True),
    AuditKind.SURVEY_PUBLISHED: _CHANGED,
    AuditKind.SURVEY_CORRECTED: _CHANGED,
    AuditKind.SURVEY_PAUSED: _CHANGED,
    AuditKind.SURVEY_RESUMED: _CHANGED,
    AuditKind.SURVEY_EXTENDED: _CHANGED,
    AuditKind.SURVEY_FINISHED: _CHANGED,
    AuditKind.CERTIFICATION_ASKED: KindRule(SURVEY_ID),
    AuditKind.SURVEY_CERTIFIED: KindRule(SURVEY_ID, after=True),
    AuditKind.SURVEY_KEYS_MADE: KindRule(SURVEY_ID),
    # All of a survey, in every cell, to be counted again; `attempt` is which try of its certification
    AuditKind.SURVEY_BALLOTS_OPENED: KindRule(SURVEY_ID, facts=frozenset({"attempt"})),
    AuditKind.SURVEY_KEYS_DESTROYED: KindRule(SURVEY_ID),
    AuditKind.EXPORT_ASKED: KindRule(SURVEY_ID, facts=frozenset({"export", "format"})),
    AuditKind.EXPORT_CANCELLED: KindRule(SURVEY_ID, facts=frozenset({"export"})),
    # `after` is the file, whose name is the export's
    AuditKind.EXPORT_COMPLETED: KindRule(SURVEY_ID, after=True, facts=frozenset({"export"})),
    AuditKind.EXPORT_FETCHED: KindRule(SURVEY_ID, after=True, facts=frozenset({"export"})),
    AuditKind.KEY_MADE: KindRule(_KEY_ID),
    AuditKind.KEY_DESTROYED: KindRule(_KEY_ID),
    # Codes: what it was proven by, at which provider, and the further factors that would end it; and the one that did
    AuditKind.LOGIN_DECIDED: KindRule(
        ATTEMPT_ID, after=True, facts=frozenset({"policyVersion", "method", "provider", "factors"})
    ),
    AuditKind.LOGIN_ENDED: KindRule(ATTEMPT_ID, facts=frozenset({"factor"})),
    # Its digest is of `domain.evidence_bundles.ended_registration`
    AuditKind.REGISTRATION_ENDED: KindRule(REGISTRATION_ID, after=True, facts=frozenset({"caseNo"})),
    AuditKind.ACCOUNT_RECOVERED: KindRule(RECOVERY_ID, facts=frozenset({"sessionsEnded"})),
    AuditKind.DELETION_ASKED: KindRule(DELETION_ID),
    AuditKind.ACCOUNT_DELETED: KindRule(DELETION_ID, facts=frozenset({"casesErased", "credentialsRemoved"})),
    AuditKind.STAFF_ADDED: KindRule(STAFF_ID),
    AuditKind.STAFF_DISABLED: KindRule(STAFF_ID),
    # Of a session of somebody of staff, named by a hash; the outcome of a refusal is its error's code
    AuditKind.STAFF_SIGNED_IN: KindRule(_STAFF_SESSION, facts=frozenset({"service"})),
    AuditKind.STAFF_REFUSED: KindRule(_STAFF_SESSION, facts=frozenset({"service"})),
    AuditKind.CLIENT_ADDED: KindRule(_CLIENT_ID),
    AuditKind.CLIENT_DISABLED: KindRule(_CLIENT_ID),
    AuditKind.ROLL_ENROLLED: KindRule(SURVEY_ID, facts=frozenset({"persons"})),
    # Its outcome is what was asked of the process, and the stage that the case was at
    AuditKind.CASE_ACTION_ASKED: KindRule(_A_CASE, facts=frozenset({"request"})),
    AuditKind.CASE_ACTION_TAKEN: KindRule(_A_CASE, facts=frozenset({"action", "request"})),
    AuditKind.CASE_UNMASKING: KindRule(_A_CASE, facts=frozenset({"unmasking", "field"})),
    AuditKind.EVIDENCE_EXPORTED: KindRule(_CASE_OR_VOTE, after=True, facts=frozenset({"request"})),
    # `payloads` are the SHA-256 digests of what was opened, as it is sealed in the history
    AuditKind.HISTORY_DECODED: KindRule(_NOTHING, facts=frozenset({"namespace", "payloads", "count"})),
    # One for each of staff, case and ten minutes, however often its page renews itself
    AuditKind.HISTORY_READ: KindRule(_CASE_OR_VOTE),
    AuditKind.DECISIONS_REJUDGED: KindRule(REJUDGEMENT_ID, facts=frozenset({"process", "policy", "from", "to"})),
    # Of one execution, whose id says which case it is of, or of a period
    AuditKind.EXECUTIONS_REPLAYED: KindRule(
        REPLAY_ID, facts=frozenset({"workflow", "run", "type", "from", "to", "code", "source"})
    ),
    # Of a rejudgement or a replay: what was asked is one entry, and what came of it another
    AuditKind.WORK_CANCELLED: KindRule(_LONG_WORK),
}


class EntryTooLargeError(ValueError):
    """An entry does not fit into a log."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act. `actor` is `staff:u_...`, `client:c_...`, `process:...`, or `comitia:...` of a command.

    `role` is the one that it was permitted by. Who writes which kinds, and in whose name: `domain/audit_writers.py`.
    `reason` and `outcome` are codes. `before` and `after` are SHA-256 digests of what was changed, as it was and as it
    is. `facts` are ids, codes and counts, never texts of people.
    """

    kind: AuditKind
    actor: str
    subject: str
    role: str = ""
    reason: str = ""
    outcome: str = "done"
    before: bytes | None = None
    after: bytes | None = None
    facts: Mapping[str, str | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError where the entry is not what the catalogue says of its kind."""
        rule = RULES[self.kind]
        problems = {
            "actor": not _ACTOR.fullmatch(self.actor),
            "subject": not rule.subject.fullmatch(self.subject),
            "codes": not all(_CODE.fullmatch(code) for code in (self.role, self.reason, self.outcome)),
            "digests": (self.before is not None, self.after is not None) != (rule.before, rule.after)
            or any(len(digest) != _DIGEST_BYTES for digest in (self.before, self.after) if digest is not None),
            "facts": self.facts.keys() != rule.facts,
        }
        if wrong := [name for name, is_wrong in problems.items() if is_wrong]:
            raise ValueError(f"not an entry of kind {self.kind}: {', '.join(wrong)}")

    @property
    def body(self) -> dict[str, Any]:
        """What is stored beside the kind; empty fields are left out."""
        told = {
            "actor": self.actor,
            "role": self.role,
            "reason": self.reason,
            "subject": self.subject,
            "outcome": self.outcome,
            "before": self.before.hex() if self.before is not None else "",
            "after": self.after.hex() if self.after is not None else "",
            "facts": dict(self.facts),
        }
        return {name: value for name, value in told.items() if value}


def actor_of(name: str) -> str:
    """Return how entries name whoever is not named by kind: processes and commands of ours."""
    return name if _ACTOR.fullmatch(name) else f"process:{re.sub(r'[^A-Za-z0-9_.@-]', '-', name)[:80] or 'unknown'}"


def canonical_entry(entry_id: str, occurred_at: datetime, kind: str, body: Any) -> bytes:
    """Return the leaf of a stored entry: canonical JSON of its row, of any kind, also one of a later release.

    Raises:
        EntryTooLargeError: over `ENTRY_MAX`; the database keeps bodies far below it.
    """
    leaf = canonical_json({"at": instant(occurred_at), "body": body, "id": entry_id, "kind": kind})
    if len(leaf) > ENTRY_MAX:
        raise EntryTooLargeError(f"{len(leaf)} bytes")
    return leaf
