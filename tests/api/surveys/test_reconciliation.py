"""What reconciliation found, as staff read it."""

from datetime import UTC, datetime

import httpx

from domain.contracts.reconciliation import Difference, DifferenceKind
from domain.tokens import Role
from integrations.postgres.differences import write_differences
from integrations.postgres.findings import CellFindingsReader
from integrations.postgres.pool import pool_on_demand
from integrations.postgres.roles import SURVEYS
from tests.api.surveys.conftest import CELLS, Platform
from tests.conftest import OwnerPool

SURVEY = {
    "title": "Lunch",
    "questions": [{"title": "What?", "min": 1, "max": 1, "order": 0, "options": [{"text": "Soup"}, {"text": "Salad"}]}],
}
CHECKPOINT = """
INSERT INTO reconciliation.checkpoint (survey_id, xid, participation_block, ballot_block, sums, completed_at)
VALUES ($1, '1', 0, 0, $2::jsonb, now())
"""
SUMS = '{"ballots": 3, "regions": {"north": {"participations": 3, "counted": 2, "options": {"1": 2}}}}'


async def created(admin: httpx.AsyncClient) -> str:
    answer = await admin.post("/v1/internal/surveys", json=SURVEY)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


async def test_differences_are_named_and_what_was_never_checked_does_not_agree(
    admin: httpx.AsyncClient, owner_pool: OwnerPool
) -> None:
    survey_id = await created(admin)
    address = f"/v1/internal/surveys/{survey_id}/reconciliation"
    empty = (await admin.get(address)).json()
    assert empty == {
        "survey": survey_id,
        "agrees": False,
        "cells": [
            {"cell": cell, "participations": 0, "ballots": 0, "regions": [], "differences": []} for cell in CELLS
        ],
        "missingCells": [],
    }
    for cell in CELLS:
        await (await owner_pool(cell)).execute(CHECKPOINT, survey_id, SUMS)
    assert (await admin.get(address)).json()["agrees"] is True
    difference = Difference(
        kind=DifferenceKind.BALLOTS_ROOT_DIFFERS, cell="us", detail="a root", batch="00-1", expected=0, found=4
    )
    pool = await owner_pool("us")
    await write_differences(pool, survey_id, [difference])
    found = (await admin.get(address)).json()
    assert found["agrees"] is False
    eu, us = found["cells"]
    assert eu["differences"] == []
    assert us["differences"] == [
        {"kind": "ballots_root_differs", "detail": "a root", "batch": "00-1", "expected": 0, "found": 4}
    ]
    assert us["regions"] == [{"region": "north", "participations": 3, "counted": 2}]
    assert (us["participations"], us["ballots"]) == (3, 3)
    assert datetime.fromisoformat(us["checkedAt"]) <= datetime.now(UTC)
    assert us["completedAt"]
    await write_differences(pool, survey_id, [difference], repaired=True)
    assert (await admin.get(address)).json()["agrees"] is True


async def test_only_admins_read_it_and_only_of_surveys_that_are_there(
    admin: httpx.AsyncClient, platform: Platform
) -> None:
    survey_id = await created(admin)
    for role in (Role.SUPPORT, Role.COMPLIANCE):
        async with platform.http(platform.staff(role)) as other:
            answer = await other.get(f"/v1/internal/surveys/{survey_id}/reconciliation")
            assert answer.status_code == 403
    missing = await admin.get("/v1/internal/surveys/s_aaaaaaaaaaaaaaaa/reconciliation")
    assert (missing.status_code, missing.json()["code"]) == (404, "survey_not_found")


async def test_a_cell_that_is_away_is_named(platform: Platform, owner_pool: OwnerPool) -> None:
    address = platform.settings.cells["us"].database.model_copy(update={"port": 1})
    away = await pool_on_demand(address, platform.settings, SURVEYS, timeout=5)
    try:
        reader = CellFindingsReader({"eu": await owner_pool("eu"), "us": away})
        cells, missing = await reader.findings("s_aaaaaaaaaaaaaaaa")
        assert [found.cell for found in cells] == ["eu"]
        assert missing == ("us",)
    finally:
        away.terminate()
