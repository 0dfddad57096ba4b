"""Replays over HTTP: who may ask, what is written down first, verdicts page by page and as a stream, and cancelling."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from fastapi import APIRouter
from temporalio.worker import Worker

from activities.replaying import ReplayActivities
from api.compliance.replay_routes import replay_routes
from api.compliance.replays import ReplayCell, ReplayDesk
from domain.audit import AuditKind
from domain.tokens import Role
from integrations.identity_cell import IdentityCell
from integrations.postgres.replays import PostgresReplays
from integrations.postgres.staff_entries import PostgresStaffEntries
from integrations.temporal.replays import TemporalReplays
from integrations.temporal.worker import sandbox
from tests.answers import code_of
from tests.api.compliance.orders import Orders, as_officer, only_eu, open_orders
from tests.api.support.staff_desk import ANN, BOB, door
from tests.audited import leaves
from tests.conftest import OwnerPool, SettingsFor
from tests.limits_world import lonely_limits
from tests.workflows.test_rejudge_decisions import SINCE, SOON, soon
from tests.workflows.test_replay_executions import Executions
from workflows.replay_executions import ReplayExecutionsWorkflow

PATH = "/v1/compliance/replays"
PERIOD: dict[str, Any] = {"cell": "eu", "from": SINCE.isoformat(), "to": SOON.isoformat(), "type": "AssessLogin"}
ONE: dict[str, Any] = {"workflowId": "submit-votes/eu/x-1"}
NOBODYS = "w_eu_" + "a" * 26


class Officers(Orders):
    """Whoever asks for them."""

    async def ask(self, order: dict[str, Any], who: str = ANN, *roles: Role, key: str | None = None) -> httpx.Response:
        headers = as_officer(who, *roles) | {"idempotency-key": key or secrets.token_hex(8)}
        return await self.client.post(PATH, json=order, headers=headers)

    async def get(self, path: str, *roles: Role, **headers: str) -> httpx.Response:
        return await self.client.get(f"{PATH}{path}", headers=as_officer(ANN, *roles) | headers)

    async def cancel(self, replay: str, who: str = ANN, *roles: Role) -> httpx.Response:
        return await self.client.put(f"{PATH}/{replay}/cancel", headers=as_officer(who, *roles))

    def worker(self, executions: Executions) -> Worker:
        activities = ReplayActivities(PostgresReplays(self.cell.pool), executions, step_s=0)
        return Worker(
            self.cell.temporal,
            task_queue=self.queue,
            workflows=[ReplayExecutionsWorkflow],
            activities=activities.all(),
            workflow_runner=sandbox(),
        )

    async def ended(self, replay: str) -> dict[str, Any]:
        async with asyncio.timeout(40):
            while (found := (await self.get(f"/{replay}")).json())["status"] == "running":
                await asyncio.sleep(0.05)
        return dict(found)

    async def asked(self, replay: str) -> list[dict[str, Any]]:
        return await self.entries(replay, AuditKind.EXECUTIONS_REPLAYED)


def cell_of(cell: IdentityCell, queue: str) -> Callable[[str | None], ReplayCell]:
    processes = TemporalReplays(cell.temporal, "eu", queue=queue, patience_s=20)
    return only_eu(ReplayCell(PostgresReplays(cell.pool), PostgresStaffEntries(cell.pool), processes))


@pytest_asyncio.fixture
async def officers(settings_for: SettingsFor, owner_pool: OwnerPool) -> AsyncIterator[Officers]:
    def routes(cell: IdentityCell, queue: str) -> APIRouter:
        return replay_routes(ReplayDesk(("eu", "us"), cell_of(cell, queue)), door(Role.COMPLIANCE), lonely_limits())

    async with open_orders(settings_for, owner_pool, Officers, routes) as opened:
        yield opened


async def test_a_replay_is_asked_for_once_and_read(officers: Officers) -> None:
    key, executions = secrets.token_hex(8), Executions(*soon(25))
    async with leaves(officers.owner, "compliance POST /v1/compliance/replays"):
        begun, *again = [await officers.ask(PERIOD, key=key) for _ in range(3)]
    assert (begun.status_code, begun.json()["status"]) == (202, "running"), begun.text
    assert {answer.json()["replayId"] for answer in again} == {begun.json()["replayId"]}
    replay: str = begun.json()["replayId"]
    assert begun.headers["location"] == f"{PATH}/{replay}"
    (entry,) = await officers.asked(replay)
    assert (entry["actor"], entry["role"], entry["outcome"]) == (ANN, "compliance", "asked")
    hour = {"from": "2026-05-07T00:00:00.000000Z", "to": "2026-05-07T01:00:00.000000Z"}
    assert entry["facts"] == {
        "workflow": "",
        "run": "",
        "type": "AssessLogin",
        **hour,
        "code": "this",
        "source": "server",
    }
    async with officers.worker(executions):
        found = await officers.ended(replay)
        run = str(uuid4())
        one = (await officers.ask({**ONE, "runId": run})).json()["replayId"]
        assert (await officers.ended(one))["same"] == 1
        of_one = {
            "workflow": ONE["workflowId"],
            "run": run,
            "type": "",
            "from": "",
            "to": "",
            "code": "this",
            "source": "server",
        }
        assert (await officers.asked(one))[0]["facts"] == of_one
    assert (found["status"], found["same"], found["askedBy"]) == ("finished", 25, ANN)
    names: list[str] = []
    cursor: str | None = "0"
    while cursor is not None:
        page = (await officers.get(f"/{replay}/verdicts?limit=10&cursor={cursor}")).json()
        names += [verdict["workflowId"] for verdict in page["verdicts"]]
        cursor = page["nextCursor"]
    assert names == [at.isoformat() for at in executions.times]
    lines = await officers.get(f"/{replay}/verdicts", accept="application/x-ndjson")
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["workflowId"] for line in lines.text.splitlines()] == names
    assert (await officers.get(f"/{replay}/verdicts?verdict=different")).json()["verdicts"] == []
    first, *_ = (await officers.get("?cell=eu&limit=1")).json()["replays"]
    assert first["replayId"] == one
    second, *_ = (await officers.get(f"?cell=eu&limit=1&cursor={one}")).json()["replays"]
    assert second["replayId"] == replay


async def test_the_code_that_is_asked_for_is_noted_and_carried_along(officers: Officers) -> None:
    key, order = secrets.token_hex(8), {**PERIOD, "code": "recorded"}
    begun = await officers.ask(order, key=key)
    assert (begun.status_code, begun.json()["code"]) == (202, "recorded"), begun.text
    assert code_of(await officers.ask(PERIOD, key=key)) == (422, "idempotency_key_used")
    recorded: str = begun.json()["replayId"]
    this: str = (await officers.ask({**ONE, "code": "this"})).json()["replayId"]
    async with officers.worker(Executions(*soon(3))):
        told = [((await officers.ended(replay))["code"]) for replay in (recorded, this)]
    assert told == ["recorded", "this"]
    assert [(await officers.asked(replay))[0]["facts"]["code"] for replay in (recorded, this)] == told
    for replay, codes in ((recorded, {"then"}), (this, {""})):
        verdicts = (await officers.get(f"/{replay}/verdicts")).json()["verdicts"]
        assert {verdict["code"] for verdict in verdicts} == codes


async def test_a_replay_is_cancelled_once_and_keeps_what_was_judged(officers: Officers) -> None:
    replay: str = (await officers.ask(PERIOD)).json()["replayId"]
    async with officers.worker(Executions(*soon(5), away=10**6)):
        assert code_of(await officers.cancel(replay, ANN, Role.AUDITOR)) == (403, "forbidden")
        async with leaves(officers.owner, "compliance PUT /v1/compliance/replays/{replay_id}/cancel", subject=replay):
            for who in (ANN, ANN, BOB):
                ended = await officers.cancel(replay, who)
                assert (ended.status_code, ended.json()["status"]) == (200, "cancelled"), ended.text
        assert code_of(await officers.cancel(NOBODYS)) == (404, "not_found")
        done: str = (await officers.ask({**ONE, "workflowId": "submit-votes/eu/y-1"})).json()["replayId"]
        assert (await officers.cancel(done)).json()["status"] == "cancelled"  # nothing can be read of it either
    found = (await officers.get(f"/{replay}")).json()
    assert (found["status"], found["same"], found["endedAt"] is None) == ("cancelled", 0, False)
    told = await officers.cancellations(replay)
    assert told == [(who, "compliance", outcome) for who in (ANN, BOB) for outcome in ("asked", "cancelled")]


async def test_what_has_ended_is_not_cancelled(officers: Officers) -> None:
    replay: str = (await officers.ask(ONE)).json()["replayId"]
    async with officers.worker(Executions()):
        await officers.ended(replay)
        await officers.cell.temporal.get_workflow_handle(f"replay-executions/eu/{replay}").result()
        assert code_of(await officers.cancel(replay)) == (409, "work_ended")
    assert (await officers.get(f"/{replay}")).json()["status"] == "finished"


async def test_one_key_is_one_question_of_one_person(officers: Officers) -> None:
    key = secrets.token_hex(8)
    first = await officers.ask(PERIOD, key=key)
    assert code_of(await officers.ask({**PERIOD, "type": ""}, key=key)) == (422, "idempotency_key_used")
    assert (await officers.ask(PERIOD, BOB, key=key)).json()["replayId"] != first.json()["replayId"]


async def test_nothing_begins_without_its_entry(officers: Officers) -> None:
    await officers.cell.pool.close()
    assert code_of(await officers.ask(PERIOD)) == (503, "directory_unavailable")
    listed = officers.cell.temporal.list_workflows(f"TaskQueue = '{officers.queue}'")
    assert [each.id async for each in listed] == []


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.COMPLIANCE])
async def test_only_compliance_asks_and_reads(officers: Officers, role: Role) -> None:
    assert code_of(await officers.ask(PERIOD, ANN, role)) == (403, "forbidden")
    for path in (f"/{NOBODYS}", f"/{NOBODYS}/verdicts", "?cell=eu"):
        assert code_of(await officers.get(path, role)) == (403, "forbidden")


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ({}, (400, "malformed_request")),
        ({**PERIOD, **ONE}, (400, "malformed_request")),
        ({**PERIOD, "runId": "00000000-0000-0000-0000-000000000000"}, (400, "malformed_request")),
        ({**PERIOD, "from": SOON.isoformat()}, (400, "malformed_request")),
        ({**PERIOD, "to": "2999-01-01T00:00:00+00:00"}, (400, "malformed_request")),
        ({**PERIOD, "type": "x' OR ExecutionStatus = 'Running"}, (400, "malformed_request")),
        ({"workflowId": "no id"}, (400, "malformed_request")),
        ({**ONE, "cell": "us"}, (400, "malformed_request")),
        ({**ONE, "type": "SubmitVotes"}, (400, "malformed_request")),
        ({"cell": "eu"}, (400, "malformed_request")),
        ({**ONE, "more": 1}, (400, "malformed_request")),
        ({**ONE, "code": "HEAD"}, (400, "malformed_request")),
        ({**ONE, "archived": "yes"}, (400, "malformed_request")),
        ({"workflowId": "run-survey/x", "archived": True}, (400, "malformed_request")),
        ({**PERIOD, "cell": "platform", "archived": True}, (400, "malformed_request")),
        ({**PERIOD, "cell": "mars"}, (404, "not_found")),
        ({**PERIOD, "cell": "us"}, (503, "cell_unavailable")),
        ({"workflowId": "submit-votes/mars/x"}, (404, "not_found")),
    ],
    ids=str,
)
async def test_what_is_no_question_is_refused(officers: Officers, order: dict[str, Any], code: tuple[int, str]) -> None:
    assert code_of(await officers.ask(order)) == code


async def test_what_is_read_out_of_the_archive_is_said_in_its_entry(officers: Officers) -> None:
    key, executions = secrets.token_hex(8), Executions(*soon(3))
    begun = await officers.ask({**PERIOD, "archived": True}, key=key)
    assert (begun.status_code, begun.json()["archived"]) == (202, True), begun.text
    assert code_of(await officers.ask(PERIOD, key=key)) == (422, "idempotency_key_used")
    replay: str = begun.json()["replayId"]
    async with officers.worker(executions):
        assert (await officers.ended(replay))["archived"] is True
    assert {request.archived for request in executions.requests} == {True}
    assert (await officers.asked(replay))[0]["facts"]["source"] == "archive"


@pytest.mark.parametrize("replay", [NOBODYS, "w_mars_" + "a" * 26, "x", "j_eu_" + "a" * 26])
async def test_what_nobody_asked_for_is_not_there(officers: Officers, replay: str) -> None:
    for path in (f"/{replay}", f"/{replay}/verdicts"):
        assert code_of(await officers.get(path)) == (404, "not_found")
    assert code_of(await officers.cancel(replay)) == (404, "not_found")
