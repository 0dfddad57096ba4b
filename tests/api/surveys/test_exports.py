"""Results as files: written once, fetched by staff, the same whatever breaks on the way."""

import asyncio
import csv
import hashlib
import io
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from domain.tally import BALLOTS, MergedTotals
from tests.answers import code_of
from tests.api.surveys.conftest import Platform
from tests.audited import leaves

OwnerPool = Callable[[str], Awaitable[asyncpg.Pool]]
INTERNAL = "/v1/internal/surveys"
AS_OF = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOTALS = MergedTotals(
    positions={"eu": (1, 5)},
    counts={("UK", BALLOTS): 5, ("UK", "1"): 3, ("UK", "2"): 2, ("FR", BALLOTS): 1, ("FR", "2"): 1},
    as_of=AS_OF,
    missing_cells=("us",),
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def survey(working: Platform) -> AsyncIterator[str]:
    """The path of a published survey, staff-only, with some votes."""
    working.results.merged = TOTALS
    options = [{"text": "=SUM(A1)"}, {"text": "Salad, green"}]
    question = {"title": "What?", "min": 1, "max": 1, "options": options}
    wanted = {"title": "Lunch", "questions": [question], "visibility": "staff"}
    async with working.http(working.staff()) as admin:
        path = str((await admin.post(INTERNAL, json=wanted)).headers["location"])
        assert (await admin.put(f"{path}/publish")).status_code == 200
    yield path
    working.results.is_down = False


async def exported(admin: httpx.AsyncClient, survey: str, **order: Any) -> dict[str, Any]:
    """Order an export and wait for its file."""
    answer = await admin.post(f"{survey}/exports", json=order)
    assert answer.status_code == 202, answer.text
    url = answer.headers["location"]
    assert answer.json()["url"] == url
    assert answer.json()["status"] == "running"
    return await finished(admin, url)


async def finished(admin: httpx.AsyncClient, url: str) -> dict[str, Any]:
    deadline = time.monotonic() + 15
    while True:
        answer = await admin.get(url)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        if found["status"] == "finished" and "sha256" in found:
            return found
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_csv_has_a_line_per_region_and_option(admin: httpx.AsyncClient, survey: str) -> None:
    found = await exported(admin, survey, format="csv")
    assert (found["asOf"], found["missingCells"]) == ("2026-01-01T12:00:00Z", ["us"])
    answer = await admin.get(found["url"], params={"download": True})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{found["id"]}.csv"'
    assert len(answer.content) == found["sizeBytes"]
    digest = hashlib.sha256(answer.content).digest()
    assert digest.hex() == found["sha256"]
    assert answer.headers["repr-digest"] == f"sha-256=:{b64encode(digest).decode()}:"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [(row["region"], row["option_id"], row["votes"], row["responses"]) for row in rows] == [
        ("FR", "1", "0", "1"),
        ("FR", "2", "1", "1"),
        ("UK", "1", "3", "5"),
        ("UK", "2", "2", "5"),
    ]
    assert [row["option"] for row in rows[:2]] == ["'=SUM(A1)", "Salad, green"]  # no spreadsheet computes it
    assert {row["missing_cells"] for row in rows} == {"us"}
    assert (await admin.get(found["url"], headers={"accept": "text/csv"})).content == answer.content


async def test_a_json_document_has_the_sum_and_every_region(admin: httpx.AsyncClient, survey: str) -> None:
    found = await exported(admin, survey, format="json")
    answer = await admin.get(found["url"], params={"download": True})
    document = answer.json()
    assert document["survey"]["title"] == "Lunch"
    assert document["totalResponses"] == 6
    assert [option["votes"] for option in document["questions"][0]["options"]] == [3, 3]
    assert [(region["region"], region["totalResponses"]) for region in document["regions"]] == [("FR", 1), ("UK", 5)]
    assert document["missingCells"] == ["us"]


async def test_filters_narrow_the_file(admin: httpx.AsyncClient, survey: str) -> None:
    found = await exported(admin, survey, format="csv", region="UK", option="2")
    assert (found["region"], found["option"]) == ("UK", "2")
    rows = list(csv.DictReader(io.StringIO((await admin.get(found["url"], params={"download": True})).text)))
    assert [(row["region"], row["option_id"], row["votes"]) for row in rows] == [("UK", "2", "2")]
    found = await exported(admin, survey, format="json", region="FR", option="2")
    document = (await admin.get(found["url"], params={"download": True})).json()
    assert document["totalResponses"] == 1
    assert [option["votes"] for option in document["questions"][0]["options"]] == [1]
    assert len(document["regions"]) == 1


async def test_an_outage_of_the_tally_is_waited_out(admin: httpx.AsyncClient, survey: str, platform: Platform) -> None:
    platform.results.is_down = True
    answer = await admin.post(f"{survey}/exports", json={"format": "json"})
    url = answer.headers["location"]
    assert (await admin.get(url)).json()["status"] == "running"
    assert code_of(await admin.get(url, params={"download": True})) == (409, "export_not_finished")
    platform.results.is_down = False
    assert (await finished(admin, url))["sizeBytes"] > 0


async def test_a_cancelled_export_stays_so_and_is_written_down_once(
    admin: httpx.AsyncClient, survey: str, platform: Platform, owner_pool: OwnerPool
) -> None:
    platform.results.is_down = True
    url = (await admin.post(f"{survey}/exports", json={"format": "json"})).headers["location"]
    route = "surveys PUT /v1/internal/surveys/{survey_id}/exports/{export_id}/cancel"
    async with leaves(await owner_pool("catalogue"), route, subject=survey.rpartition("/")[2]):
        for _ in range(2):
            cancelled = await admin.put(f"{url}/cancel")
            assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled"), cancelled.text
    platform.results.is_down = False
    assert (await admin.get(url)).json()["status"] == "cancelled"
    assert code_of(await admin.get(url, params={"download": True})) == (409, "export_not_finished")
    rows = await (await owner_pool("catalogue")).fetch(
        "SELECT body FROM audit.entry WHERE kind = 'export.cancelled' AND body->>'subject' = $1",
        survey.rpartition("/")[2],
    )
    (entry,) = (json.loads(row["body"]) for row in rows)
    assert (entry["actor"], entry["role"]) == ("staff:u_tester", "admin")
    assert entry["facts"] == {"export": url.rpartition("/")[2]}


async def test_a_file_and_whoever_has_it_are_entries_with_its_digest(
    admin: httpx.AsyncClient, survey: str, owner_pool: OwnerPool
) -> None:
    pool, subject = await owner_pool("catalogue"), survey.rpartition("/")[2]
    found = await exported(admin, survey, format="csv")
    told = {"subject": subject, "outcome": "done", "after": found["sha256"], "facts": {"export": found["id"]}}
    for asked in ({"params": {"download": True}}, {"headers": {"accept": "text/csv"}}):
        async with leaves(pool, "surveys GET /v1/internal/surveys/{survey_id}/exports/{export_id}", subject=subject):
            assert (await admin.get(found["url"], **asked)).status_code == 200
    assert (await admin.get(found["url"])).status_code == 200  # how it stands is no file
    rows = await pool.fetch(
        "SELECT kind, body FROM audit.entry WHERE body->'facts'->>'export' = $1 ORDER BY xid", found["id"]
    )
    fetched = ("export.fetched", {"actor": "staff:u_tester", "role": "admin", **told})
    assert [(row["kind"], json.loads(row["body"])) for row in rows[1:]] == [
        ("export.completed", {"actor": "process:export-results", **told}),
        fetched,
        fetched,
    ]


async def test_an_export_that_has_its_file_keeps_it(admin: httpx.AsyncClient, survey: str) -> None:
    found = await exported(admin, survey, format="csv")
    assert code_of(await admin.put(f"{found['url']}/cancel")) == (409, "work_ended")
    assert (await admin.get(found["url"])).json()["status"] == "finished"
    assert code_of(await admin.put(f"{survey}/exports/x_aaaaaaaaaaaaaaaa/cancel")) == (404, "export_not_found")


async def test_an_export_is_noted_with_whoever_asked(
    admin: httpx.AsyncClient, survey: str, owner_pool: OwnerPool
) -> None:
    pool = await owner_pool("catalogue")

    async def noted() -> list[str]:
        statement = "SELECT actor FROM catalogue.staff_action WHERE survey_id = $1 AND action = 'export'"
        return [row["actor"] for row in await pool.fetch(statement, survey.rpartition("/")[2])]

    before = await noted()
    found = await exported(admin, survey, format="csv")
    assert await noted() == [*before, "staff:u_tester"]
    asked = await pool.fetchval("SELECT requested_by FROM catalogue.export WHERE export_id = $1", found["id"])
    assert asked == "staff:u_tester"


async def test_another_surveys_export_is_not_found(admin: httpx.AsyncClient, survey: str) -> None:
    found = await exported(admin, survey, format="csv")
    other = (await admin.post(INTERNAL, json={"title": "x", "questions": [QUESTION]})).headers["location"]
    for url in (f"{other}/exports/{found['id']}", f"{survey}/exports/x_aaaaaaaaaaaaaaaa", f"{survey}/exports/nonsense"):
        assert code_of(await admin.get(url)) == (404, "export_not_found")
    assert code_of(await admin.post(f"{other}/exports", json={"format": "csv"})) == (409, "survey_not_open")


QUESTION = {"title": "What?", "min": 1, "max": 1, "options": [{"text": "a"}]}


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({}, (400, "malformed_request")),
        ({"format": "xlsx"}, (400, "malformed_request")),
        ({"format": "csv", "to": "me"}, (400, "malformed_request")),
        ({"format": "csv", "region": 1}, (400, "malformed_request")),
        ({"format": "csv", "region": "\x00"}, (400, "malformed_request")),
        ({"format": "csv", "option": "9"}, (422, "option_unknown")),
        ({"format": "csv", "region": ""}, (422, "region_unknown")),
        ({"format": "csv", "region": "x" * 1000}, (422, "region_unknown")),
    ],
)
async def test_a_malformed_order_is_refused(
    admin: httpx.AsyncClient, survey: str, order: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert code_of(await admin.post(f"{survey}/exports", json=order)) == expected
