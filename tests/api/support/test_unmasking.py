"""Break-glass over HTTP, with two people: what they may, what is written down, and where the value is not."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from temporalio.worker import Worker

from activities.unmasking import UnmaskingActivities
from domain.ids import break_glass_workflow_id, new_registration_id
from domain.mailing import Message, MessageKind
from domain.tokens import Role
from integrations.identity_cell import identity_pools
from integrations.postgres.roles import UNMASKING
from integrations.postgres.unmasking_entries import PostgresUnmaskingEntries
from integrations.temporal.histories import Histories
from integrations.temporal.worker import sandbox
from tests.answers import code_of
from tests.api.auth.registration_town import Town
from tests.api.support.staff_desk import ANN, BOB, StaffDesk, staff_desk
from tests.api.support.support_world import eventually
from tests.audited import leaves
from tests.conftest import OwnerPool
from workflows.break_glass import BreakGlassWorkflow

WATCH = "watch@example.org"


@asynccontextmanager
async def unmaskings(town: Town, owner_pool: OwnerPool) -> AsyncIterator[StaffDesk]:
    """Serve the service and the queue of its unmaskings in the cell `eu`."""
    queue = f"unmasking-{secrets.token_hex(4)}"
    async with break_glass_worker(town, queue), staff_desk(town, await owner_pool("eu"), queue=queue) as desk:
        yield desk


@asynccontextmanager
async def break_glass_worker(town: Town, queue: str) -> AsyncIterator[None]:
    """Serve this queue in the cell `eu`."""
    async with AsyncExitStack() as lifetime:
        pools = await identity_pools(town.settings, lifetime, UNMASKING)
        worker = Worker(
            town.cells["eu"].temporal,
            task_queue=queue,
            workflows=[BreakGlassWorkflow],
            activities=UnmaskingActivities(PostgresUnmaskingEntries(pools["eu"]), town.mail, WATCH).all(),
            workflow_runner=sandbox(),
        )
        await lifetime.enter_async_context(worker)
        yield


async def registered(town: Town) -> tuple[str, str]:
    mail = f"anna.{secrets.token_hex(4)}@example.org"
    begun = await town.begin(mail=mail)
    return begun.json()["registrationId"], mail


async def test_a_field_is_read_once_a_second_person_agreed(town: Town, owner_pool: OwnerPool) -> None:
    registration, mail = await registered(town)
    order = {"caseId": registration, "field": "mail", "reason": "wrong_contact"}
    both = (Role.SUPPORT, Role.COMPLIANCE)
    async with unmaskings(town, owner_pool) as desk:
        async with leaves(desk.owner, "support POST /v1/support/unmaskings", subject=registration):
            asked = await desk.post("unmaskings", ANN, *both, **order)
        assert asked.status_code == 202, asked.text
        waiting = asked.json()
        assert (waiting["stage"], waiting["askedBy"], "value" in waiting) == ("waiting", ANN, False)
        assert (await desk.post("unmaskings", ANN, *both, **order)).json() == waiting
        path = f"unmaskings/{waiting['unmaskingId']}"

        assert code_of(await desk.post(f"{path}/decision", ANN, *both, approved=True)) == (403, "forbidden")
        assert code_of(await desk.post(f"{path}/decision", BOB, Role.SUPPORT, approved=True)) == (403, "forbidden")
        assert "value" not in (await desk.get(path, ANN)).json()
        async with leaves(
            desk.owner, "support POST /v1/support/unmaskings/{unmasking_id}/decision", subject=registration
        ):
            approved = await desk.post(f"{path}/decision", BOB, Role.ADMIN, approved=True)
        assert (approved.status_code, approved.json()["stage"], approved.json()["decidedBy"]) == (200, "approved", BOB)
        steps = (await desk.get(f"cases/{registration}/timeline")).json()["steps"]
        own = [(step["name"], step.get("by")) for step in steps if step["process"] == "BreakGlass"]
        assert ("decide", BOB) in own
        workflow = break_glass_workflow_id("eu", waiting["unmaskingId"])
        (case,) = (await desk.get(f"cases?workflow={workflow}")).json()["cases"]
        assert case["caseId"] == registration
        assert own[0] == ("BreakGlass", None)
        assert (await desk.post(f"{path}/decision", BOB, Role.ADMIN, approved=True)).json() == approved.json()
        other = await desk.post(f"{path}/decision", BOB, Role.ADMIN, key="another-key", approved=False)
        assert code_of(other) == (409, "unmasking_stage")
        assert "value" not in (await desk.get(path, BOB, *both)).json()
        async with leaves(desk.owner, "support GET /v1/support/unmaskings/{unmasking_id}", subject=registration):
            shown = await desk.get(path, ANN)
        assert shown.json()["value"] == mail
        assert shown.headers["cache-control"] == "no-store"
        steps = ((ANN, "compliance", "asked"), (BOB, "admin", "approved"), (ANN, "compliance", "read"))
        of = {"subject": registration, "reason": "wrong_contact"}
        facts = {"unmasking": waiting["unmaskingId"], "field": "mail"}
        assert await desk.entries(registration) == [
            {**of, "actor": who, "role": role, "outcome": outcome, "facts": facts} for who, role, outcome in steps
        ]

        kept = await desk.owner.fetch("SELECT body FROM audit.entry WHERE body->>'subject' = $1", registration)
        cell = town.cells["eu"]
        history = await Histories(cell.temporal, cell.codec).read(break_glass_workflow_id("eu", waiting["unmaskingId"]))
        assert history is not None
        payloads = b"".join(event.SerializeToString() for event in history.events)
        assert registration.encode() in payloads  # it can be read
        for text in (json.dumps([row["body"] for row in kept]), payloads.decode("utf-8", "replace")):
            assert mail not in text
            assert mail.partition("@")[0] not in text

        async def told() -> list[Message]:
            sent = [message for message in town.mail.of(MessageKind.UNMASKING) if registration in message.advice]
            return sent if len(sent) > 1 else []

        told_of = await eventually(told)
    assert {message.to for message in told_of} == {WATCH}
    assert not any(mail in message.advice for message in told_of)


async def test_who_may_not_ask_gets_nothing_and_nothing_else_can_be_asked_for(
    town: Town, owner_pool: OwnerPool
) -> None:
    registration, _ = await registered(town)
    order = {"caseId": registration, "field": "mail", "reason": "wrong_contact"}
    async with unmaskings(town, owner_pool) as desk:
        assert code_of(await desk.post("unmaskings", ANN, Role.ADMIN, **order)) == (403, "forbidden")
        assert code_of(await desk.post("unmaskings", "client:c_program", **order)) == (403, "forbidden")
        for field in ("document", "documents", "personal_key", "choice", "advice", "devices", "person_id", ""):
            assert code_of(await desk.post("unmaskings", **{**order, "field": field})) == (400, "malformed_request")
        assert code_of(await desk.post("unmaskings", **{**order, "field": "phone"})) == (404, "case_not_found")
        lost = await desk.post("unmaskings", **{**order, "caseId": new_registration_id("eu")})
        assert code_of(lost) == (404, "case_not_found")
        for unknown in (f"b_eu_{'a' * 26}", f"b_nowhere_{'a' * 26}", "anything"):
            assert code_of(await desk.get(f"unmaskings/{unknown}")) == (404, "unmasking_not_found")
            answer = await desk.post(f"unmaskings/{unknown}/decision", BOB, Role.ADMIN, approved=True)
            assert code_of(answer) == (404, "unmasking_not_found")
        assert await desk.outcomes(registration) == []
    async with staff_desk(town, await owner_pool("eu"), is_watched=False) as desk:
        assert code_of(await desk.post("unmaskings", **order)) == (403, "forbidden")
