"""Recorded decisions judged again under another policy: from what was kept of each, and nothing is asked or changed."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Protocol

from domain.contracts.login import LoginVerdict
from domain.contracts.registration import CaseFinding, IdentityDecision, RegistrationRules, VerifiedIdentity
from domain.contracts.rejudging import (
    DecisionProcess,
    JudgedOutcome,
    OutcomeChange,
    RejudgedCounts,
    RejudgedDecision,
    RejudgedPart,
    RejudgementState,
)
from domain.login_policies import login_policy_of
from domain.login_risk import LOGIN_POLICIES, LoginPolicy
from domain.logins import LoginAttempt, rejudge
from domain.registration import AGE_CLASSES, Reason, refusal_of
from domain.replay import Verdict

SAMPLE_MAX: Final = 50
POLICY_BYTES_MAX: Final = 16_384

# Why it cannot be said, besides what kept a history from being read
NOT_REPRODUCED: Final = "not_reproduced"  # under its own policy it comes to something else: code or record has changed
NOTHING_FOUND: Final = "nothing_found"  # the provider's finding is not in the history

_IF_NOT_CLAIMED: Final = "if_not_claimed"  # whether the document was another person's was not asked then


@dataclass(frozen=True, slots=True)
class KeptIdentity:
    """A decision on somebody's identity with what it was made from; `finding` is the provider's last word before it."""

    workflow_id: str
    at: datetime
    rules: RegistrationRules
    decided: VerifiedIdentity
    finding: CaseFinding | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A decision of which nothing can be read, and why, as a code."""

    subject: str
    why: str


Kept = LoginAttempt | KeptIdentity | Unreadable
Judge = Callable[[Kept], RejudgedDecision]


class KeptDecisions(Protocol):
    """The recorded decisions of one process in one cell."""

    async def between(self, since: datetime, until: datetime, most: int | None) -> Sequence[Kept] | None:
        """Return those of at or after the one instant and before the other; None where there are more than `most`.

        Raises DomainError where they cannot be read now, by a retryable code.
        """
        ...


@dataclass(frozen=True, slots=True)
class IdentityPolicy:
    """What a policy of registration says of an approval: from which age on (0, 16 or 18 years) somebody may register.

    Regions and providers are chosen before anything is decided, so nothing follows from them here.
    """

    version: int
    minimum_age: int


def judge_under(process: DecisionProcess, policy: str) -> Judge:
    """Return what judges the decisions of a process under a policy, a JSON document.

    Raises:
        ValueError: it is no policy of this process; the text says where.
    """
    if len(policy.encode()) > POLICY_BYTES_MAX:
        raise ValueError(f"a policy has at most {POLICY_BYTES_MAX:,} bytes")
    document = _document(policy)
    if process is DecisionProcess.LOGIN:
        login = login_policy_of(document)
        return lambda kept: _unreadable(kept) if isinstance(kept, Unreadable) else _rejudge_login(kept, login)
    identity = _identity_policy(document)
    return lambda kept: _unreadable(kept) if isinstance(kept, Unreadable) else _rejudge_identity(kept, identity)


