"""Entries of what is replayed and of decisions that are judged again: whoever asks, by the API or by a command."""

from datetime import datetime
from hashlib import sha256

from domain.audit import AuditEntry, AuditKind
from domain.certificates import instant
from domain.contracts.rejudging import RejudgeInput
from domain.contracts.replays import ReplayInput

_ASKED = "asked"


def replay_entry(request: ReplayInput, actor: str, role: str = "", *, code: str = "") -> AuditEntry:
    """Return the entry of a replay; `code` where it is with another one than requests name."""
    return AuditEntry(
        AuditKind.EXECUTIONS_REPLAYED,
        actor,
        request.replay_id,
        role=role,
        outcome=_ASKED,
        facts={
            "workflow": request.workflow_id,
            "run": request.run_id,
            "type": request.workflow_type,
            "from": _instant(request.since),
            "to": _instant(request.until),
            "code": code or request.code.value,
            "source": "archive" if request.archived else "server",
        },
    )


def rejudgement_entry(request: RejudgeInput, actor: str, role: str = "") -> AuditEntry:
    """Return the entry of a comparison; its policy is there as a digest."""
    return AuditEntry(
        AuditKind.DECISIONS_REJUDGED,
        actor,
        request.rejudgement_id,
        role=role,
        outcome=_ASKED,
        facts={
            "process": request.process.value,
            "policy": sha256(request.policy.encode()).hexdigest(),
            "from": instant(request.since),
            "to": instant(request.until),
        },
    )


def _instant(at: datetime | None) -> str:
    return "" if at is None else instant(at)
