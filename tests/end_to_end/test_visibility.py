"""No route tells results before it may: not the totals, not that they changed, not by an error."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import pytest_asyncio

from domain.tokens import Role
from tests.end_to_end.house import House, OpenSurvey, eventually

VOTES = 3


async def voted(house: House, title: str, visibility: str) -> OpenSurvey:
    """Return a survey with votes in it that staff can see."""
    survey = await house.open_survey(title, visibility=visibility)
    for number in range(VOTES):
        assert (await house.cast(survey, house.token(survey), survey.ballot(number % 2))).status_code == 201
    await house.settled(survey, VOTES)
    return survey


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hidden(house: House) -> AsyncIterator[OpenSurvey]:
    """A survey for staff only."""
    yield await voted(house, title="Staff only", visibility="staff")


async def public_answers(house: House, survey: OpenSurvey) -> dict[str, httpx.Response]:
    """Return what everyone gets from every route that could tell."""
    results = f"/v1/surveys/{survey.id}/results"
    option, client = survey.options[0], house.clients
    return {
        "results": await client["results"].get(results),
        "of a region": await client["results"].get(results, params={"region": "ward-1"}),
        "of an option": await client["results"].get(results, params={"option": option}),
        "of no region": await client["results"].get(results, params={"region": "nowhere"}),
        "of no option": await client["results"].get(results, params={"option": "nothing"}),
        "if changed": await client["results"].get(results, headers={"if-none-match": "*"}),
        "stream": await client["streams"].get(f"{results}/stream"),
        "resumed": await client["streams"].get(f"{results}/stream", headers={"last-event-id": "eu:1-1,us:1-1"}),
    }


def keeps_quiet(answer: httpx.Response, survey: OpenSurvey) -> bool:
    """Tell whether an answer says that there is nothing to see, and nothing else."""
    problem = answer.json()
    assert answer.headers["content-type"].startswith("application/problem+json")
    silent = not {"etag", "last-modified", "age"} & set(answer.headers)
    known = {"type", "title", "status", "code", "instance", "requestId", "detail"}
    return (
        silent
        and (answer.status_code, problem["code"]) == (403, "results_not_visible")
        and set(problem) <= known
        and not any(character.isdigit() for character in problem.get("detail", ""))
        and "s-maxage" not in answer.headers.get("cache-control", "")
        and survey.options[0] not in problem.get("detail", "")
    )


async def test_results_for_staff_are_told_to_nobody_else(house: House, hidden: OpenSurvey) -> None:
    answers = await public_answers(house, hidden)
    assert {name: keeps_quiet(answer, hidden) for name, answer in answers.items()} == dict.fromkeys(answers, True)
    await house.finish(hidden)
    await eventually(lambda: _finished(house, hidden), what="finished")
    answers = await public_answers(house, hidden)
    assert {name: keeps_quiet(answer, hidden) for name, answer in answers.items()} == dict.fromkeys(answers, True)
    assert (await house.results(hidden))["totalResponses"] == VOTES


async def test_results_after_closing_are_told_after_closing(house: House) -> None:
    survey = await voted(house, title="Later", visibility="after_close")
    before = await public_answers(house, survey)
    assert {name: keeps_quiet(answer, survey) for name, answer in before.items()} == dict.fromkeys(before, True)

    assert (await house.cast(survey, house.token(survey))).status_code == 201
    after_a_vote = await public_answers(house, survey)
    assert [_shape(answer) for answer in after_a_vote.values()] == [_shape(answer) for answer in before.values()]

    await house.settled(survey, VOTES + 1)
    await house.finish(survey)

    async def shown() -> bool:
        answer = await house.clients["results"].get(f"/v1/surveys/{survey.id}/results")
        assert answer.status_code in {200, 403}
        return answer.status_code == 200 and answer.json()["totalResponses"] == VOTES + 1

    await eventually(shown, what="results after closing")


def _shape(answer: httpx.Response) -> tuple[int, int, tuple[str, ...]]:
    """What could differ where something changed: status, length and the names of headers.

    A request's own id counts up in every process, so its length says nothing.
    """
    own = answer.headers.get("x-request-id", "")
    return answer.status_code, len(answer.content.replace(own.encode(), b"")), tuple(sorted(answer.headers))


async def test_the_survey_itself_says_nothing_of_its_votes(house: House) -> None:
    survey = await house.open_survey("Quiet", visibility="after_close")

    async def look() -> list[tuple[str, str | None]]:
        one = await house.clients["surveys"].get(f"/v1/surveys/{survey.id}")
        known = await house.clients["surveys"].get(
            f"/v1/surveys/{survey.id}", headers={"if-none-match": one.headers["etag"]}
        )
        assert known.status_code == 304
        return [(one.text, one.headers.get("etag"))]

    before = await look()
    for _ in range(VOTES):
        assert (await house.cast(survey, house.token(survey))).status_code == 201
    await house.settled(survey, VOTES)
    assert await look() == before
    assert "votes" not in before[0][0]
    listed = await house.clients["surveys"].get("/v1/surveys", params={"limit": 100})
    assert "totalResponses" not in listed.text
    assert "votes" not in listed.text


@pytest.mark.parametrize("role", [None, Role.SUPPORT, Role.COMPLIANCE, Role.AUDITOR])
async def test_staff_routes_tell_results_to_nobody_without_the_role(
    house: House, hidden: OpenSurvey, role: Role | None
) -> None:
    headers = {} if role is None else house.admin(role)
    path = f"/v1/internal/surveys/{hidden.id}"
    _, access = await house.voter()
    for sent in (headers, {"authorization": f"Bearer {access}"}, {"authorization": f"Bearer {house.token(hidden)}"}):
        seen = await house.clients["results"].get(f"{path}/results", headers=sent)
        started = await house.clients["surveys"].post(f"{path}/exports", json={"format": "json"}, headers=sent)
        fetched = await house.clients["surveys"].get(f"{path}/exports/x_aaaaaaaaaaaaaaaa", headers=sent)
        for answer in (seen, started, fetched):
            assert answer.status_code in {401, 403}, answer.text
            assert answer.json()["code"] in {"unauthenticated", "token_invalid", "forbidden"}
            assert "totalResponses" not in answer.text


async def test_an_export_has_what_staff_may_see_and_nobody_else_can_fetch_it(house: House, hidden: OpenSurvey) -> None:
    path = f"/v1/internal/surveys/{hidden.id}/exports"
    started = await house.clients["surveys"].post(path, json={"format": "json"}, headers=house.admin())
    assert started.status_code == 202, started.text
    export = f"{path}/{started.json()['id']}"

    async def finished() -> bool:
        found = await house.clients["surveys"].get(export, headers=house.admin())
        assert found.status_code == 200, found.text
        return bool(found.json()["status"] == "finished")

    await eventually(finished, what="the export finished")
    file = await house.clients["surveys"].get(f"{export}?download=true", headers=house.admin())
    assert file.status_code == 200
    assert str(VOTES) in file.text
    for suffix in ("", "?download=true"):
        refused = await house.clients["surveys"].get(export + suffix)
        assert refused.status_code == 401
    other = await house.open_survey("Another")
    stolen = await house.clients["surveys"].get(export.replace(hidden.id, other.id), headers=house.admin())
    assert (stolen.status_code, stolen.json()["code"]) == (404, "export_not_found")


async def test_a_live_result_moves_by_the_minimum_step_only(house: House) -> None:
    survey = await house.open_survey("In steps", minimumStep=5)
    seen = []
    for number in range(6):
        assert (await house.cast(survey, house.token(survey))).status_code == 201
        await house.settled(survey, number + 1)
        public = await house.clients["results"].get(f"/v1/surveys/{survey.id}/results")
        assert public.status_code == 200
        seen.append(public.json()["totalResponses"])
    assert set(seen) <= {0, 5, 6}
    assert seen[:4] == [0, 0, 0, 0]
    assert 6 not in seen


async def test_a_scheduled_survey_takes_no_vote_before_it_opens(house: House) -> None:
    opens = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    survey = await house.open_survey("Tomorrow", startDate=opens)
    refused = await house.cast(survey, house.token(survey))
    assert (refused.status_code, refused.json()["code"]) == (409, "survey_not_open"), refused.text
    assert await house.counts(survey) == (0, 0, 0)


async def _finished(house: House, survey: OpenSurvey) -> bool:
    found = await house.clients["surveys"].get(f"/v1/surveys/{survey.id}")
    return found.status_code == 200 and found.json()["finishDate"] is not None
