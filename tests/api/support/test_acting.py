"""What support has done to cases, over HTTP: real databases and a real Temporal."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from temporalio.worker import Worker

from activities.unlocking import UnlockingActivities
from domain.audit import AuditEntry
from domain.contracts.support import CaseAction, CaseActionTaken, UnlockAccountInput
from domain.credentials import CredentialKind
from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.ids import new_attempt_id, new_recovery_id, new_registration_id, verify_identity_workflow_id
from domain.mailing import MessageKind
from domain.tokens import Role
from integrations.postgres.account_locks import PostgresAccountLocks
from integrations.temporal.worker import sandbox
from tests.answers import code_of
from tests.api.auth.registration_town import Town
from tests.api.support.staff_desk import ANN, BOB, StaffDesk, staff_desk
from tests.api.support.support_world import Support, eventually
from tests.audited import leaves
from tests.conftest import OwnerPool
from tests.integrations.postgres.account_rows import make_account
from workflows.unlock_account import UnlockAccountWorkflow


async def at_provider(town: Town) -> str:
    """Return a registration whose case is open at the provider."""
    mail = f"{secrets.token_hex(4)}@example.org"
    registration: str = (await town.begin(mail=mail)).json()["registrationId"]
    await town.prove(registration, mail)
    await town.at_provider(registration)
    return registration


async def taken(desk: StaffDesk, registration: str) -> list[dict[str, Any]]:
    timeline = (await desk.get(f"cases/{registration}/timeline")).json()
    return [step for step in timeline["steps"] if step["name"] == "take_action"]


async def test_what_support_asks_for_is_done_once_and_written_down_first(town: Town, owner_pool: OwnerPool) -> None:
    registration = await at_provider(town)
    path, order = f"cases/{registration}/actions", {"action": "look_now", "reason": "voter_asked"}
    async with staff_desk(town, await owner_pool("eu")) as desk:
        async with leaves(desk.owner, "support POST /v1/support/cases/{case_id}/actions", subject=registration):
            answers = await asyncio.gather(*(desk.post(path, key="the-same", **order) for _ in range(5)))
        assert [answer.status_code for answer in answers] == [200] * 5, answers[0].text
        (said,) = {answer.text for answer in answers}
        assert (answers[0].json()["action"], answers[0].json()["stage"]) == ("look_now", "proofing")
        assert await desk.outcomes(registration) == [("look_now", ANN), ("done", ANN)]
        (step,) = await taken(desk, registration)
        assert (step["by"], step["process"], step["state"]) == (ANN, "VerifyIdentity", "completed")
        assert step["given"]["action_id"] in said
        by = {"actor": ANN, "role": "support", "reason": "voter_asked", "subject": registration}
        request = {"request": answers[0].json()["actionId"]}
        assert await desk.entries(registration) == [
            {**by, "outcome": "look_now:proofing", "facts": request},
            {**by, "outcome": "done", "facts": {"action": "look_now", **request}},
        ]
        for other in ({"action": "look_now", "reason": "stuck"}, {"action": "resend", "reason": "voter_asked"}):
            again = await desk.post(path, key="the-same", **other)
            assert code_of(again) == (422, "idempotency_key_used")

        cancel = {"action": "cancel", "reason": "voter_asked"}
        assert (await desk.post(path, key="the-ending", **cancel)).status_code == 200
        await town.at(registration, "cancelled")
        repeated = await desk.post(path, key="the-ending", **cancel)
        assert (repeated.status_code, repeated.json()["stage"]) == (200, "cancelled")
        assert await desk.outcomes(registration) == [(said, ANN) for said in ("look_now", "done", "cancel", "done")]
        late = await desk.post(path, BOB, **cancel)
        assert code_of(late) == (409, "case_stage")


async def test_what_is_refused_stays_refused_and_what_is_not_permitted_is_not_even_asked(
    town: Town, owner_pool: OwnerPool
) -> None:
    registration: str = (await town.begin()).json()["registrationId"]
    path = f"cases/{registration}/actions"
    async with staff_desk(town, await owner_pool("eu")) as desk:
        forbidden = await desk.post(path, ANN, Role.COMPLIANCE, action="cancel", reason="voter_asked")
        assert code_of(forbidden) == (403, "forbidden")
        for body in (
            {"action": "cancel", "reason": "stuck"},
            {"action": "delete", "reason": "stuck"},
            {"action": "cancel", "reason": "Ann asked"},
            {"action": "cancel"},
        ):
            assert code_of(await desk.post(path, **body)) == (400, "malformed_request")
        keyless = await desk.post(path, key=None, action="cancel", reason="voter_asked")
        assert code_of(keyless) == (400, "malformed_request")
        assert await desk.outcomes(registration) == []
        for _ in range(2):
            early = await desk.post(path, action="look_now", reason="stuck")
            assert code_of(early) == (409, "case_stage")
        assert await desk.outcomes(registration) == [("look_now", ANN), ("case_stage", ANN)]
        for case_id in (new_registration_id("eu"), new_registration_id("nowhere"), new_attempt_id("eu"), "A" * 56):
            answer = await desk.post(f"cases/{case_id}/actions", action="escalate", reason="stuck")
            assert code_of(answer) == (404, "case_not_found")


class NoEntries:
    """A directory that writes nothing."""

    async def note(self, key: str, entry: AuditEntry) -> str:
        raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)

    async def outcome_of(self, key: str) -> str | None:
        raise AssertionError(key)


class NoAnswer:
    """Processes that do not answer."""

    async def take(self, workflow_id: str, action: Any) -> Any:
        raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE)


class Obliging:
    """Processes that take whatever they are asked for; `asked` says which and for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def take(self, workflow_id: str, action: CaseAction) -> CaseActionTaken:
        self.asked.append((workflow_id, action.action))
        return CaseActionTaken(stage="proofing")

    async def unlock(self, request: UnlockAccountInput) -> CaseActionTaken:
        raise AssertionError(request)


