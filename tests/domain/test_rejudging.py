"""Recorded decisions under another policy: what changes, what does not, and what nobody can say."""

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from domain.contracts.login import ChallengeOutcome, LoginDecision, LoginSignals
from domain.contracts.registration import (
    CaseFinding,
    HashedValue,
    IdentityDecision,
    RegistrationRules,
    VerifiedIdentity,
)
from domain.contracts.rejudging import DecisionProcess, JudgedOutcome, OutcomeChange, RejudgedDecision, RejudgementState
from domain.login_policies import login_policy_of
from domain.login_risk import CURRENT_LOGIN_POLICY, LOGIN_POLICIES, LoginReason, judge_login
from domain.logins import LoginAttempt
from domain.rejudging import (
    NOT_REPRODUCED,
    NOTHING_FOUND,
    POLICY_BYTES_MAX,
    SAMPLE_MAX,
    KeptIdentity,
    Unreadable,
    after_part,
    joined,
    judge_under,
    part_of,
)
from domain.replay import Verdict
from domain.sessions import LoginMethod

AT = datetime(2026, 5, 7, tzinfo=UTC)
DOCUMENT = (HashedValue(key_id="document/1", digest=bytes(32)),)


def attempt(**signals: Any) -> LoginAttempt:
    kept = LoginSignals(
        my_logins=0, all_logins=0, sightings=(), challenge=ChallengeOutcome.PASSED, device_known=True
    ).model_copy(update=signals)
    return LoginAttempt(
        attempt_id="a_eu_x",
        voter_id="v_eu_x",
        method=LoginMethod.PASSKEY,
        jkt="k",
        signals=kept,
        verdict=judge_login(kept, CURRENT_LOGIN_POLICY),
        factors=(),
        outcome=None,
        at=AT,
    )


def proofing(decided: VerifiedIdentity, minimum_age: int = 16, **finding: Any) -> KeptIdentity:
    found = CaseFinding(state="approved", documents=DOCUMENT, age_class=16).model_copy(update=finding)
    return KeptIdentity(
        workflow_id="verify-identity/eu/r/1",
        at=AT,
        rules=RegistrationRules(version=3, minimum_age=minimum_age, provider="sumsub"),
        decided=decided,
        finding=found,
    )


APPROVED = VerifiedIdentity(decision="approved", person_id="p_somebody")
UNDER_AGE = VerifiedIdentity(decision="refused", reasons=("under_age",))


def again(kept: Any, process: DecisionProcess = DecisionProcess.IDENTITY, **policy: Any) -> RejudgedDecision:
    return judge_under(process, json.dumps({"version": 2, **policy}))(kept)


def test_a_login_is_the_same_under_its_own_policy_and_may_change_under_another() -> None:
    judge = judge_under(DecisionProcess.LOGIN, '{"version": 1}')
    found = judge(attempt())
    assert (found.verdict, found.before, found.after) == (Verdict.SAME, found.before, found.before)
    assert (found.subject, found.at, found.policy_version) == ("a_eu_x", AT, 1)
    strict = again(attempt(), DecisionProcess.LOGIN, challenge_from_permille=0)
    assert strict.verdict is Verdict.DIFFERENT
    assert strict.before is not None
    assert strict.after is not None
    assert (strict.before.decision, strict.after.decision) == ("ALLOW", "CHALLENGE")
    assert "v_eu_x" not in strict.model_dump_json()


def test_another_score_or_reason_alone_is_no_other_outcome() -> None:
    found = again(attempt(), DecisionProcess.LOGIN, prior_log_odds=-5.0)
    assert found.before is not None
    assert found.after is not None
    assert found.before.score_permille != found.after.score_permille
    assert found.verdict is Verdict.SAME


def test_a_login_that_its_own_policy_does_not_lead_to_cannot_be_judged() -> None:
    kept = attempt()
    for verdict in (
        kept.verdict.model_copy(update={"decision": LoginDecision.DENY}),
        kept.verdict.model_copy(update={"score_permille": kept.verdict.score_permille + 1}),
        kept.verdict.model_copy(update={"reasons": ("failures",)}),
    ):
        found = again(replace(kept, verdict=verdict), DecisionProcess.LOGIN, challenge_from_permille=0)
        assert (found.verdict, found.why, found.after) == (Verdict.CANNOT, NOT_REPRODUCED, None)
    unknown = replace(kept, verdict=kept.verdict.model_copy(update={"policy_version": 77}))
    assert again(unknown, DecisionProcess.LOGIN, challenge_from_permille=0).verdict is Verdict.DIFFERENT


