"""Support over HTTP: real databases, a real Temporal, people who register, and votes that nobody is told of."""

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from temporalio.client import Client

from activities.voting import VotingActivities
from api.support.cells import SupportCell
from api.support.desk import CaseDesk
from api.support.stuck import StuckDesk
from api.support.waiting import Waiting, WaitingStage
from domain.case_targets import Target
from domain.cases import Step, StepKind
from domain.contracts.voting import Outcome, RecordedVotes, SealedVote, SubmitVotesInput
from domain.errors import DomainError, ErrorCode
from domain.ids import (
    BatchId,
    new_attempt_id,
    new_recovery_id,
    new_registration_id,
    new_voter_id,
    register_voter_workflow_id,
    submit_votes_workflow_id,
    verify_identity_workflow_id,
)
from domain.submissions import Submission, SubmissionIds
from domain.tokens import Role
from integrations.identity_cell import KEYS
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import SUBMISSION, in_flight
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.submissions import SubmissionCase
from tests.answers import code_of
from tests.api.auth.registration_town import CELLS, Town, number
from tests.api.support.support_world import Support, eventually, support_cells
from tests.vote_workers import vote_worker
from workflows.submit_votes import SubmitVotesWorkflow

CHOICE = b"a choice that nobody may read"


async def test_a_person_is_found_by_whatever_is_known_and_their_case_tells_nothing_more(
    town: Town, support: Support
) -> None:
    mail, document = f"anna.{secrets.token_hex(4)}@example.org", number()
    registration: str = (await town.begin(mail=mail)).json()["registrationId"]
    await town.prove(registration, mail)
    await town.at_provider(registration)
    await town.show(registration, document)
    await town.at(registration, "active")
    row = await town.row(registration)
    voter = row.voter_id

    for params in (
        {"voter": voter},
        {"mail": mail.upper()},
        {"registration": registration},
        {"workflow": register_voter_workflow_id("eu", registration)},
        {"workflow": verify_identity_workflow_id("eu", registration, 1)},
    ):
        page = await support.found("cases", **params)
        (case,) = page["cases"]
        assert (case["caseId"], case["kind"], case["voter"], case["stage"]) == (
            registration,
            "registration",
            voter,
            "active",
        )
        assert page["missingCells"] == []
    assert (await support.found("cases", mail="nobody@example.org"))["cases"] == []

    async def ended() -> Any:
        file = await support.found(f"cases/{registration}")
        return file if file["status"] == "completed" else None

    file = await eventually(ended)
    assert file["contact"] == {"mail": "a***@e***.org"}
    assert (file["workflow"], file["pending"]) == (register_voter_workflow_id("eu", registration), [])

    account = await town.cells["eu"].accounts.get(voter)
    assert account is not None
    assert account.person_id is not None
    seen = await support.found(f"cases/{registration}/timeline")
    steps = seen["steps"]
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)
    stages = [step["name"] for step in steps if step["kind"] == "stage"]
    assert stages[0] == "contact_proof"
    assert stages[-1] == "active"
    assert {step["process"] for step in steps} == {"RegisterVoter", "VerifyIdentity"}
    assert [step["by"] for step in steps if step["kind"] == "asked"] == ["voter"] * len(
        [step for step in steps if step["kind"] == "asked"]
    )
    assert row.reference in json.dumps(steps)  # the vendor's
    compliance = await support.found(f"cases/{registration}/timeline", Role.COMPLIANCE)
    for shown, is_compliance in ((seen, False), (compliance, True)):
        text = json.dumps(shown)
        assert (account.person_id in text) is is_compliance
        for secret in (mail, mail.split("@", maxsplit=1)[0], document, "digest", "hashes", "documents", "code_hash"):
            assert secret not in text
    first = await support.found(f"cases/{registration}/timeline", limit=3)
    rest = await support.found(f"cases/{registration}/timeline", first=first["next"])
    assert first["steps"] + rest["steps"] == steps
    assert "next" not in rest


