"""Open cases over HTTP, listed by how long they wait or since somebody should look, with what they try in vain."""

import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest

from api.support.stuck import StuckDesk
from domain.accounts import LookupKind
from domain.case_targets import OPENING, Target
from domain.errors import ErrorCode
from domain.ids import (
    new_deletion_id,
    new_recovery_id,
    new_voter_id,
    recover_account_workflow_id,
)
from integrations.identity_cell import KEYS
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from tests.answers import code_of
from tests.api.auth.registration_town import CELLS, Town, number
from tests.api.support.staff_desk import StaffDesk, staff_desk
from tests.api.support.support_world import Support, eventually, support_cells
from tests.api.support.test_acting import at_provider
from tests.conftest import OwnerPool
from tests.integrations.postgres.account_rows import make_account

Look = Callable[[dict[str, str]], Awaitable[Any]]


async def listed(look: Look, case_id: str, **query: str) -> Any:
    """Look for a case on every page of a list."""
    cursor: dict[str, str] = {}
    while True:
        page = await look({"limit": "20", **query, **cursor})
        for case in page["cases"]:
            if case["caseId"] == case_id:
                return case
        if "nextCursor" not in page:
            return None
        cursor = {"cursor": page["nextCursor"]}


async def read(desk: StaffDesk, path: str) -> Any:
    answer = await desk.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_open_cases_of_any_kind_are_listed_by_their_age(town: Town, support: Support) -> None:
    async def look(params: dict[str, str]) -> Any:
        return await support.found("cases", **params)

    cell, request = town.cells["eu"], new_recovery_id("eu")
    await cell.recoveries.begin(request, await make_account(cell.pool), f"rk_eu_{'b' * 43}", datetime.now(UTC))
    # Nobody works there: it stays open
    handle = await cell.temporal.start_workflow(
        "RecoverAccount",
        id=recover_account_workflow_id("eu", request),
        task_queue=f"nobody-{secrets.token_hex(4)}",
    )
    registration: str = (await town.begin(cell="us")).json()["registrationId"]
    try:
        for case_id, kind, stage in ((request, "recovery", "sent"), (registration, "registration", "contact_proof")):
            case = await eventually(partial(listed, look, case_id, older_than="0"))
            assert (case["kind"], case["stage"]) == (kind, stage)
            assert await listed(look, case_id, older_than="3600") is None
            assert await listed(look, case_id, escalated="true") is None
            assert await listed(look, case_id, stage="review", older_than="0") is None
            assert await listed(look, case_id, stage=stage)
            assert await listed(look, case_id, stage=stage, older_than="3600") is None
        assert await listed(look, registration, stage="contact_proof")
        assert await listed(look, registration, stage="contact_proof", older_than="3600") is None
    finally:
        await handle.terminate()

    async def is_over() -> bool:
        return await listed(look, request, older_than="0") is None

    await eventually(is_over)


async def test_a_recovery_is_at_the_stage_that_its_link_is_at(
    town: Town, support: Support, owner_pool: OwnerPool
) -> None:
    cell, now, owner = town.cells["eu"], datetime.now(UTC), await owner_pool("eu")
    voter, end = await make_account(cell.pool), "UPDATE identity.recovery SET expires_at = now() WHERE request_id = $1"
    for letter, asked_at, stage in (("c", now - timedelta(days=2), "expired"), ("d", now, "sent")):
        request, token = new_recovery_id("eu"), f"rk_eu_{letter * 43}"
        await cell.recoveries.begin(request, voter, token, asked_at)
        if stage == "expired":
            await owner.execute(end, request)
        case = (await support.found("cases", voter=voter))["cases"][0]
        assert (case["caseId"], case["stage"]) == (request, stage)
    await cell.recoveries.finish(token, b"hash")
    assert (await support.found("cases", voter=voter))["cases"][0]["stage"] == "recovered"


async def test_what_was_escalated_is_found_by_whoever_should_look(town: Town, owner_pool: OwnerPool) -> None:
    registration, other = await at_provider(town), await at_provider(town)
    async with staff_desk(town, await owner_pool("eu")) as desk:

        async def look(params: dict[str, str]) -> Any:
            return await read(desk, f"cases?{urlencode(params)}")

        order = {"action": "escalate", "reason": "complaint"}
        assert (await desk.post(f"cases/{registration}/actions", **order)).status_code == 200
        case = await eventually(partial(listed, look, registration, escalated="true"))
        assert (case["kind"], case["stage"]) == ("registration", "proofing")
        assert await eventually(partial(listed, look, registration, escalated="true", stage="proofing"))
        assert await listed(look, registration, escalated="true", stage="contact_proof") is None
        assert await listed(look, registration, escalated="true", older_than="3600") is None
        assert await eventually(partial(listed, look, other, stage="proofing"))
        assert await listed(look, other, escalated="true") is None


async def test_a_case_says_what_the_processes_that_it_started_try_in_vain(town: Town, owner_pool: OwnerPool) -> None:
    registration = await at_provider(town)
    reference = (await town.row(registration)).reference
    fault = {"kind": "status", "status": 500, "count": 1000, "method": "GET", "path": reference}
    assert (await town.vendor.post("/sumsub/_control/faults", json=fault)).is_success
    try:
        async with staff_desk(town, await owner_pool("eu")) as desk:
            order = {"action": "look_now", "reason": "stuck"}
            assert (await desk.post(f"cases/{registration}/actions", **order)).status_code == 200

            async def tried() -> Any:
                file = await read(desk, f"cases/{registration}")
                # Between two attempts: while one goes on nobody knows when the next will be
                return [each for each in file["pending"] if each["attempts"] > 1 and "againAt" in each]

            (pending,) = await eventually(tried)
            assert (pending["name"], pending["code"]) == ("read_case", ErrorCode.PROOFING_UNAVAILABLE)
            steps = (await read(desk, f"cases/{registration}/timeline"))["steps"]
            began = [step["at"] for step in steps if step["name"] == "read_case" and step["state"] == "scheduled"]
            assert began[-1] < pending["againAt"]
    finally:
        await town.vendor.delete("/sumsub/_control/faults")


