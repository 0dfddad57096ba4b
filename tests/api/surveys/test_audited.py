"""Whatever staff do with a survey leaves its entry, written with it."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest

from domain.audit import AuditKind as K
from tests.api.surveys.test_exports import finished
from tests.api.surveys.test_publishing import body, drafted
from tests.audited import ROUTES

OwnerPool = Callable[[str], Awaitable[asyncpg.Pool]]
INTERNAL = "/v1/internal/surveys"
FAR = "2040-01-01T00:00:00Z"
FARTHER = "2041-01-01T00:00:00Z"
_ONE = f"{INTERNAL}/{{survey_id}}"

# What is done, in order, and what comes of it; the survey of the last line is another one.
STEPS: tuple[tuple[str, Any, K], ...] = (
    (f"PUT {_ONE}", body("Dinner", finishDate=FAR), K.SURVEY_UPDATED),
    (f"PUT {_ONE}/publish", None, K.SURVEY_PUBLISHED),
    (f"PUT {_ONE}/pause", None, K.SURVEY_PAUSED),
    (f"PUT {_ONE}/resume", None, K.SURVEY_RESUMED),
    (f"PUT {_ONE}/extend", {"finishDate": FARTHER}, K.SURVEY_EXTENDED),
    (f"POST {_ONE}/exports", {"format": "json"}, K.EXPORT_ASKED),
    (f"PUT {_ONE}", "correction", K.SURVEY_CORRECTED),
    (f"PUT {_ONE}/finish", None, K.SURVEY_FINISHED),
)


async def entries(owner_pool: OwnerPool, survey_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Return what staff did, and what came of it; what their keys' process does is no route's."""
    rows = await (await owner_pool("catalogue")).fetch(
        "SELECT kind, body FROM audit.entry WHERE body->>'subject' = $1 AND kind <> 'survey.keys_made'"
        " ORDER BY xid, entry_id",
        survey_id,
    )
    return [(row["kind"], json.loads(row["body"])) for row in rows]


async def corrected(admin: httpx.AsyncClient, path: str) -> dict[str, Any]:
    found = (await admin.get(path)).json()
    return {name: found[name] for name in ("questions", "finishDate")} | {"title": "Late dinner"}


async def test_every_route_of_staff_leaves_its_entry(admin: httpx.AsyncClient, owner_pool: OwnerPool) -> None:
    path, survey_id = await drafted(admin)
    expected, export_id = [K.SURVEY_CREATED], ""
    for route, wanted, kind in STEPS:
        method, _, template = route.partition(" ")
        sent = await corrected(admin, path) if wanted == "correction" else wanted
        answer = await admin.request(method, template.replace("{survey_id}", survey_id), json=sent)
        assert answer.status_code < 300, (route, answer.text)
        if kind is K.EXPORT_ASKED:
            await finished(admin, answer.headers["location"])
            export_id = answer.headers["location"].rpartition("/")[2]
        expected += [kind, K.EXPORT_COMPLETED] if kind is K.EXPORT_ASKED else [kind]
        assert [found for found, _ in await entries(owner_pool, survey_id)] == expected, route
    told = [of for of in await entries(owner_pool, survey_id) if of[0] != K.EXPORT_COMPLETED]
    assert {(entry["actor"], entry["role"], entry["outcome"]) for _, entry in told} == {
        ("staff:u_tester", "admin", "done")
    }
    exported = [entry["facts"] for kind, entry in told if kind == K.EXPORT_ASKED]
    assert exported == [{"export": export_id, "format": "json"}]
    digests = [(entry.get("before"), entry.get("after")) for kind, entry in told if kind != K.EXPORT_ASKED]
    assert digests[0][0] is None
    assert all(after is not None for _, after in digests)
    assert digests[1][0] == digests[0][1]  # of a draft each change begins where the one before ended

    draft, draft_id = await drafted(admin)
    assert (await admin.delete(draft)).status_code == 204
    assert [kind for kind, _ in await entries(owner_pool, draft_id)] == [K.SURVEY_CREATED, K.SURVEY_DELETED]
    walked = {f"surveys {route}" for route, _, _ in STEPS} | {f"surveys POST {INTERNAL}", f"surveys DELETE {_ONE}"}
    # One needs an end that differs, the other an export that is not finished yet
    elsewhere = {f"surveys PUT {_ONE}/certify", f"surveys PUT {_ONE}/exports/{{export_id}}/cancel"}
    assert walked | elsewhere == {route for route in ROUTES if route.startswith("surveys ")}


async def test_what_is_refused_leaves_no_entry(admin: httpx.AsyncClient, owner_pool: OwnerPool) -> None:
    path, survey_id = await drafted(admin)
    assert (await admin.put(path, json=body("Late"), headers={"if-match": '"9"'})).status_code == 412
    assert (await admin.put(path, json={"title": ""})).status_code == 400
    assert (await admin.put(f"{path}/pause")).status_code >= 400
    assert [kind for kind, _ in await entries(owner_pool, survey_id)] == [K.SURVEY_CREATED]


@pytest.mark.parametrize("statement", ["UPDATE audit.entry SET kind = 'x'", "DELETE FROM audit.entry"])
async def test_entries_of_staff_cannot_be_changed(
    admin: httpx.AsyncClient, owner_pool: OwnerPool, statement: str
) -> None:
    await drafted(admin)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await (await owner_pool("catalogue")).execute(statement)
