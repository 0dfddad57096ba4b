"""Drafts: changed as a whole, by many at once, by staff alone."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import asyncpg
import httpx
import pytest

from domain.checkpoints import read_verifier_keys
from domain.tokens import Role
from tests.answers import code_of
from tests.api.surveys.conftest import Platform

OwnerPool = Callable[[str], Awaitable[asyncpg.Pool]]
INTERNAL = "/v1/internal/surveys"


def body(title: str = "Lunch", *options: str, **more: Any) -> dict[str, Any]:
    texts = options or ("Soup", "Salad")
    question = {"title": "What?", "min": 1, "max": 1, "order": 0, "options": [{"text": text} for text in texts]}
    return {"title": title, "questions": [question], **more}


async def created(admin: httpx.AsyncClient, **more: Any) -> tuple[str, dict[str, Any], str]:
    answer = await admin.post(INTERNAL, json=body(**more))
    assert answer.status_code == 201, answer.text
    return answer.headers["location"], answer.json(), answer.headers["etag"]


async def actions(owner_pool: OwnerPool, survey_id: str) -> list[asyncpg.Record]:
    pool = await owner_pool("catalogue")
    return await pool.fetch(
        "SELECT actor, action, before_digest, after_digest FROM catalogue.staff_action"
        " WHERE survey_id = $1 ORDER BY action_id",
        survey_id,
    )


async def test_extra_properties_are_kept_and_shown_where_they_are_not_the_default(admin: httpx.AsyncClient) -> None:
    wanted = body(
        regions=["UK", "FR"],
        minimumAge=18,
        rollRequired=True,
        visibility="after_close",
        minimumStep=10,
        startDate="2040-01-01T10:00:00Z",
        finishDate="2040-01-02T10:00:00+02:00",
    )
    wanted["questions"][0] |= {"description": "Think\ntwice", "textMax": 20}
    answer = await admin.post(INTERNAL, json=wanted)
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert {name: found[name] for name in ("regions", "minimumAge", "rollRequired", "visibility", "minimumStep")} == {
        name: wanted[name] for name in ("regions", "minimumAge", "rollRequired", "visibility", "minimumStep")
    }
    assert (found["startDate"], found["finishDate"]) == ("2040-01-01T10:00:00Z", "2040-01-02T08:00:00Z")
    assert found["questions"][0]["description"] == "Think\ntwice"
    assert found["questions"][0]["textMax"] == 20
    path = answer.headers["location"]
    assert (await admin.get(path)).json() == found
    again = {"title": found["title"], "questions": found["questions"]}
    assert (await admin.put(path, json=again)).json() == found
    plain = await admin.put(path, json={**again, "regions": [], "minimumAge": 0, "startDate": None})
    assert "regions" not in plain.json()
    assert "minimumAge" not in plain.json()
    assert plain.json()["startDate"] is None


async def test_an_update_creates_changes_and_deletes(admin: httpx.AsyncClient) -> None:
    path, survey, _ = await created(admin)
    survey["questions"][0]["options"] = [{"id": "2", "text": "Green salad"}, {"text": "Bread"}]
    answer = await admin.put(path, json={"title": "Lunch", "questions": survey["questions"]})
    assert answer.status_code == 200, answer.text
    options = answer.json()["questions"][0]["options"]
    assert [(option["id"], option["text"]) for option in options] == [("2", "Green salad"), ("3", "Bread")]
    assert (await admin.get(path)).json() == answer.json()
    answer = await admin.put(path, json=body())
    assert [q["id"] for q in answer.json()["questions"]] == ["2"]
    assert [option["id"] for option in answer.json()["questions"][0]["options"]] == ["4", "5"]


@pytest.mark.parametrize("unknown", ["9", "", "x", "1" * 100])
async def test_an_unknown_id_is_refused_and_nothing_changes(admin: httpx.AsyncClient, unknown: str) -> None:
    path, survey, tag = await created(admin)
    wanted = body()
    wanted["questions"][0]["id"] = unknown
    assert code_of(await admin.put(path, json=wanted)) == (422, "survey_invalid")
    found = await admin.get(path)
    assert (found.json(), found.headers["etag"]) == (survey, tag)


async def test_if_match_is_honoured_and_never_demanded(admin: httpx.AsyncClient) -> None:
    path, _, tag = await created(admin)
    assert (await admin.get(path)).headers["etag"] == tag
    answer = await admin.put(path, json=body("Dinner"), headers={"if-match": tag})
    assert answer.status_code == 200
    newer = answer.headers["etag"]
    assert newer != tag
    for stale in (tag, f"W/{newer}", '"x"', "nonsense", ""):
        assert code_of(await admin.put(path, json=body("Late"), headers={"if-match": stale})) == (
            412,
            "precondition_failed",
        )
        assert code_of(await admin.delete(path, headers={"if-match": stale})) == (412, "precondition_failed")
        assert code_of(await admin.put(f"{path}/publish", headers={"if-match": stale})) == (412, "precondition_failed")
    for fresh in (f'"7", {newer}', "*"):
        answer = await admin.put(path, json=body("Supper"), headers={"if-match": fresh})
        assert answer.status_code == 200
        newer = answer.headers["etag"]
    assert (await admin.put(path, json=body("Snack"))).status_code == 200


async def test_of_many_with_one_version_one_wins(admin: httpx.AsyncClient, owner_pool: OwnerPool) -> None:
    path, survey, tag = await created(admin)
    answers = await asyncio.gather(
        *(admin.put(path, json=body(f"by {n}"), headers={"if-match": tag}) for n in range(20))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 19
    (won,) = (answer.json() for answer in answers if answer.status_code == 200)
    assert (await admin.get(path)).json() == won
    assert [action["action"] for action in await actions(owner_pool, survey["id"])] == ["create", "update"]


async def test_of_many_without_a_version_all_win_in_turn(admin: httpx.AsyncClient, owner_pool: OwnerPool) -> None:
    path, survey, _ = await created(admin)
    answers = await asyncio.gather(*(admin.put(path, json=body(f"by {n}", f"only {n}", "b")) for n in range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    tags = {answer.headers["etag"] for answer in answers}
    assert tags == {f'"{version}"' for version in range(2, 22)}
    options = [option["id"] for answer in answers for option in answer.json()["questions"][0]["options"]]
    assert len(set(options)) == 40
    noted = await actions(owner_pool, survey["id"])
    assert [action["action"] for action in noted] == ["create"] + ["update"] * 20
    assert all(before["after_digest"] == after["before_digest"] for before, after in pairwise(noted))
    assert {action["actor"] for action in noted} == {"staff:u_tester"}


async def test_deleting_races_with_changing(admin: httpx.AsyncClient) -> None:
    path, _, _ = await created(admin)
    answers = await asyncio.gather(
        *(admin.put(path, json=body(f"by {n}")) for n in range(5)), *(admin.delete(path) for _ in range(5))
    )
    assert sorted(answer.status_code for answer in answers if answer.status_code not in (200, 404)) == [204]
    assert (await admin.get(path)).status_code == 404


async def test_staff_actions_cannot_be_changed(admin: httpx.AsyncClient, owner_pool: OwnerPool) -> None:
    _, survey, _ = await created(admin)
    pool = await owner_pool("catalogue")
    for statement in ("UPDATE catalogue.staff_action SET actor = 'x'", "DELETE FROM catalogue.staff_action"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(f"{statement} WHERE survey_id = $1", survey["id"])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE catalogue.question SET max = 3 WHERE survey_id = $1",
        "UPDATE catalogue.question SET min = 2 WHERE survey_id = $1",
        "UPDATE catalogue.survey SET stage = 'published' WHERE survey_id = $1",
    ],
)
async def test_the_database_keeps_the_rules_too(
    admin: httpx.AsyncClient, owner_pool: OwnerPool, statement: str
) -> None:
    _, survey, _ = await created(admin)
    pool = await owner_pool("catalogue")
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute(statement, survey["id"])


WRONG: list[tuple[Any, int]] = [
    ("", 400),
    ("{", 400),
    ("null", 400),
    ("[]", 400),
    ("1e999", 400),
    ({}, 400),
    ({"title": 1, "questions": []}, 400),
    ({"title": None, "questions": []}, 400),
    ({"title": "x", "questions": {}}, 400),
    ({"title": "x", "questions": [None]}, 400),
    ({"title": "x", "questions": []}, 422),
    (body(extra=1), 400),
    (body(id="1"), 400),
    (body("\x00"), 400),
    (body("x" * 301), 422),
    (body("\x1b[31m"), 422),
    (body(minimumAge="18"), 400),
    (body(minimumAge=17), 422),
    (body(minimumAge=10**40), 422),
    (body(regions=["\x00"]), 400),
    (body(regions=[1]), 400),
    (body(regions=["a"] * 2), 422),
    (body(visibility="nobody"), 400),
    (body(startDate="yesterday"), 400),
    (body(startDate="2026-01-01T00:00:00"), 400),
    (body(startDate="0001-01-01T00:00:00+14:00"), 400),
    (body(startDate="2026-01-02T00:00:00Z", finishDate="2026-01-01T00:00:00Z"), 422),
    (json.dumps(body()).replace("What?", "\\ud800"), 400),
    (json.dumps(body()).replace('"min": 1', '"min": 1.5'), 400),
    (json.dumps(body()).replace('"min": 1', '"min": true'), 400),
    (json.dumps(body()).replace('"min": 1', '"min": 2'), 422),
    (json.dumps(body()).replace('"max": 1', '"max": 3'), 422),
    (json.dumps(body()).replace('"max": 1', '"max": 99999999999999999999'), 422),
    (json.dumps(body()).replace('"order": 0', '"order": -1'), 422),
    (json.dumps(body()).replace('"order": 0', '"order": 2147483648'), 422),
    (json.dumps(body()).replace('"text": "Soup"', '"text": "Soup", "image": "ftp://x"'), 422),
    ("[" * 100_000, 400),
]


@pytest.mark.parametrize(("wrong", "status"), WRONG, ids=range(len(WRONG)))
async def test_a_malformed_request_is_answered_never_a_fault(admin: httpx.AsyncClient, wrong: Any, status: int) -> None:
    content = wrong if isinstance(wrong, str) else json.dumps(wrong)
    headers = {"content-type": "application/json"}
    path, survey, _ = await created(admin)
    for answer in (
        await admin.post(INTERNAL, content=content, headers=headers),
        await admin.put(path, content=content, headers=headers),
    ):
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == {400: "malformed_request", 422: "survey_invalid"}[status]
    assert (await admin.get(path)).json() == survey


async def test_a_body_over_the_limit_is_refused(admin: httpx.AsyncClient) -> None:
    answer = await admin.post(INTERNAL, content=b" " * 1_100_000, headers={"content-type": "application/json"})
    assert code_of(answer) == (413, "payload_too_large")


@pytest.mark.parametrize(
    "survey_id", ["1", "s_aaaaaaaaaaaaaaaa", "s_%00", "..", "%ff", "x" * 2000, "s_aaaaaaaaaaaaaaaa "]
)
async def test_no_such_survey(admin: httpx.AsyncClient, anyone: httpx.AsyncClient, survey_id: str) -> None:
    path = f"{INTERNAL}/{survey_id}"
    answers = [
        await admin.get(path),
        await admin.put(path, json=body()),
        await admin.delete(path),
        await admin.put(f"{path}/publish"),
        await admin.put(f"{path}/finish"),
        await admin.post(f"{path}/exports", json={"format": "csv"}),
        await admin.get(f"{path}/exports/x_aaaaaaaaaaaaaaaa"),
        await anyone.get(f"/v1/surveys/{survey_id}"),
    ]
    assert {answer.status_code for answer in answers} <= {400, 404, 405}


async def test_only_admins_manage_surveys(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, platform: Platform
) -> None:
    path, _, _ = await created(admin)
    calls = [
        ("POST", INTERNAL, body()),
        ("GET", INTERNAL, None),
        ("GET", path, None),
        ("PUT", path, body()),
        ("DELETE", path, None),
        ("PUT", f"{path}/publish", None),
        ("PUT", f"{path}/finish", None),
        ("POST", f"{path}/exports", {"format": "csv"}),
        ("GET", f"{path}/exports/x_aaaaaaaaaaaaaaaa", None),
    ]
    voter = platform.tokens.voter("v_eu_aaaaaaaaaaaaaaaaaaaaaaaaaa", "eu", "UK")
    for method, address, content in calls:
        assert code_of(await anyone.request(method, address, json=content)) == (401, "unauthenticated")
        for token, expected in ((voter, (401, "token_invalid")), (platform.staff(Role.SUPPORT), (403, "forbidden"))):
            headers = {"authorization": f"Bearer {token}"}
            assert code_of(await anyone.request(method, address, json=content, headers=headers)) == expected
    assert (await admin.get(path)).status_code == 200


async def test_staff_list_drafts_page_by_page(admin: httpx.AsyncClient) -> None:
    wanted = [(await created(admin))[1]["id"] for _ in range(5)]
    found: list[str] = []
    cursor: str | None = None
    while len(found) < 5:
        answer = await admin.get(INTERNAL, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        assert len(answer.json()["surveys"]) <= 2
        found += [survey["id"] for survey in answer.json()["surveys"]]
        cursor = answer.json()["nextCursor"]
    assert found[:5] == wanted[::-1]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "cursor=x",
        "cursor=%C3%BF",
        "cursor=" + "A" * 500,
        "cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OS5zX2FhYWFhYWFhYWFhYWFhYWE",
    ],
)
async def test_a_malformed_page_is_refused(anyone: httpx.AsyncClient, query: str) -> None:
    assert code_of(await anyone.get(f"/v1/surveys?{query}")) == (400, "malformed_request")


async def test_everybody_reads_the_keys_of_audit_logs_as_tools_take_them(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/v1/log-keys")
    assert answer.headers["content-type"].startswith("text/plain")
    keys = read_verifier_keys(answer.text.splitlines())
    assert {name for name, _ in keys} == {"comitia/test/eu", "comitia/test/us", "comitia/test/catalogue"}