class Ledger:
    def __init__(self) -> None:
        self.is_away = True
        self.calls = 0

    async def record(self, batch: SubmitVotesInput, accepted_at: datetime) -> RecordedVotes:
        self.calls += 1
        if self.is_away:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE)
        return RecordedVotes(outcomes=bytes([Outcome.RECORDED, Outcome.ALREADY_VOTED, Outcome.RECORDED]))

    async def publish(self, _summaries: Any) -> None:
        raise AssertionError


@asynccontextmanager
async def voting(support: Support, ledger: Ledger) -> AsyncIterator[tuple[Client, str]]:
    codec = EncryptionCodec(support.keys, in_flight("us"))
    client = await connect(support.settings.cells["us"].temporal, codec)
    async with vote_worker(client, VotingActivities(ledger, ledger)) as queue:
        yield client, queue


async def test_a_vote_shows_its_own_stage_and_nothing_of_its_batch(support: Support) -> None:
    ids = SubmissionIds((await support.keys.current(SUBMISSION)).secret)
    votes = tuple(
        SealedVote(
            survey_id=f"s_{letter * 16}",
            nullifier=secrets.token_bytes(32),
            evidence=bytes(64),
            region="north",
            sealed_answers=CHOICE,
        )
        for letter in "abc"
    )
    batch = SubmitVotesInput(cell="us", gateway_id=secrets.token_bytes(16), number=1, votes=votes)
    place = BatchId(batch.gateway_id, 1)
    mine = [ids.make(Submission(place, index), vote.nullifier) for index, vote in enumerate(votes)]
    ledger = Ledger()
    async with voting(support, ledger) as (client, queue):
        handle = await client.start_workflow(
            SubmitVotesWorkflow.run, batch, id=submit_votes_workflow_id("us", place), task_queue=queue
        )
        assert (await support.found(f"cases/{mine[0]}"))["case"]["stage"] == "accepted"

        async def tried() -> Any:
            steps = (await support.found(f"cases/{mine[0]}/timeline"))["steps"]
            return [step for step in steps if step.get("attempts", 0) > 1 and step["name"] == "record_votes"]

        waiting = await eventually(tried)
        assert waiting[-1]["code"] == "ledger_unavailable"
        ledger.is_away = False
        await handle.result()

    file = await support.found(f"cases/{mine[0]}")
    assert (file["case"]["kind"], file["case"]["stage"], "voter" in file["case"]) == ("submission", "confirmed", False)
    assert file["vote"] == {"survey": votes[0].survey_id, "cell": "us", "hasReceipt": True}
    refused = await support.found(f"cases/{mine[1]}")
    assert (refused["case"]["stage"], refused["vote"]["code"]) == ("refused", "already_voted")
    assert refused["vote"]["hasReceipt"] is False
    (case,) = (await support.found("cases", submission=mine[2]))["cases"]
    assert (case["caseId"], case["stage"]) == (mine[2], "confirmed")

    timeline = await support.found(f"cases/{mine[0]}/timeline", Role.COMPLIANCE)
    assert not any("given" in step or "came" in step for step in timeline["steps"])
    text = json.dumps([file, timeline])
    for vote in votes:
        assert vote.nullifier.hex() not in text
        assert (vote.survey_id in text) is (vote is votes[0])
    assert CHOICE.decode() not in text
    assert "north" not in text

    forged = SubmissionIds(b"k" * 32).make(Submission(place, 0), votes[0].nullifier)
    beyond = ids.make(Submission(place, 9), votes[0].nullifier)
    for wrong in (forged, beyond, ids.make(Submission(place, 1), votes[0].nullifier)):
        assert code_of(await support.get(f"cases/{wrong}")) == (404, "case_not_found")
        assert code_of(await support.get("cases", submission=wrong)) == (404, "case_not_found")
    assert code_of(await support.get("cases", workflow=handle.id)) == (404, "case_not_found")