@pytest.mark.parametrize(
    ("kept", "minimum_age", "verdict", "after"),
    [
        (proofing(APPROVED), 16, Verdict.SAME, ("approved", ())),
        (proofing(APPROVED), 0, Verdict.SAME, ("approved", ())),
        (proofing(APPROVED), 18, Verdict.DIFFERENT, ("refused", ("under_age",))),
        (proofing(APPROVED, age_class=18), 18, Verdict.SAME, ("approved", ())),
        (proofing(UNDER_AGE, 18), 16, Verdict.DIFFERENT, ("approved", ("if_not_claimed",))),
        (proofing(UNDER_AGE, 18), 18, Verdict.SAME, ("refused", ("under_age",))),
        (
            proofing(VerifiedIdentity(decision="refused", reasons=("duplicate_face",)), same_face=True),
            0,
            Verdict.SAME,
            ("refused", ("duplicate_face",)),
        ),
        (
            proofing(VerifiedIdentity(decision="refused", reasons=("already_registered",))),
            18,
            Verdict.SAME,
            ("refused", ("already_registered",)),
        ),
        (
            proofing(VerifiedIdentity(decision="rejected", reasons=("forged",)), state="rejected"),
            0,
            Verdict.SAME,
            ("rejected", ("forged",)),
        ),
        (proofing(VerifiedIdentity(decision="expired")), 0, Verdict.SAME, ("expired", ())),
    ],
)
def test_an_identity_follows_the_age_of_the_policy_and_nothing_else(
    kept: KeptIdentity, minimum_age: int, verdict: Verdict, after: tuple[str, tuple[str, ...]]
) -> None:
    found = again(kept, minimum_age=minimum_age)
    assert found.after == JudgedOutcome(decision=after[0], reasons=after[1])
    assert (found.verdict, found.policy_version, found.why) == (verdict, 3, "")
    assert "p_somebody" not in found.model_dump_json()


def test_an_identity_without_its_finding_or_with_another_cannot_be_judged() -> None:
    gone = again(replace(proofing(APPROVED), finding=None), minimum_age=18)
    assert (gone.verdict, gone.why) == (Verdict.CANNOT, NOTHING_FOUND)
    for kept in (proofing(APPROVED, 18), proofing(UNDER_AGE, 16), proofing(APPROVED, same_face=True)):
        found = again(kept, minimum_age=18)
        assert (found.verdict, found.why) == (Verdict.CANNOT, NOT_REPRODUCED)


@pytest.mark.parametrize("process", DecisionProcess)
def test_what_cannot_be_read_says_why(process: DecisionProcess) -> None:
    policy = {"minimum_age": 16} if process is DecisionProcess.IDENTITY else {"unlike_from": 2}
    found = again(Unreadable("w", "key_destroyed"), process, **policy)
    assert (found.subject, found.verdict, found.why) == ("w", Verdict.CANNOT, "key_destroyed")


def test_a_version_of_the_table_is_taken_by_its_number_and_others_differ_from_the_current_one() -> None:
    assert login_policy_of({"version": 1}) is LOGIN_POLICIES[1]
    given = login_policy_of({"version": 9, "adds": {"new_device": 2.5}, "forces": {"failures": "DENY"}})
    assert given.adds == {LoginReason.NEW_DEVICE: 2.5}
    assert given.forces == {LoginReason.FAILURES: LoginDecision.DENY}
    assert replace(given, version=1, adds=CURRENT_LOGIN_POLICY.adds, forces=CURRENT_LOGIN_POLICY.forces) == (
        CURRENT_LOGIN_POLICY
    )