def _document(policy: str) -> dict[str, Any]:
    try:
        document = json.loads(policy, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError("a policy is JSON") from error
    if isinstance(document, dict):
        return document
    raise ValueError("a policy is a JSON object")


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _identity_policy(document: dict[str, Any]) -> IdentityPolicy:
    if document.keys() != {"version", "minimum_age"}:
        raise ValueError("a policy of identity has `version` and `minimum_age`: earlier ones are in no table")
    version, age = document["version"], document["minimum_age"]
    if type(version) is not int or version < 1:
        raise ValueError("`version` is a number from 1")
    if type(age) is not int or age not in AGE_CLASSES:
        raise ValueError(f"`minimum_age` is one of {', '.join(map(str, AGE_CLASSES))}")
    return IdentityPolicy(version, age)


def _unreadable(kept: Unreadable) -> RejudgedDecision:
    return RejudgedDecision(subject=kept.subject, verdict=Verdict.CANNOT, why=kept.why)


def _rejudge_login(kept: Kept, policy: LoginPolicy) -> RejudgedDecision:
    assert isinstance(kept, LoginAttempt)
    own = LOGIN_POLICIES.get(kept.verdict.policy_version)
    about: dict[str, Any] = {
        "subject": kept.attempt_id,
        "at": kept.at,
        "policy_version": kept.verdict.policy_version,
        "before": _of_login(kept.verdict),
    }
    if own is not None and rejudge(kept, own) != kept.verdict:
        return RejudgedDecision(verdict=Verdict.CANNOT, why=NOT_REPRODUCED, **about)
    return _compared(_of_login(rejudge(kept, policy)), **about)


def _of_login(verdict: LoginVerdict) -> JudgedOutcome:
    return JudgedOutcome(
        decision=verdict.decision.value, reasons=verdict.reasons, score_permille=verdict.score_permille
    )


def _rejudge_identity(kept: Kept, policy: IdentityPolicy) -> RejudgedDecision:
    assert isinstance(kept, KeptIdentity)
    before = JudgedOutcome(decision=kept.decided.decision.value, reasons=kept.decided.reasons)
    about: dict[str, Any] = {
        "subject": kept.workflow_id,
        "at": kept.at,
        "policy_version": kept.rules.version,
        "before": before,
    }
    if not _is_of_our_rules(kept.decided):
        return _compared(before, **about)
    if kept.finding is None:
        return RejudgedDecision(verdict=Verdict.CANNOT, why=NOTHING_FOUND, **about)
    if not _reproduced(kept.decided, _refusal(kept.finding, kept.rules.minimum_age)):
        return RejudgedDecision(verdict=Verdict.CANNOT, why=NOT_REPRODUCED, **about)
    refusal = _refusal(kept.finding, policy.minimum_age)
    if refusal is not None:
        return _compared(JudgedOutcome(decision=IdentityDecision.REFUSED.value, reasons=(refusal.value,)), **about)
    if kept.decided.decision is IdentityDecision.APPROVED:
        return _compared(before, **about)
    approved = JudgedOutcome(decision=IdentityDecision.APPROVED.value, reasons=(_IF_NOT_CLAIMED,))
    return _compared(approved, **about)


def _is_of_our_rules(decided: VerifiedIdentity) -> bool:
    """Tell whether a rule of the policy has decided: it has let somebody through, or refused them by itself."""
    by_rule = {Reason.UNDER_AGE.value, Reason.DUPLICATE_FACE.value}
    return decided.decision is IdentityDecision.APPROVED or (
        decided.decision is IdentityDecision.REFUSED and bool(by_rule.intersection(decided.reasons))
    )


def _refusal(finding: CaseFinding, minimum_age: int) -> Reason | None:
    return refusal_of(same_face=finding.same_face, age_class=finding.age_class, minimum_age=minimum_age)


def _reproduced(decided: VerifiedIdentity, refusal: Reason | None) -> bool:
    if decided.decision is IdentityDecision.APPROVED:
        return refusal is None
    return refusal is not None and refusal.value in decided.reasons


def _compared(after: JudgedOutcome, *, before: JudgedOutcome, **about: Any) -> RejudgedDecision:
    verdict = Verdict.SAME if after.decision == before.decision else Verdict.DIFFERENT
    return RejudgedDecision(verdict=verdict, before=before, after=after, **about)


def part_of(until: datetime, found: Sequence[RejudgedDecision]) -> RejudgedPart:
    """Return what these decisions come to together; they are everything that was kept before `until`."""
    verdicts = Counter(each.verdict for each in found)
    changes = Counter(
        (each.before.decision, each.after.decision)
        for each in found
        if each.verdict is Verdict.DIFFERENT and each.before is not None and each.after is not None
    )
    return RejudgedPart(
        until=until,
        counts=RejudgedCounts(
            same=verdicts[Verdict.SAME],
            different=verdicts[Verdict.DIFFERENT],
            cannot=verdicts[Verdict.CANNOT],
            changes=_changes(changes),
        ),
        sample=_sample([each for each in found if each.verdict is not Verdict.SAME]),
    )


def joined(first: RejudgedPart, second: RejudgedPart) -> RejudgedPart:
    """Return two parts as one, the second of which follows on the first."""
    one, other = first.counts, second.counts
    changes = Counter({(each.before, each.after): each.count for each in one.changes})
    changes.update({(each.before, each.after): each.count for each in other.changes})
    return RejudgedPart(
        until=second.until,
        counts=RejudgedCounts(
            same=one.same + other.same,
            different=one.different + other.different,
            cannot=one.cannot + other.cannot,
            changes=_changes(changes),
        ),
        sample=_sample([*first.sample, *second.sample]),
    )


def after_part(state: RejudgementState, part: RejudgedPart) -> RejudgementState:
    """Return how far a comparison is once a further part is judged."""
    so_far = RejudgedPart(until=state.judged_until, counts=state.counts, sample=state.sample)
    now = joined(so_far, part)
    return state.model_copy(update={"judged_until": now.until, "counts": now.counts, "sample": now.sample})


def _changes(counted: Counter[tuple[str, str]]) -> tuple[OutcomeChange, ...]:
    return tuple(
        OutcomeChange(before=before, after=after, count=count) for (before, after), count in sorted(counted.items())
    )


def _sample(found: Sequence[RejudgedDecision]) -> tuple[RejudgedDecision, ...]:
    """Return those whose ids have the smallest digests: any of them as likely, and the same ones whoever asks again."""
    return tuple(sorted(found, key=lambda each: sha256(each.subject.encode()).digest())[:SAMPLE_MAX])
