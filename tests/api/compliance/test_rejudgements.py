"""Rejudgements over HTTP: who may ask, what is written down first, and how far one is."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from hashlib import sha256
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import APIRouter
from temporalio.worker import Worker

from activities.rejudging import RejudgingActivities
from api.compliance.composition import compose
from api.compliance.rejudgement_routes import rejudgement_routes
from api.compliance.rejudgements import RejudgementDesk, RejudgingCell
from domain.audit import AuditKind
from domain.certificates import canonical_json
from domain.contracts.rejudging import DecisionProcess
from domain.tokens import Role
from integrations.identity_cell import IdentityCell
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.opening import open_keys
from integrations.keys.purposes import ACCESS_TOKEN, STAFF_TOKEN
from integrations.postgres.roles import IDENTITY, SEARCH
from integrations.postgres.staff_entries import PostgresStaffEntries
from integrations.settings import Settings
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.rejudgements import TemporalRejudgements
from integrations.temporal.worker import sandbox
from tests.answers import code_of
from tests.api.compliance.orders import Orders, as_officer, only_eu, open_orders
from tests.api.support.staff_desk import ANN, BOB, door
from tests.audited import leaves
from tests.conftest import OwnerPool, SettingsFor
from tests.limits_world import lonely_limits
from tests.workflows.test_rejudge_decisions import SINCE, SOON, STRICT, Kept, soon
from workflows.rejudge_decisions import RejudgeDecisionsWorkflow

PATH = "/v1/compliance/rejudgements"
ORDER: dict[str, Any] = {
    "cell": "eu",
    "process": "login",
    "from": SINCE.isoformat(),
    "to": SOON.isoformat(),
    "policy": json.loads(STRICT),
}


class Officers(Orders):
    """Whoever asks for them."""

    async def ask(self, who: str = ANN, *roles: Role, key: str | None = None, **order: Any) -> httpx.Response:
        headers = as_officer(who, *roles) | {"idempotency-key": key or secrets.token_hex(8)}
        return await self.client.post(PATH, json={**ORDER, **order}, headers=headers)

    async def read(self, rejudgement: str, *roles: Role) -> httpx.Response:
        return await self.client.get(f"{PATH}/{rejudgement}", headers=as_officer(ANN, *roles))

    async def cancel(self, rejudgement: str, who: str, *roles: Role) -> httpx.Response:
        return await self.client.put(f"{PATH}/{rejudgement}/cancel", headers=as_officer(who, *roles))

    async def asked(self, rejudgement: str) -> list[dict[str, Any]]:
        return await self.entries(rejudgement, AuditKind.DECISIONS_REJUDGED)


def cell_of(cell: IdentityCell, queue: str) -> Callable[[str | None], RejudgingCell]:
    processes = TemporalRejudgements(cell.temporal, "eu", queue=queue, patience_s=20)
    return only_eu(RejudgingCell(PostgresStaffEntries(cell.pool), processes))


@pytest_asyncio.fixture
async def officers(settings_for: SettingsFor, owner_pool: OwnerPool) -> AsyncIterator[Officers]:
    def routes(cell: IdentityCell, queue: str) -> APIRouter:
        return rejudgement_routes(RejudgementDesk(cell_of(cell, queue)), door(Role.COMPLIANCE), lonely_limits())

    async with open_orders(settings_for, owner_pool, Officers, routes) as opened:
        yield opened


async def test_a_rejudgement_is_asked_for_once_and_read(officers: Officers) -> None:
    kept, key = Kept(*soon(30)), secrets.token_hex(8)
    activities = RejudgingActivities({DecisionProcess.LOGIN: kept}).all()
    async with leaves(officers.owner, "compliance POST /v1/compliance/rejudgements"):
        begun, *again = [await officers.ask(key=key) for _ in range(3)]
    assert (begun.status_code, begun.json()["finished"]) == (202, False)
    assert {answer.json()["rejudgementId"] for answer in again} == {begun.json()["rejudgementId"]}
    rejudgement: str = begun.json()["rejudgementId"]
    assert begun.headers["location"] == f"{PATH}/{rejudgement}"
    (entry,) = await officers.asked(rejudgement)
    assert (entry["actor"], entry["role"], entry["outcome"]) == (ANN, "compliance", "asked")
    told = dict(entry["facts"])
    assert told.pop("policy") == sha256(canonical_json(json.loads(STRICT))).hexdigest()
    assert told == {"process": "login", "from": "2026-05-07T00:00:00.000000Z", "to": "2026-05-07T01:00:00.000000Z"}
    async with Worker(
        officers.cell.temporal,
        task_queue=officers.queue,
        workflows=[RejudgeDecisionsWorkflow],
        activities=activities,
        workflow_runner=sandbox(),
    ):
        async with asyncio.timeout(40):
            while not (found := (await officers.read(rejudgement)).json())["finished"]:
                await asyncio.sleep(0.05)
        assert (found["same"], found["different"], found["cannot"]) == (0, 30, 0)
        assert found["changes"] == [{"before": "ALLOW", "after": "CHALLENGE", "count": 30}]
        assert found["judgedUntil"] == found["to"]
        (first, *_) = found["sample"]
        assert (len(found["sample"]), first["verdict"], first["policyVersion"]) == (30, "different", 1)
        assert (first["before"]["decision"], first["after"]["decision"]) == ("ALLOW", "CHALLENGE")
        assert "v_eu" not in json.dumps(found)
        other = await officers.ask(key=secrets.token_hex(8))
        assert other.json()["rejudgementId"] != rejudgement
    assert len(await officers.asked(rejudgement)) == 1


async def test_a_rejudgement_is_cancelled_once(officers: Officers) -> None:
    kept = Kept(*soon(30), away=10**6)
    rejudgement: str = (await officers.ask()).json()["rejudgementId"]
    async with Worker(
        officers.cell.temporal,
        task_queue=officers.queue,
        workflows=[RejudgeDecisionsWorkflow],
        activities=RejudgingActivities({DecisionProcess.LOGIN: kept}).all(),
        workflow_runner=sandbox(),
    ):
        assert code_of(await officers.cancel(rejudgement, ANN, Role.AUDITOR)) == (403, "forbidden")
        async with leaves(
            officers.owner,
            "compliance PUT /v1/compliance/rejudgements/{rejudgement_id}/cancel",
            subject=rejudgement,
        ):
            for who in (ANN, ANN, BOB):
                ended = await officers.cancel(rejudgement, who)
                assert (ended.status_code, ended.json()["status"]) == (200, "cancelled"), ended.text
        assert (await officers.read(rejudgement)).json()["status"] == "cancelled"
        assert code_of(await officers.cancel("j_eu_" + "a" * 26, ANN)) == (404, "not_found")
        kept.away = 0
        other: str = (await officers.ask()).json()["rejudgementId"]
        async with asyncio.timeout(40):
            while (await officers.read(other)).json()["status"] != "finished":
                await asyncio.sleep(0.05)
        assert code_of(await officers.cancel(other, ANN)) == (409, "work_ended")
    told = await officers.cancellations(rejudgement)
    assert told == [(who, "compliance", outcome) for who in (ANN, BOB) for outcome in ("asked", "cancelled")]
    told = await officers.cancellations(other)
    assert told == [(ANN, "compliance", "asked"), (ANN, "compliance", "work_ended")]


async def test_one_key_is_one_question_of_one_person(officers: Officers) -> None:
    key = secrets.token_hex(8)
    first = await officers.ask(key=key)
    assert code_of(await officers.ask(key=key, policy={"version": 1})) == (422, "idempotency_key_used")
    bobs = await officers.ask(BOB, key=key)
    assert bobs.json()["rejudgementId"] != first.json()["rejudgementId"]


async def test_nothing_begins_without_its_entry(officers: Officers) -> None:
    await officers.cell.pool.close()
    key = secrets.token_hex(8)
    assert code_of(await officers.ask(key=key)) == (503, "directory_unavailable")
    listed = officers.cell.temporal.list_workflows(f"TaskQueue = '{officers.queue}'")
    assert [each.id async for each in listed] == []


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.COMPLIANCE])
async def test_only_compliance_asks_and_reads(officers: Officers, role: Role) -> None:
    assert code_of(await officers.ask(ANN, role)) == (403, "forbidden")
    assert code_of(await officers.read("j_eu_" + "a" * 26, role)) == (403, "forbidden")


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ({"policy": {"version": 77}}, (400, "malformed_request")),
        ({"policy": {}}, (400, "malformed_request")),
        ({"policy": [1]}, (400, "malformed_request")),
        ({"policy": {"version": 2, "adds": {"failures": 1e300}}}, (400, "malformed_request")),
        ({"process": "identity"}, (400, "malformed_request")),
        ({"process": "votes"}, (400, "malformed_request")),
        ({"from": SOON.isoformat()}, (400, "malformed_request")),
        ({"from": "2026-05-07T00:00:00"}, (400, "malformed_request")),
        ({"from": "0001-01-01T00:00:00+14:00"}, (400, "malformed_request")),  # the year 0 in UTC
        ({"to": "2999-01-01T00:00:00+00:00"}, (400, "malformed_request")),  # is not over
        ({"more": 1}, (400, "malformed_request")),
        ({"cell": "mars"}, (404, "not_found")),
        ({"cell": "us"}, (503, "cell_unavailable")),
    ],
    ids=str,
)
async def test_what_is_no_question_is_refused(officers: Officers, order: dict[str, Any], code: tuple[int, str]) -> None:
    assert code_of(await officers.ask(**order)) == code


@pytest.mark.parametrize("rejudgement", ["j_eu_" + "a" * 26, "j_mars_" + "a" * 26, "x", "a_eu_" + "a" * 26])
async def test_what_nobody_asked_for_is_not_there(officers: Officers, rejudgement: str) -> None:
    assert code_of(await officers.read(rejudgement)) == (404, "not_found")


async def test_the_service_lets_in_compliance_alone(settings_for: SettingsFor) -> None:
    settings: Settings = settings_for(IDENTITY, SEARCH)
    tokens = AccessTokens(open_keys(settings, ACCESS_TOKEN, STAFF_TOKEN))
    await tokens.refresh()
    async with AsyncExitStack() as lifetime:
        service = await compose(settings, lifetime, make_telemetry(settings, "compliance"))
        transport = httpx.ASGITransport(service.app)
        client = await lifetime.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://officer"))

        async def ask(*roles: Role) -> httpx.Response:
            headers = {"authorization": f"Bearer {tokens.staff('u_tester', roles)}", "idempotency-key": "k" * 8}
            return await client.post(PATH, json={**ORDER, "cell": "mars"}, headers=headers)

        assert code_of(await ask(Role.AUDITOR, Role.SUPPORT, Role.ADMIN)) == (403, "forbidden")
        assert code_of(await ask(Role.COMPLIANCE)) == (404, "not_found")
        assert (await client.post(PATH, json=ORDER)).status_code == 401