WEIGHTS = {"network": [0.6, 0.25, 0.1], "client": [0.6, 0.25, 0.1], "device": [0.9]}


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "[]",
        "1",
        "{",
        "[" * 10_000,
        '{"version": NaN}',
        "{}",
        '{"version": 0}',
        '{"version": true}',
        '{"version": "1"}',
        '{"version": 77}',
        '{"version": 1, "unlike_from": 2}',
        '{"version": 2, "unlike": 2}',
        '{"version": 2, "unlike_from": "2"}',
        '{"version": 2, "unlike_from": true}',
        '{"version": 2, "unlike_from": 1e300}',
        '{"version": 2, "failures_per_hour": 2.5}',
        '{"version": 2, "failures_per_hour": -1}',
        '{"version": 2, "challenge_from_permille": 1001}',
        '{"version": 2, "challenge_from_permille": 960}',
        '{"version": 2, "prior_logins": 0}',
        '{"version": 2, "adds": {"nothing": 1}}',
        '{"version": 2, "adds": {"failures": "much"}}',
        '{"version": 2, "adds": {"failures": 1e300}}',
        '{"version": 2, "forces": {"failures": "BURN"}}',
        '{"version": 2, "level_weights": {"network": [0.6]}}',
        json.dumps({"version": 2, "level_weights": {**WEIGHTS, "device": [1.0]}}),
        json.dumps({"version": 2, "level_weights": {**WEIGHTS, "device": [-0.1]}}),
        json.dumps({"version": 2, "adds": {}, "x" * POLICY_BYTES_MAX: 1}),
    ],
)
def test_what_is_no_policy_of_logins_is_refused(policy: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        judge_under(DecisionProcess.LOGIN, policy)


@pytest.mark.parametrize(
    "policy",
    [
        '{"version": 1}',
        '{"version": 2, "minimum_age": 17}',
        '{"version": 2, "minimum_age": true}',
        '{"version": 2, "minimum_age": 16, "regions": []}',
        '{"version": "2", "minimum_age": 16}',
    ],
)
def test_what_is_no_policy_of_identity_is_refused(policy: str) -> None:
    with pytest.raises(ValueError, match=r"version|minimum_age"):
        judge_under(DecisionProcess.IDENTITY, policy)


def decisions(count: int) -> list[RejudgedDecision]:
    chance = random.Random(7)
    made = []
    for number in range(count):
        before, after = (JudgedOutcome(decision=chance.choice(["ALLOW", "CHALLENGE", "DENY"])) for _ in range(2))
        verdict = Verdict.SAME if before == after else Verdict.DIFFERENT
        if chance.random() < 0.1:
            verdict = Verdict.CANNOT
        made.append(RejudgedDecision(subject=f"a_{number}", verdict=verdict, before=before, after=after))
    return made


def test_parts_come_to_the_same_however_a_period_is_divided() -> None:
    found, ends = decisions(400), AT + timedelta(hours=1)
    whole = part_of(ends, found)
    assert whole.counts.same + whole.counts.different + whole.counts.cannot == 400
    assert sum(change.count for change in whole.counts.changes) == whole.counts.different > SAMPLE_MAX
    assert len(whole.sample) == SAMPLE_MAX
    assert all(each.verdict is not Verdict.SAME for each in whole.sample)
    for cuts in ([0], [100], [1, 2, 399], list(range(400))):
        places = [0, *cuts, 400]
        part, state = (
            part_of(AT, []),
            RejudgementState(rejudgement_id="j", process=DecisionProcess.LOGIN, since=AT, until=ends, judged_until=AT),
        )
        for first, last in pairwise(places):
            piece = part_of(ends, found[first:last])
            part, state = joined(part, piece), after_part(state, piece)
        assert part == whole
        assert (state.counts, state.sample, state.judged_until) == (whole.counts, whole.sample, ends)


def test_changes_are_counted_by_what_becomes_of_what() -> None:
    allow, deny = JudgedOutcome(decision="ALLOW"), JudgedOutcome(decision="DENY")
    found = [
        RejudgedDecision(subject=str(number), verdict=Verdict.DIFFERENT, before=allow, after=deny)
        for number in range(3)
    ]
    found.append(RejudgedDecision(subject="x", verdict=Verdict.DIFFERENT, before=deny, after=allow))
    found.append(RejudgedDecision(subject="y", verdict=Verdict.CANNOT, before=deny, why=NOT_REPRODUCED))
    assert part_of(AT, found).counts.changes == (
        OutcomeChange(before="ALLOW", after="DENY", count=3),
        OutcomeChange(before="DENY", after="ALLOW", count=1),
    )


def test_identity_decisions_of_every_kind_are_known() -> None:
    for decision in IdentityDecision:
        assert again(proofing(VerifiedIdentity(decision=decision)), minimum_age=16).before is not None
