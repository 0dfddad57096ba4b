"""Results over HTTP: the body, filters, entity tags, who may see them, and cells that are away."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from api.http.access import Principal
from api.results.app import create_app
from domain.contracts.surveys import Survey, Visibility
from domain.errors import DomainError, ErrorCode
from domain.tokens import Role
from integrations.postgres.roles import TALLY
from integrations.redis.connection import open_redis
from integrations.redis.tally_reader import TallyReader
from integrations.results.opening import OpenResults, open_results
from integrations.telemetry.telemetry import make_telemetry
from tests.limits_world import lonely_limits
from tests.workers.tally_cells import TallyCell, make_survey, until

PAST = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class World:
    """Two cells with their tallies running, and the results service."""

    cells: list[TallyCell]
    opened: OpenResults
    http: httpx.AsyncClient
    staff: bool = False

    async def install(self, **fields: Any) -> Survey:
        survey = make_survey(**fields)
        for cell in self.cells:
            await cell.install(survey)
        return survey

    async def results(self, survey: Survey, **parameters: Any) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/surveys/{survey.id}/results", params=parameters)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def votes_are(self, survey: Survey, *votes: int) -> None:
        async def agree() -> bool:
            answer = await self.http.get(f"/v1/surveys/{survey.id}/results")
            return answer.status_code == 200 and votes_of(answer.json()) == list(votes)

        await until(agree, f"votes are {votes}")


def votes_of(document: dict[str, Any]) -> list[int]:
    return [option["votes"] for question in document["questions"] for option in question["options"]]


@pytest_asyncio.fixture(loop_scope="session")
async def world(make_cells: Callable[[], Awaitable[list[TallyCell]]]) -> AsyncIterator[World]:
    cells = await make_cells()
    settings = cells[0].settings
    async with AsyncExitStack() as opened:
        for cell in cells:
            await opened.enter_async_context(cell.folding())
        results = await open_results(settings, opened, TALLY)

        async def admin() -> Principal:
            if not made.staff:
                raise DomainError(ErrorCode.UNAUTHENTICATED)
            return Principal("staff:u_tester", frozenset({Role.ADMIN}))

        app = create_app(results.results, admin, lonely_limits(), make_telemetry(settings, "results"))
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://results.test")
        await opened.enter_async_context(http)
        made = World(cells, results, http)
        for cell in cells:
            await cell.watermarked()
        yield made


async def test_the_body_is_the_promised_one_with_every_option(world: World) -> None:
    survey = await world.install()
    first, second = world.cells
    await first.vote(survey.id, "1", "north")
    await second.vote(survey.id, "1", "south")
    await second.vote(survey.id, "3", "south")
    await world.votes_are(survey, 2, 0, 1)
    document = await world.results(survey)
    assert isinstance(document.pop("asOf"), str)
    assert document == {
        "survey": {"id": survey.id, "title": "A survey"},
        "totalResponses": 3,
        "questions": [
            {
                "id": "1",
                "title": "Which?",
                "order": 0,
                "options": [
                    {"id": "1", "text": "Option 1", "image": None, "order": 1, "votes": 2},
                    {"id": "2", "text": "Option 2", "image": None, "order": 2, "votes": 0},
                    {"id": "3", "text": "Option 3", "image": None, "order": 3, "votes": 1},
                ],
            }
        ],
        "missingCells": [],
    }


async def test_a_new_survey_has_zeros(world: World) -> None:
    survey = await world.install()
    document = await world.results(survey)
    assert document["totalResponses"] == 0
    assert votes_of(document) == [0, 0, 0]


async def test_filters_by_region_and_option(world: World) -> None:
    survey = await world.install(regions=("north", "south"))
    await world.cells[0].vote(survey.id, "1", "north")
    await world.cells[1].vote(survey.id, "2", "south")
    await world.votes_are(survey, 1, 1, 0)
    north = await world.results(survey, region="north")
    assert (north["totalResponses"], votes_of(north)) == (1, [1, 0, 0])
    both = await world.results(survey, region=["north", "south"])
    assert votes_of(both) == [1, 1, 0]
    second = await world.results(survey, option="2")
    assert (second["totalResponses"], votes_of(second)) == (2, [1])
    assert [option["id"] for option in second["questions"][0]["options"]] == ["2"]


@pytest.mark.parametrize(
    ("parameters", "code"),
    [({"region": "east"}, "region_unknown"), ({"option": "9"}, "option_unknown"), ({"region": ""}, "region_unknown")],
)
async def test_unknown_filters_are_refused(world: World, parameters: dict[str, str], code: str) -> None:
    survey = await world.install(regions=("north", "south"))
    answer = await world.http.get(f"/v1/surveys/{survey.id}/results", params=parameters)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_a_survey_that_no_cell_has(world: World) -> None:
    answer = await world.http.get("/v1/surveys/s_aaaaaaaaaaaaaaaa/results")
    assert (answer.status_code, answer.json()["code"]) == (404, "survey_not_found")


async def test_an_entity_tag_lasts_until_a_vote(world: World) -> None:
    survey = await world.install()
    await world.cells[0].vote(survey.id)
    await world.votes_are(survey, 1, 0, 0)
    path = f"/v1/surveys/{survey.id}/results"
    first = await world.http.get(path)
    assert "s-maxage=1" in first.headers["cache-control"]
    tag = first.headers["etag"]

    async def later() -> bool:
        return bool((await world.http.get(path)).json()["asOf"] > first.json()["asOf"])

    await until(later, "a later watermark")
    again = await world.http.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    await world.cells[0].vote(survey.id)
    await world.votes_are(survey, 2, 0, 0)
    assert (await world.http.get(path, headers={"If-None-Match": tag})).status_code == 200


@pytest.mark.parametrize(
    ("visibility", "finish_at", "status"),
    [
        (Visibility.LIVE, None, 200),
        (Visibility.LIVE, PAST, 200),
        (Visibility.AFTER_CLOSE, None, 403),
        (Visibility.AFTER_CLOSE, PAST, 200),
        (Visibility.STAFF, None, 403),
        (Visibility.STAFF, PAST, 403),
    ],
)
async def test_who_sees_what(world: World, visibility: Visibility, finish_at: datetime | None, status: int) -> None:
    survey = await world.install(
        visibility=visibility, finish_at=finish_at, start_at=finish_at and finish_at - timedelta(days=1)
    )
    answer = await world.http.get(f"/v1/surveys/{survey.id}/results", params={"option": "9"} if status == 403 else {})
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["code"] == "results_not_visible"
    internal = f"/v1/internal/surveys/{survey.id}/results"
    assert (await world.http.get(internal)).status_code == 401
    world.staff = True
    assert (await world.http.get(internal)).status_code == 200


async def test_one_open_cell_keeps_results_closed(world: World) -> None:
    survey = make_survey(visibility=Visibility.AFTER_CLOSE, finish_at=PAST)
    await world.cells[0].install(survey)
    await world.cells[1].install(survey.model_copy(update={"finish_at": None}))
    assert (await world.http.get(f"/v1/surveys/{survey.id}/results")).status_code == 403


async def test_the_public_sees_steps_and_staff_every_vote(world: World) -> None:
    survey = await world.install(minimum_step=4)
    world.staff = True
    internal = f"/v1/internal/surveys/{survey.id}/results"
    shown = []
    for votes in range(1, 7):
        await world.cells[0].vote(survey.id)

        async def exact(votes: int = votes) -> bool:
            return bool((await world.http.get(internal)).json()["totalResponses"] == votes)

        await until(exact, f"staff sees {votes}")
        shown.append((await world.results(survey))["totalResponses"])
    assert set(shown) == {0, 4}
    for cell in world.cells:
        await cell.owner.execute("UPDATE voting.survey SET finish_at = now() WHERE survey_id = $1", survey.id)
    await world.votes_are(survey, 6, 0, 0)


async def test_a_cell_that_is_away_is_named_and_stands_still(world: World) -> None:
    survey = await world.install()
    first, second = world.cells
    await first.vote(survey.id, "1")
    await second.vote(survey.id, "2")
    await world.votes_are(survey, 1, 1, 0)
    nobody = open_redis(first.settings.cells[second.name].redis.model_copy(update={"port": 1}))
    world.opened.results._tallies = {**world.opened.results._tallies, second.name: TallyReader(nobody, second.name)}
    await first.vote(survey.id, "1")
    await world.votes_are(survey, 2, 1, 0)
    assert (await world.results(survey))["missingCells"] == [second.name]
    unknown = await world.install()
    document = await world.results(unknown)
    assert document["missingCells"] == [second.name]
    assert document["totalResponses"] == 0
    await nobody.aclose()


async def test_nobody_sees_zero_while_redis_is_rebuilt(world: World) -> None:
    survey = await world.install()
    for _ in range(5):
        await world.cells[0].vote(survey.id)
    await world.votes_are(survey, 5, 0, 0)
    await world.cells[0].redis.flushdb()
    seen = {(await world.results(survey))["totalResponses"] for _ in range(30)}
    await world.cells[0].vote(survey.id)
    await world.votes_are(survey, 6, 0, 0)
    assert seen == {5}


async def test_lost_totals_are_not_called_zero_by_a_new_process(world: World) -> None:
    survey = await world.install()
    for cell in world.cells:
        await cell.vote(survey.id)
    await world.votes_are(survey, 2, 0, 0)
    reader = world.opened.results
    reader._seen.clear()  # a process that has not read it before
    for cell in world.cells:
        await cell.redis.delete(f"{cell.name}:tally:{{{cell.name}}}:totals:{survey.id}")
        await cell.redis.delete(f"{cell.name}:tally:{{{cell.name}}}:shown:{survey.id}")
    with pytest.raises(DomainError) as refused:
        await reader.totals(survey.id)
    assert refused.value.code is ErrorCode.TALLY_UNAVAILABLE