async def test_a_process_is_asked_once_for_each_key_and_never_at_another_stage(
    town: Town, owner_pool: OwnerPool
) -> None:
    owner, registration, processes = await owner_pool("eu"), new_registration_id("eu"), Obliging()
    await town.cells["eu"].registrations.begin(registration, await make_account(town.cells["eu"].pool), "DE")
    path = f"cases/{registration}/actions"
    async with staff_desk(town, owner, actions=processes) as desk:
        for action in ("look_now", "ask_again", "unlock"):  # of a later stage, whatever a process would say
            early = await desk.post(path, key=f"early-{action}", action=action, reason="voter_asked")
            assert code_of(early) == (409, "case_stage")
        assert processes.asked == []
        await owner.execute(
            "UPDATE identity.registration SET stage = 'proofing', case_no = 2 WHERE registration_id = $1", registration
        )
        for _ in range(3):
            taken = await desk.post(path, action="look_now", reason="voter_asked")
            assert (taken.status_code, taken.json()["stage"]) == (200, "proofing")
        # Of the second case: after an appeal there is another one
        assert processes.asked == [(verify_identity_workflow_id("eu", registration, 2), "look_now")]


async def test_nothing_is_done_without_its_entry_and_without_an_answer_the_same_key_goes_on(
    town: Town, owner_pool: OwnerPool
) -> None:
    registration, owner = await at_provider(town), await owner_pool("eu")
    path, order = f"cases/{registration}/actions", {"action": "escalate", "reason": "complaint"}
    async with staff_desk(town, owner, entries=NoEntries()) as desk:
        assert code_of(await desk.post(path, **order)) == (503, "directory_unavailable")
        assert code_of(await desk.get(f"cases/{registration}/timeline")) == (503, "directory_unavailable")
    async with staff_desk(town, owner, actions=NoAnswer()) as desk:
        assert await taken(desk, registration) == []
        assert code_of(await desk.post(path, **order)) == (503, "workflows_unavailable")
        assert await desk.outcomes(registration) == [("escalate", ANN)]
    async with staff_desk(town, owner) as desk:
        assert (await desk.post(path, **order)).status_code == 200
        assert await desk.outcomes(registration) == [("escalate", ANN), ("done", ANN)]
        assert len(await taken(desk, registration)) == 1