async def test_what_waits_is_listed_by_stage_and_what_is_late_with_what_it_tries(town: Town, support: Support) -> None:
    town.mail.failures = [ErrorCode.MAIL_UNAVAILABLE] * 10_000  # whoever registers now is sent nothing
    try:
        begun = await town.begin(cell="us")
        registration: str = begun.json()["registrationId"]

        async def listed() -> Any:
            found, cursor = [], None
            while True:
                more: dict[str, str] = {} if cursor is None else {"cursor": cursor}
                page = await support.found("cases", stage="contact_proof", limit=5, **more)
                found += page["cases"]
                cursor = page.get("nextCursor")
                if cursor is None:
                    return [case for case in found if case["caseId"] == registration]

        (case,) = await eventually(listed)
        assert (case["kind"], case["stage"]) == ("registration", "contact_proof")
        young = await support.found("cases", stage="contact_proof", older_than=86_400, limit=100)
        assert registration not in json.dumps(young)

        desk = StuckDesk(CELLS, support_cells(town), [Target("RegisterVoter", timedelta(0), "contact_proof")])

        async def late() -> Any:
            found = await desk.look(100)
            assert found.missing_cells == []
            mine = [each for each in found.found if each.case is not None and each.case.case_id == registration]
            return mine if mine and mine[0].standing.pending and mine[0].standing.pending[0].attempts > 1 else None

        (stuck,) = await eventually(late)
        assert (stuck.cell, stuck.standing.process) == ("us", "RegisterVoter")
        assert stuck.standing.pending[0].code == "mail_unavailable"
        never = StuckDesk(CELLS, support_cells(town), [Target("RegisterVoter", timedelta(days=1), "contact_proof")])
        assert (await never.look(100)).found == []
    finally:
        town.mail.failures = []
    page = await support.found("stuck")
    assert set(page) == {"stuck", "hasMore", "missingCells", "truncated"}
    assert registration not in json.dumps(page)


async def test_a_cell_that_is_away_is_missing_and_hides_no_other(town: Town) -> None:
    def cell_of(name: str | None) -> SupportCell:
        if name == "eu":
            raise DomainError(ErrorCode.CELL_UNAVAILABLE)
        return support_cells(town)(name)

    found = await StuckDesk(CELLS, cell_of, [Target("RegisterVoter", timedelta(0))]).look(1)
    assert found.missing_cells == ["eu"]
    with pytest.raises(DomainError) as refused:
        await StuckDesk(["eu"], cell_of).look(1)
    assert refused.value.code is ErrorCode.CELL_UNAVAILABLE


async def test_of_more_than_a_page_those_are_found_that_are_late_for_longest(town: Town) -> None:
    begun = [(await town.begin(cell="us")).json()["registrationId"] for _ in range(4)]
    targets = [Target("RegisterVoter", timedelta(0), "contact_proof")]
    desk = StuckDesk(["us"], support_cells(town), targets)

    async def all_of_them() -> Any:
        page = await desk.look(100)
        cases = [each.case.case_id for each in page.found if each.case is not None]
        return page if set(begun) <= set(cases) else None

    everyone = await eventually(all_of_them)
    first = await desk.look(1)
    assert [each.case for each in first.found] == [everyone.found[0].case]
    assert (first.has_more, first.is_truncated, everyone.is_truncated) == (True, False, False)
    some = await StuckDesk(["us"], support_cells(town), targets, most=3).look(100)
    assert (len(some.found), some.is_truncated) == (3, True)


async def test_a_cell_that_is_away_hides_no_case_of_another(town: Town) -> None:
    submission = SubmissionIds(bytes(32)).make(Submission(BatchId(secrets.token_bytes(16), 1), 0), bytes(32))
    step = Step(datetime.now(UTC), StepKind.BEGAN, "SubmitVotes", "SubmitVotes", "began")

    class Submissions:
        has_it = True

        async def find(self, submission_id: str) -> SubmissionCase | None:
            return SubmissionCase(submission_id, "us", "s_one", "accepted", steps=(step,)) if self.has_it else None

    def cell_of(name: str | None) -> SupportCell:
        if name == "eu":
            raise DomainError(ErrorCode.CELL_UNAVAILABLE)
        return replace(support_cells(town)(name), submissions=cast("Any", Submissions()))

    desk = CaseDesk(CELLS, cell_of, KeyedLookupHashes(open_keys(town.settings, *KEYS)))
    assert (await desk.open(submission)).case.stage == "accepted"
    Submissions.has_it = False
    with pytest.raises(DomainError) as unknown:
        await desk.open(submission)
    assert unknown.value.code is ErrorCode.CELL_UNAVAILABLE

    registration: str = (await town.begin(cell="us")).json()["registrationId"]

    at_contact = Waiting(WaitingStage.CONTACT_PROOF)

    async def listed() -> Any:
        page = await desk.waiting(at_contact, None, 100)
        assert (page.cases, page.missing_cells) == ((), ["eu"])
        page = await desk.waiting(at_contact, page.next_cursor, 100)
        assert page.missing_cells == ()
        return registration in {case.case_id for case in page.cases}

    await eventually(listed)
    alone = CaseDesk(["eu"], cell_of, KeyedLookupHashes(open_keys(town.settings, *KEYS)))
    with pytest.raises(DomainError):
        await alone.waiting(at_contact, None, 100)