async def test_a_registration_that_its_provider_does_not_take_up_is_listed_as_waiting_and_as_late(
    town: Town, support: Support
) -> None:
    mail, late_at_once = f"{secrets.token_hex(4)}@example.org", Target("VerifyIdentity", timedelta(0), OPENING)
    fault = {"kind": "status", "status": 500, "count": 1000, "method": "POST", "path": "applicants"}
    assert (await town.vendor.post("/sumsub/_control/faults", json=fault)).is_success
    try:
        registration: str = (await town.begin(mail=mail)).json()["registrationId"]
        await town.prove(registration, mail)
        await town.at(registration, "proofing")

        async def look(params: dict[str, str]) -> Any:
            return await support.found("cases", **params)

        case = await eventually(partial(listed, look, registration, stage="proofing"))
        assert (case["kind"], case["stage"]) == ("registration", "proofing")
        assert await listed(look, registration, stage="review") is None

        async def late() -> Any:
            found = await StuckDesk(CELLS, support_cells(town), [late_at_once]).look(100)
            mine = [each for each in found.found if each.case is not None and each.case.case_id == registration]
            return mine if mine and mine[0].standing.pending and mine[0].standing.pending[0].attempts > 1 else None

        (stuck,) = await eventually(late)
        (pending,) = stuck.standing.pending
        assert (stuck.standing.process, pending.name, pending.code) == (
            "VerifyIdentity",
            "open_case",
            ErrorCode.PROOFING_UNAVAILABLE,
        )
    finally:
        await town.vendor.delete("/sumsub/_control/faults")

    async def is_taken_up() -> bool:
        found = await StuckDesk(CELLS, support_cells(town), [late_at_once]).look(100)
        return registration not in {each.case.case_id for each in found.found if each.case is not None}

    await town.at_provider(registration)
    await eventually(is_taken_up)
    assert await eventually(partial(listed, look, registration, stage="proofing"))


async def test_an_approval_that_is_taken_back_is_in_the_timeline_with_what_is_tried_for_it(
    town: Town, owner_pool: OwnerPool
) -> None:
    registration = (await town.proofed("eu", number()))["registrationId"]
    reference = (await town.row(registration)).reference
    fault = {"kind": "status", "status": 500, "count": 1000, "method": "GET", "path": reference}
    assert (await town.vendor.post("/sumsub/_control/faults", json=fault)).is_success
    async with staff_desk(town, await owner_pool("eu")) as desk:
        try:
            await town.take_back(registration)

            async def tried() -> Any:
                pending = (await read(desk, f"cases/{registration}"))["pending"]
                return [each for each in pending if each["attempts"] > 1]

            (pending,) = await eventually(tried)
            assert (pending["name"], pending["code"]) == ("read_case", ErrorCode.PROOFING_UNAVAILABLE)
        finally:
            await town.vendor.delete("/sumsub/_control/faults")

        async def ended() -> Any:
            timeline = await read(desk, f"cases/{registration}/timeline")
            last, is_over = timeline["steps"][-1], (await town.row(registration)).stage == "rejected"
            return timeline if is_over and last["kind"] == "ended" else None

        timeline = await eventually(ended)
    assert timeline["gaps"] == {}
    proofing = [step for step in timeline["steps"] if step["process"] == "VerifyIdentity"]
    assert [step["kind"] for step in proofing].count("began") == 2
    assert "suspend_account" in {step["name"] for step in proofing}
    assert [step["name"] for step in timeline["steps"] if step["kind"] == "stage"][-2:] == ["active", "rejected"]


async def test_somebody_is_found_by_the_telephone_number_that_is_theirs(town: Town, support: Support) -> None:
    cell, voter, deletion = town.cells["us"], new_voter_id("us"), new_deletion_id("us")
    number = f"+49 151 {secrets.randbelow(10**8):08}"
    hashes = await KeyedLookupHashes(open_keys(town.settings, *KEYS)).every(LookupKind.PHONE, number)
    assert await cell.accounts.open(voter, "DE", {LookupKind.PHONE: hashes})
    await cell.ends.request(deletion, voter)
    (case,) = (await support.found("cases", phone=number.replace(" ", "")))["cases"]
    assert (case["caseId"], case["kind"], case["voter"]) == (deletion, "deletion", voter)
    assert (case["stage"], case["changedAt"]) == ("requested", case["beganAt"])
    since = []
    for step, stage in ((cell.ends.stop, "stopped"), (cell.ends.close, "closed")):
        await step(deletion)
        (case,) = (await support.found("cases", voter=voter))["cases"]
        assert case["stage"] == stage
        since.append(case["changedAt"])
    assert case["beganAt"] < since[0] < since[1]
    assert (await support.found("cases", phone="+4930123456"))["cases"] == []


@pytest.mark.parametrize(
    "params",
    [
        {"registration": "x", "older_than": "0"},
        {"mail": "a@b.org", "escalated": "true"},
        {"escalated": "perhaps"},
        {"escalated": "false"},
    ],
)
async def test_lists_of_open_cases_are_no_way_to_find_one(support: Support, params: dict[str, str]) -> None:
    assert code_of(await support.get("cases", **params)) == (400, "malformed_request")