async def test_whoever_was_locked_out_is_let_try_again_by_support(town: Town, owner_pool: OwnerPool) -> None:
    cell, owner, queue = town.cells["eu"], await owner_pool("eu"), f"unlocking-{secrets.token_hex(4)}"
    voter, request = await make_account(cell.pool), new_recovery_id("eu")
    await cell.credentials.put(voter, CredentialKind.PASSWORD, b"a secret")
    (kept,) = await cell.credentials.of(voter, CredentialKind.PASSWORD)
    for _ in range(6):
        await cell.credentials.failed(kept)
    await cell.recoveries.begin(request, voter, "rk_eu_" + "a" * 43, datetime.now(UTC))
    path, order = f"cases/{request}/actions", {"action": "unlock", "reason": "voter_asked"}
    activities = UnlockingActivities(PostgresAccountLocks(cell.pool)).all()
    async with (
        Worker(
            cell.temporal,
            task_queue=queue,
            workflows=[UnlockAccountWorkflow],
            activities=activities,
            workflow_runner=sandbox(),
        ),
        staff_desk(town, owner, queue=queue) as desk,
    ):
        assert code_of(await desk.post(path, ANN, Role.COMPLIANCE, **order)) == (403, "forbidden")
        answers = await asyncio.gather(*(desk.post(path, key="the-same", **order) for _ in range(3)))
        assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
        (freed,) = await cell.credentials.of(voter, CredentialKind.PASSWORD)
        assert (kept.credential_id, freed.failures) == (freed.credential_id, 0)
        assert await desk.outcomes(request) == [("unlock", ANN), ("done", ANN)]
        for number in range(2):
            assert (await desk.post(path, key=f"another-{number}", **order)).status_code == 200
        assert code_of(await desk.post(path, key="too-often", **order)) == (409, "case_stage")
        timeline = (await desk.get(f"cases/{request}/timeline")).json()
        done = [(step["process"], step["state"]) for step in timeline["steps"] if step["name"] == "unlock_account"]
        assert done == [("UnlockAccount", "completed")] * 3 + [("UnlockAccount", "failed")]
        asked = {step["given"]["action_id"] for step in timeline["steps"] if step["kind"] == "began"}
        action = answers[0].json()["actionId"]
        assert action in asked
        (case,) = (await desk.get(f"cases?workflow=unlock-account/eu/{action}")).json()["cases"]
        assert (case["caseId"], case["kind"]) == (request, "recovery")
        other = await desk.get(f"cases?workflow=unlock-account/eu/{action[:-1]}")
        assert code_of(other) == (404, "case_not_found")
        assert timeline["gaps"] == {f"recover-account/eu/{request}": "history_gone"}  # its link was sent by hand
        assert (await desk.outcomes(request))[-1] == ("case_stage", ANN)


async def test_compliance_lifts_a_suspension(town: Town, owner_pool: OwnerPool) -> None:
    cell, queue = town.cells["eu"], f"unlocking-{secrets.token_hex(4)}"
    owner, voter = await owner_pool("eu"), await make_account(cell.pool)
    registration = new_registration_id("eu")
    await cell.registrations.begin(registration, voter, "DE")
    await owner.execute("UPDATE identity.registration SET stage = 'rejected' WHERE registration_id = $1", registration)
    path = f"cases/{registration}/actions"
    order = {"action": "reinstate", "reason": "provider_told"}
    activities = UnlockingActivities(PostgresAccountLocks(cell.pool)).all()
    async with (
        Worker(
            cell.temporal,
            task_queue=queue,
            workflows=[UnlockAccountWorkflow],
            activities=activities,
            workflow_runner=sandbox(),
        ),
        staff_desk(town, owner, queue=queue) as desk,
    ):
        assert code_of(await desk.post(path, ANN, Role.SUPPORT, **order)) == (403, "forbidden")
        early = await desk.post(path, ANN, Role.COMPLIANCE, key="not-suspended", **order)
        assert code_of(early) == (409, "case_stage")
        await cell.accounts.set_status(voter, VoterStatus.SUSPENDED, "reversed")
        assert (await desk.post(path, ANN, Role.COMPLIANCE, **order)).status_code == 200
    account = await cell.accounts.get(voter)
    assert account is not None
    assert account.status is VoterStatus.ACTIVE
    roles = await owner.fetch(
        "SELECT DISTINCT body->>'role' FROM audit.entry WHERE body->>'subject' = $1", registration
    )
    assert [role for (role,) in roles] == ["compliance"]


async def act(support: Support, case_id: str, action: str, key: str, /, *roles: Role, **fields: Any) -> httpx.Response:
    token = support.tokens.staff("u_tester", roles or (Role.SUPPORT,))
    return await support.client.post(
        f"/v1/support/cases/{case_id}/actions",
        json={"action": action, "reason": "voter_asked", **fields},
        headers={"authorization": f"Bearer {token}", "idempotency-key": key},
    )