async def test_a_voters_cases_come_page_by_page(
    support: Support, town: Town, owner_pool: Callable[[str], Awaitable[Any]]
) -> None:
    voter, owner = new_voter_id("eu"), await owner_pool("eu")
    attempts = [new_attempt_id("eu") for _ in range(5)]
    for attempt in attempts:
        await owner.execute(
            "INSERT INTO identity.login_attempt (attempt_id, voter_id, method, jkt, network, provider, decision, "
            "score_permille, reasons, policy_version, signals, factors) "
            "VALUES ($1, $2, 'passkey', $3, $4, '', 'ALLOW', 0, '{}', 1, '{}', '{}')",
            attempt,
            voter,
            "k" * 43,
            bytes(32),
        )
    found: list[str] = []
    page = await support.found("cases", voter=voter, limit=2)
    while True:
        found += [case["caseId"] for case in page["cases"]]
        if "nextCursor" not in page:
            break
        page = await support.found("cases", voter=voter, limit=2, cursor=page["nextCursor"])
    assert sorted(found) == sorted(attempts)
    assert len(found) == 5
    # Its history is gone, and the directory still has it
    file = await support.found(f"cases/{attempts[0]}")
    assert (file["case"]["kind"], file["case"]["stage"], "status" in file) == ("login", "step_up", False)
    assert code_of(await support.get(f"cases/{attempts[0]}/timeline")) == (404, "case_not_found")


@pytest.mark.parametrize(
    "case_id",
    [
        new_registration_id("eu"),
        new_attempt_id("us"),
        new_recovery_id("eu"),
        new_registration_id("nowhere"),
        "A" * 56,
        "anything",
    ],
    ids=["a registration", "a login", "a recovery", "of another deployment", "a submission", "anything"],
)
async def test_an_unknown_case_is_not_found(support: Support, case_id: str) -> None:
    for path in (f"cases/{case_id}", f"cases/{case_id}/timeline"):
        assert code_of(await support.get(path)) == (404, "case_not_found")


async def test_who_may_not_see_cases_is_let_in_nowhere(support: Support) -> None:
    voter = support.tokens.voter(new_voter_id("eu"), "eu", "DE")
    for path in ("cases", "cases/x", "cases/x/timeline", "stuck"):
        for headers in ({}, {"authorization": f"Bearer {voter}"}):
            answer = await support.client.get(f"/v1/support/{path}", headers=headers)
            assert answer.status_code == 401
        for role in (Role.ADMIN, Role.AUDITOR):
            assert code_of(await support.get(path, role)) == (403, "forbidden")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"voter": "anna", "mail": "anna@example.org"},
        {"voter": "anna@example.org"},
        {"mail": "anna at example"},
        {"phone": "anna"},
        {"stage": "active"},
        {"stage": "anna"},
        {"voter": new_voter_id("eu"), "cursor": "anna"},
        {"stage": "review", "cursor": "anna"},
        {"voter": new_voter_id("eu"), "limit": 101},
    ],
)
async def test_what_cannot_be_looked_for_is_refused_and_not_repeated(support: Support, params: dict[str, Any]) -> None:
    answer = await support.get("cases", **params)
    assert code_of(answer) == (400, "malformed_request")
    assert "anna" not in answer.text
