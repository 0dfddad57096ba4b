"""Published surveys: in every cell or in none, frozen, closed everywhere."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from temporalio.api.enums.v1 import EventType

from domain.ids import run_survey_workflow_id
from tests.answers import code_of
from tests.api.surveys.conftest import Platform

OwnerPool = Callable[[str], Awaitable[asyncpg.Pool]]
INTERNAL = "/v1/internal/surveys"
CELLS = ("eu", "us")


def body(title: str = "Lunch", **more: Any) -> dict[str, Any]:
    options = [{"text": "Soup"}, {"text": "Salad"}]
    return {"title": title, "questions": [{"title": "What?", "min": 1, "max": 1, "options": options}], **more}


async def drafted(admin: httpx.AsyncClient, **more: Any) -> tuple[str, str]:
    answer = await admin.post(INTERNAL, json=body(**more))
    assert answer.status_code == 201, answer.text
    return answer.headers["location"], answer.json()["id"]


async def published(admin: httpx.AsyncClient, **more: Any) -> tuple[str, str]:
    path, survey_id = await drafted(admin, **more)
    answer = await admin.put(f"{path}/publish")
    assert answer.status_code == 200, answer.text
    return path, survey_id


async def until(check: Callable[[], Awaitable[bool]], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not await check():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


async def copies(owner_pool: OwnerPool, survey_id: str) -> dict[str, asyncpg.Record | None]:
    """What each cell has of a survey, in both of its schemas."""
    found = {}
    for cell in CELLS:
        found[cell] = await (await owner_pool(cell)).fetchrow(
            "SELECT v.definition, v.start_at, v.finish_at, v.wrapped_ballot_key, i.regions, i.minimum_age,"
            " i.roll_required, i.wrapped_eligibility_key, i.start_at AS admits_from, i.finish_at AS admits_until"
            " FROM voting.survey AS v JOIN identity.survey AS i USING (survey_id) WHERE survey_id = $1",
            survey_id,
        )
    return found


async def noted(owner_pool: OwnerPool, survey_id: str) -> list[str]:
    pool = await owner_pool("catalogue")
    rows = await pool.fetch(
        "SELECT action FROM catalogue.staff_action WHERE survey_id = $1 ORDER BY action_id", survey_id
    )
    return [row["action"] for row in rows]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_a_published_survey_is_in_every_cell_with_one_opening_time(
    admin: httpx.AsyncClient, platform: Platform, owner_pool: OwnerPool
) -> None:
    path, survey_id = await drafted(admin, regions=["UK"], minimumAge=18, rollRequired=True)
    answer = await admin.put(f"{path}/publish")
    found = await copies(owner_pool, survey_id)
    for copy in found.values():
        assert copy is not None
        assert copy["start_at"] == copy["admits_from"] == moment(answer.json()["startDate"])
        assert copy["finish_at"] is copy["admits_until"] is None
        assert (copy["regions"], copy["minimum_age"], copy["roll_required"]) == (["UK"], 18, True)
        assert json.loads(copy["definition"])["questions"][0]["options"][1]["text"] == "Salad"
        assert len(await platform.kms.unwrap(copy["wrapped_ballot_key"], survey_id)) == 32
    assert len({copy["wrapped_ballot_key"] for copy in found.values() if copy}) == 1
    assert len({copy["wrapped_eligibility_key"] for copy in found.values() if copy}) == 1
    assert await noted(owner_pool, survey_id) == ["create", "publish"]


async def test_publishing_at_once_many_times_publishes_once(
    admin: httpx.AsyncClient, platform: Platform, owner_pool: OwnerPool
) -> None:
    path, survey_id = await drafted(admin)
    async with platform.http(platform.staff()) as other:
        answers = await asyncio.gather(*((admin, other)[n % 2].put(f"{path}/publish") for n in range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    assert len({answer.json()["startDate"] for answer in answers}) == 1
    again = await admin.put(f"{path}/publish")
    assert again.json() == answers[0].json()
    assert await noted(owner_pool, survey_id) == ["create", "publish"]


async def test_nothing_opens_while_one_cell_has_not_got_it(
    admin: httpx.AsyncClient,
    hasty: httpx.AsyncClient,
    anyone: httpx.AsyncClient,
    platform: Platform,
    owner_pool: OwnerPool,
) -> None:
    path, survey_id = await drafted(admin)
    platform.cells["us"].is_cut = True
    tag = (await admin.get(path)).headers["etag"]
    answer = await hasty.put(f"{path}/publish", headers={"if-match": tag})
    assert code_of(answer) == (503, "survey_publishing")
    assert int(answer.headers["retry-after"]) > 0

    async def is_in_one() -> bool:
        return (await copies(owner_pool, survey_id))["eu"] is not None

    await until(is_in_one)
    found = await copies(owner_pool, survey_id)
    assert found["us"] is None
    assert found["eu"] is not None
    assert found["eu"]["start_at"] is found["eu"]["admits_from"] is None
    assert (await anyone.get(f"/v1/surveys/{survey_id}")).status_code == 404
    assert code_of(await admin.put(path, json=body("Late"))) == (409, "survey_frozen")
    assert code_of(await admin.delete(path)) == (409, "survey_frozen")
    assert code_of(await hasty.put(f"{path}/publish", headers={"if-match": tag})) == (503, "survey_publishing")

    platform.cells["us"].is_cut = False
    answer = await admin.put(f"{path}/publish", headers={"if-match": tag})
    assert answer.status_code == 200, answer.text
    found = await copies(owner_pool, survey_id)
    assert {copy["start_at"] for copy in found.values() if copy} == {moment(answer.json()["startDate"])}
    assert await noted(owner_pool, survey_id) == ["create", "publish"]


async def test_it_opens_by_itself_once_the_cell_is_back(
    admin: httpx.AsyncClient, hasty: httpx.AsyncClient, anyone: httpx.AsyncClient, platform: Platform
) -> None:
    path, survey_id = await drafted(admin)
    platform.cells["eu"].is_cut = True
    assert code_of(await hasty.put(f"{path}/publish")) == (503, "survey_publishing")
    platform.cells["eu"].is_cut = False

    async def is_public() -> bool:
        return (await anyone.get(f"/v1/surveys/{survey_id}")).status_code == 200

    await until(is_public)


async def test_only_the_seen_version_is_published(admin: httpx.AsyncClient) -> None:
    path, _ = await drafted(admin)
    tag = (await admin.get(path)).headers["etag"]
    await admin.put(path, json=body("Dinner"))
    assert code_of(await admin.put(f"{path}/publish", headers={"if-match": tag})) == (412, "precondition_failed")
    newer = (await admin.get(path)).headers["etag"]
    answer = await admin.put(f"{path}/publish", headers={"if-match": newer})
    assert answer.json()["title"] == "Dinner"
    assert answer.headers["etag"] not in (tag, newer)
    again = await admin.put(f"{path}/publish", headers={"if-match": newer})  # its answer was lost, say
    assert (again.status_code, again.json()) == (200, answer.json())


async def test_publishing_races_with_changing_and_deleting(admin: httpx.AsyncClient, owner_pool: OwnerPool) -> None:
    for _ in range(5):
        path, survey_id = await drafted(admin)
        changed, deleted, opened = await asyncio.gather(
            admin.put(path, json=body("Dinner")), admin.delete(path), admin.put(f"{path}/publish")
        )
        assert changed.status_code in (200, 404, 409), changed.text
        assert (deleted.status_code, opened.status_code) in ((204, 404), (409, 200)), (deleted.text, opened.text)
        found = await copies(owner_pool, survey_id)
        assert all((copy is not None) == (opened.status_code == 200) for copy in found.values())


async def test_a_refused_publication_can_be_tried_again(admin: httpx.AsyncClient) -> None:
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    path, _ = await drafted(admin, finishDate=past)
    assert code_of(await admin.put(f"{path}/publish")) == (422, "survey_invalid")
    assert code_of(await admin.put(f"{path}/publish")) == (422, "survey_invalid")
    assert (await admin.put(path, json=body(finishDate=None))).status_code == 200
    assert (await admin.put(f"{path}/publish")).status_code == 200


async def test_texts_are_corrected_in_every_cell_and_nothing_else_changes(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, platform: Platform, owner_pool: OwnerPool
) -> None:
    path, survey_id = await published(admin)
    survey = (await admin.get(path)).json()
    tag = (await admin.get(path)).headers["etag"]
    right = {"title": "Luncheon", "questions": survey["questions"]}
    was, other = (option["text"] for option in survey["questions"][0]["options"][:2])
    right["questions"][0]["options"][0]["text"] = "Tomato soup"
    answer = await admin.put(path, json=right, headers={"if-match": tag})
    assert answer.status_code == 200, answer.text
    corrections = answer.json().pop("corrections")
    assert {**answer.json(), "corrections": []} == {**survey, **right, "corrections": []}
    told = [{name: one[name] for name in ("question", "option", "field", "before", "after")} for one in corrections]
    assert told == [
        {"question": None, "option": None, "field": "title", "before": survey["title"], "after": "Luncheon"},
        {"question": "1", "option": "1", "field": "text", "before": was, "after": "Tomato soup"},
    ]
    assert (await anyone.get(f"/v1/surveys/{survey_id}")).json() == answer.json()

    async def is_everywhere() -> bool:
        found = await copies(owner_pool, survey_id)
        return all(copy and json.loads(copy["definition"])["title"] == "Luncheon" for copy in found.values())

    await until(is_everywhere)
    found = await copies(owner_pool, survey_id)
    assert all(copy["start_at"] == moment(survey["startDate"]) for copy in found.values() if copy)
    assert code_of(await admin.put(path, json=right, headers={"if-match": tag})) == (412, "precondition_failed")
    for change in (
        {"title": "Lunch", "questions": []},
        body(),
        {**right, "minimumAge": 16},
        {**right, "startDate": None},
    ):
        assert code_of(await admin.put(path, json=change)) in ((409, "survey_frozen"), (422, "survey_invalid"))
    assert code_of(await admin.put(path, json={**right, "minimumAge": 16})) == (409, "survey_frozen")
    for exchanged in (other, f" {other.upper()}."):  # what somebody else's vote was for
        right["questions"][0]["options"][0]["text"] = exchanged
        assert code_of(await admin.put(path, json=right)) == (409, "survey_frozen")
    assert await noted(owner_pool, survey_id) == ["create", "publish", "correct"]
    heard = [request.change for request in platform.announcements.heard if request.change.survey_id == survey_id]
    assert {change.stage for change in heard} == {"published"}


async def test_corrections_at_once_are_made_in_turn(admin: httpx.AsyncClient, owner_pool: OwnerPool) -> None:
    path, survey_id = await published(admin)
    survey = (await admin.get(path)).json()
    tag = (await admin.get(path)).headers["etag"]
    answers = await asyncio.gather(
        *(admin.put(path, json={"title": f"by {n}", "questions": survey["questions"]}) for n in range(4))
    )
    assert [answer.status_code for answer in answers] == [200] * 4
    late = await admin.put(path, json={"title": "late", "questions": survey["questions"]}, headers={"if-match": tag})
    assert code_of(late) == (412, "precondition_failed")
    assert await noted(owner_pool, survey_id) == ["create", "publish"] + ["correct"] * 4


async def test_a_correction_does_not_wait_for_a_cell_that_is_away(
    admin: httpx.AsyncClient, platform: Platform, owner_pool: OwnerPool
) -> None:
    path, survey_id = await published(admin)
    survey = (await admin.get(path)).json()
    platform.cells["us"].is_cut = True
    for title in ("First", "Second"):
        answer = await admin.put(path, json={"title": title, "questions": survey["questions"]})
        assert answer.status_code == 200, answer.text
    platform.cells["us"].is_cut = False

    async def is_everywhere() -> bool:
        found = await copies(owner_pool, survey_id)
        return all(copy and json.loads(copy["definition"])["title"] == "Second" for copy in found.values())

    await until(is_everywhere)


async def test_finishing_closes_every_cell_once(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, platform: Platform, owner_pool: OwnerPool
) -> None:
    path, survey_id = await published(admin)
    answers = await asyncio.gather(*(admin.put(f"{path}/finish") for _ in range(10)))
    assert [answer.status_code for answer in answers] == [200] * 10
    (finish,) = {answer.json()["finishDate"] for answer in answers}
    assert (await admin.put(f"{path}/finish")).json()["finishDate"] == finish
    for copy in (await copies(owner_pool, survey_id)).values():
        assert copy is not None
        assert copy["finish_at"] == copy["admits_until"]
        assert moment(finish) <= copy["finish_at"] <= datetime.now(UTC)
    assert (await anyone.get(f"/v1/surveys/{survey_id}")).json()["finishDate"] == finish
    assert code_of(await admin.put(path, json=body())) == (409, "survey_frozen")
    assert code_of(await admin.delete(path)) == (409, "survey_frozen")
    assert (await admin.put(f"{path}/publish")).json()["finishDate"] == finish
    assert await noted(owner_pool, survey_id) == ["create", "publish", "finish"]
    workflow = platform.client.get_workflow_handle(run_survey_workflow_id(survey_id))
    assert await workflow.query("stage") == "finished"


async def test_what_temporal_lost_goes_on_from_the_catalogue(
    admin: httpx.AsyncClient, platform: Platform, owner_pool: OwnerPool
) -> None:
    path, survey_id = await published(admin)
    survey = (await admin.get(path)).json()
    for wanted in ("correct", "finish"):
        await platform.client.get_workflow_handle(run_survey_workflow_id(survey_id)).terminate("as if it were lost")
        if wanted == "correct":
            answer = await admin.put(path, json={"title": "Luncheon", "questions": survey["questions"]})
        else:
            answer = await admin.put(f"{path}/finish")
        assert answer.status_code == 200, answer.text
    assert answer.json()["startDate"] == survey["startDate"]
    for copy in (await copies(owner_pool, survey_id)).values():
        assert copy is not None
        assert copy["start_at"] == moment(survey["startDate"])
        assert copy["finish_at"] is not None
    assert await noted(owner_pool, survey_id) == ["create", "publish", "correct", "finish"]


async def test_finishing_with_a_cell_away_closes_the_others_and_goes_on(
    admin: httpx.AsyncClient, hasty: httpx.AsyncClient, platform: Platform, owner_pool: OwnerPool
) -> None:
    path, survey_id = await published(admin)
    platform.cells["us"].is_cut = True
    assert code_of(await hasty.put(f"{path}/finish")) == (503, "survey_publishing")

    async def is_closed_in_one() -> bool:
        copy = (await copies(owner_pool, survey_id))["eu"]
        return copy is not None and copy["finish_at"] is not None

    await until(is_closed_in_one)
    found = await copies(owner_pool, survey_id)
    assert found["us"] is not None
    assert found["us"]["finish_at"] is None
    platform.cells["us"].is_cut = False
    answer = await admin.put(f"{path}/finish")
    assert answer.status_code == 200, answer.text
    found = await copies(owner_pool, survey_id)
    assert found["us"] is not None
    assert found["us"]["finish_at"] > moment(answer.json()["finishDate"])  # it holds from when the cell has it


async def test_a_broker_that_is_down_delays_nobody(admin: httpx.AsyncClient, platform: Platform) -> None:
    platform.announcements.is_down = True
    path, survey_id = await published(admin)
    assert (await admin.put(f"{path}/finish")).status_code == 200
    platform.announcements.is_down = False

    async def is_told() -> bool:
        heard = [r.change.stage for r in platform.announcements.heard if r.change.survey_id == survey_id]
        return sorted(heard) == ["finished", "finished", "published", "published"]

    await until(is_told)


async def test_finish_wants_the_seen_version_and_an_open_survey(admin: httpx.AsyncClient) -> None:
    path, _ = await drafted(admin)
    assert code_of(await admin.put(f"{path}/finish")) == (409, "survey_not_open")
    tag = (await admin.put(f"{path}/publish")).headers["etag"]
    assert code_of(await admin.put(f"{path}/finish", headers={"if-match": '"1"'})) == (412, "precondition_failed")
    answer = await admin.put(f"{path}/finish", headers={"if-match": tag})
    assert answer.status_code == 200
    assert answer.headers["etag"] != tag
    assert (await admin.put(f"{path}/finish", headers={"if-match": tag})).json() == answer.json()
    assert code_of(await admin.put(f"{path}/finish", headers={"if-match": '"1"'})) == (412, "precondition_failed")


async def test_a_schedule_is_installed_with_the_survey(admin: httpx.AsyncClient, owner_pool: OwnerPool) -> None:
    start, finish = "2090-01-01T00:00:00Z", "2090-01-02T00:00:00Z"
    path, survey_id = await published(admin, startDate=start, finishDate=finish)
    assert (await admin.get(path)).json()["startDate"] == start
    for copy in (await copies(owner_pool, survey_id)).values():
        assert copy is not None
        assert (copy["start_at"], copy["finish_at"]) == (moment(start), moment(finish))
    answer = await admin.put(f"{path}/finish")  # before it opened at all
    assert answer.status_code == 200, answer.text
    assert answer.json()["startDate"] == answer.json()["finishDate"] < "2090"


async def test_a_scheduled_end_needs_no_message(
    admin: httpx.AsyncClient, platform: Platform, owner_pool: OwnerPool
) -> None:
    finish = datetime.now(UTC) + timedelta(seconds=4)
    path, survey_id = await published(admin, finishDate=finish.isoformat())
    platform.cells["eu"].is_cut = platform.cells["us"].is_cut = True

    async def is_finished() -> bool:
        pool = await owner_pool("catalogue")
        found = await pool.fetchval("SELECT stage FROM catalogue.survey WHERE survey_id = $1", survey_id)
        return bool(found == "finished")

    await until(is_finished)
    answer = await admin.put(f"{path}/finish")
    assert moment(answer.json()["finishDate"]) == finish
    assert await noted(owner_pool, survey_id) == ["create", "publish"]
    for copy in (await copies(owner_pool, survey_id)).values():
        assert copy is not None
        assert copy["finish_at"] == finish


async def test_without_a_worker_nothing_is_lost(platform: Platform, owner_pool: OwnerPool) -> None:
    platform_queue = f"{platform.queue}-idle"
    async with platform.http(platform.staff(), queue=platform_queue, patience_s=0.3) as admin:
        path, survey_id = await drafted(admin)
        assert code_of(await admin.put(f"{path}/publish")) == (503, "workflows_unavailable")
        assert await noted(owner_pool, survey_id) == ["create"]
        assert (await admin.put(path, json=body("Changed"))).status_code == 200


async def test_histories_hold_no_key_and_are_encrypted(
    admin: httpx.AsyncClient, platform: Platform, owner_pool: OwnerPool
) -> None:
    path, survey_id = await published(admin, title="Whispered lunch")
    await admin.put(f"{path}/finish")
    handle = platform.client.get_workflow_handle(run_survey_workflow_id(survey_id))
    history = await handle.fetch_history()
    raw = b"".join(event.SerializeToString() for event in history.events)
    assert b"Whispered" not in raw
    copy = (await copies(owner_pool, survey_id))["eu"]
    assert copy is not None
    keys = [
        await platform.kms.unwrap(copy[name], survey_id) for name in ("wrapped_ballot_key", "wrapped_eligibility_key")
    ]
    codec = platform.client.data_converter.payload_codec
    assert codec is not None
    results = [
        payload
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
        for payload in await codec.decode(event.activity_task_completed_event_attributes.result.payloads)
    ]
    plain = b"".join(payload.data for payload in results)
    assert b"Whispered" in plain  # decoding works, so what is not found is not there
    for key in keys:
        assert key not in plain
        assert key.hex().encode() not in plain


async def test_the_public_list_has_published_surveys_only_newest_first(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    wanted = [(await published(admin))[1] for _ in range(3)]
    _, hidden = await drafted(admin)
    answer = await anyone.get("/v1/surveys", params={"limit": 2})
    page = answer.json()
    assert [survey["id"] for survey in page["surveys"]] == wanted[:0:-1]
    assert set(page["surveys"][0]) == {"id", "title", "startDate", "finishDate"}
    following = (await anyone.get("/v1/surveys", params={"limit": 100, "cursor": page["nextCursor"]})).json()
    ids = [survey["id"] for survey in following["surveys"]]
    assert ids[0] == wanted[0]
    assert hidden not in ids
    assert ("nextCursor" in following) == (len(ids) == 100)


async def test_readers_are_spared_what_they_have(admin: httpx.AsyncClient, anyone: httpx.AsyncClient) -> None:
    path, survey_id = await published(admin)
    answer = await anyone.get(f"/v1/surveys/{survey_id}")
    tag = answer.headers["etag"]
    assert "no-store" not in answer.headers["cache-control"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = await anyone.get(f"/v1/surveys/{survey_id}", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    await admin.put(f"{path}/finish")
    assert (await anyone.get(f"/v1/surveys/{survey_id}", headers={"if-none-match": tag})).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
async def test_the_public_reads_only(anyone: httpx.AsyncClient, method: str) -> None:
    assert code_of(await anyone.request(method, "/v1/surveys/s_aaaaaaaaaaaaaaaa")) == (405, "method_not_allowed")