async def test_a_registration_is_ended_once_and_it_is_kept_who_asked(
    town: Town, support: Support, owner_pool: Callable[[str], Awaitable[Any]]
) -> None:
    mail = f"{secrets.token_hex(4)}@example.org"
    registration: str = (await town.begin(cell="us", mail=mail)).json()["registrationId"]

    async def waiting() -> Any:
        return town.mail.of(MessageKind.PROVE_CONTACT)

    await eventually(waiting)
    early = await act(support, registration, "look_now", "k" * 16)
    assert code_of(early) == (409, "case_stage")
    soon = await act(support, registration, "resend", secrets.token_hex(8))
    assert soon.status_code in {200, 429}, soon.text  # within half a minute of the first code
    keys = [secrets.token_hex(8)] * 3
    answers = await asyncio.gather(*(act(support, registration, "cancel", key) for key in keys))
    assert {answer.status_code for answer in answers} == {200}

    async def ended() -> Any:
        return (await support.found(f"cases/{registration}"))["case"]["stage"] == "cancelled"

    await eventually(ended)
    late = await act(support, registration, "cancel", secrets.token_hex(8))
    assert code_of(late) == (409, "case_stage")
    voter = (await town.row(registration)).voter_id
    entries = await (await owner_pool("us")).fetch(
        "SELECT kind, body FROM audit.entry WHERE body->>'subject' = $1 AND kind LIKE 'case.%' ORDER BY xid",
        registration,
    )
    bodies = [(entry["kind"], json.loads(entry["body"])) for entry in entries]
    asked = [body for kind, body in bodies if kind == "case.action_asked" and body["outcome"].startswith("cancel:")]
    done = [body for kind, body in bodies if kind == "case.action_taken" and body["outcome"] == "done"]
    assert len(asked) == 2  # each key once: one that ended it, and one that came too late
    assert [body["facts"]["action"] for body in done if body["facts"]["action"] != "resend"] == ["cancel"]
    assert {(body["actor"], body["role"]) for body in asked} == {("staff:u_tester", "support")}
    assert {body["reason"] for body in asked} == {"voter_asked"}
    assert voter not in json.dumps(bodies)


async def test_the_provider_is_looked_at_when_support_asks(town: Town, support: Support) -> None:
    mail = f"{secrets.token_hex(4)}@example.org"
    registration: str = (await town.begin(mail=mail)).json()["registrationId"]
    await town.prove(registration, mail)
    await town.at_provider(registration)
    assert (await act(support, registration, "look_now", secrets.token_hex(8))).status_code == 200

    async def told() -> Any:
        steps = (await support.found(f"cases/{registration}/timeline"))["steps"]
        return [step for step in steps if step["name"] == "take_action" and step["by"] == "staff:u_tester"]

    assert await eventually(told)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"reason": "Anna asked me"}, 400),
        ({"reason": "anna@example.org"}, 400),
        ({"reason": ""}, 400),
        ({"reason": "stuck"}, 400),
        ({"action": "unmask"}, 400),
        ({"more": 1}, 400),
    ],
)
async def test_an_action_without_a_reason_that_can_be_kept_is_refused(
    support: Support, fields: dict[str, Any], status: int
) -> None:
    answer = await act(support, new_registration_id("eu"), "cancel", "k" * 16, **fields)
    assert answer.status_code == status
    assert "anna" not in answer.text.lower()


async def test_who_only_reads_does_not_act(support: Support) -> None:
    for roles in ((Role.COMPLIANCE,), (Role.ADMIN,)):
        assert code_of(await act(support, new_registration_id("eu"), "cancel", "k" * 16, *roles)) == (403, "forbidden")
    for case_id in (new_registration_id("eu"), new_attempt_id("eu"), "A" * 56):
        assert code_of(await act(support, case_id, "cancel", "k" * 16)) == (404, "case_not_found")
    token = support.tokens.staff("u_tester", (Role.SUPPORT,))
    without = await support.client.post(
        f"/v1/support/cases/{new_registration_id('eu')}/actions",
        json={"action": "cancel", "reason": "voter_asked"},
        headers={"authorization": f"Bearer {token}"},
    )
    assert code_of(without) == (400, "malformed_request")
