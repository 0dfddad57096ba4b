"""Every route of the platform has its limit and says so; votes go on where Redis does not."""

import asyncio

import httpx
import pytest

from domain.limits import POLICIES
from tests.end_to_end.house import House, eventually
from tests.end_to_end.openapi_documents import SERVICES, committed

ADMIN = "/v1/internal/surveys"


def policy_of(answer: httpx.Response) -> str:
    """Return the name of the limit that a caller hears of; both headers are structured fields with the same one."""
    policy, left = answer.headers["ratelimit-policy"], answer.headers["ratelimit"]
    name = policy.split(";")[0].strip('"')
    known = POLICIES[name]
    assert policy == f'"{name}";q={known.quota};w={known.window_s}'
    said, remaining, seconds = left.split(";")
    assert said == f'"{name}"'
    assert 0 <= int(remaining.removeprefix("r=")) < known.quota
    assert 0 < int(seconds.removeprefix("t=")) <= known.window_s
    return name


async def test_every_route_says_its_limit(house: House) -> None:
    survey = await house.open_survey("Limited")
    surveys, results, votes = (house.clients[name] for name in ("surveys", "results", "votes"))
    public, staff = f"/v1/surveys/{survey.id}", f"{ADMIN}/{survey.id}"
    _, access = await house.voter()
    token = house.token(survey)
    voter = {"authorization": f"Bearer {token}"}
    cast = await house.cast(survey, token)
    assert cast.status_code in {201, 202}
    choice = {"question": survey.question, "option": survey.options[0]}
    step = await votes.post(f"{public}/answers", json=choice, headers=voter)
    order = await surveys.post(f"{staff}/exports", json={"format": "csv"}, headers=house.admin())
    found = {
        "list": await surveys.get("/v1/surveys"),
        "survey": await surveys.get(public),
        "missing survey": await surveys.get("/v1/surveys/s_nothere"),
        "results": await results.get(f"{public}/results"),
        "staff's results": await results.get(f"{staff}/results", headers=house.admin()),
        "staff's list": await surveys.get(ADMIN, headers=house.admin()),
        "staff's survey": await surveys.get(staff, headers=house.admin()),
        "publish": await surveys.put(f"{staff}/publish", headers=house.admin()),
        "export": order,
        "exported": await surveys.get(order.headers["location"], headers=house.admin()),
        "admission": await house.ask_to_vote(survey.id, access),
        "vote": cast,
        "vote again": await house.cast(survey, token),
        "answer": step,
        "finish": await votes.put(f"{public}/answers/{step.json()['surveyAnswer']['id']}/finish", headers=voter),
        "submission": await votes.get(cast.headers["location"], headers=voter),
        "webhook": await house.clients["webhooks"].post("/v1/webhooks/nobody", json={}),
    }
    async with house.clients["streams"].stream("GET", f"{public}/results/stream") as stream:
        found["stream"] = stream
    assert {name: policy_of(answer) for name, answer in found.items()} == {
        "list": "list-address",
        "survey": "survey-address",
        "missing survey": "survey-address",
        "results": "results-address",
        "staff's results": "staff",
        "staff's list": "staff",
        "staff's survey": "staff",
        "publish": "staff",
        "export": "export",
        "exported": "staff",
        "admission": "admission-voter",
        "vote": "vote-token",
        "vote again": "vote-token",
        "answer": "answer-token",
        "finish": "vote-token",
        "submission": "submission-token",
        "webhook": "webhook-address",
        "stream": "stream-address",
    }


@pytest.mark.parametrize("service", SERVICES)
def test_every_route_documents_its_limit(service: str) -> None:
    document = committed(service)
    assert document["paths"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            headers = operation["responses"]["429"]["headers"]
            assert set(headers) >= {"RateLimit", "RateLimit-Policy", "Retry-After"}, f"{method} {path}"


async def test_votes_are_limited_and_taken_while_redis_hangs(house: House) -> None:
    survey = await house.open_survey("Without Redis")

    async def alone() -> bool:
        await house.cast(survey, house.token(survey))
        exposed = (await house.clients["votes"].get("/metrics")).text
        return 'limit_fallback_active{cell="eu"} 1.0' in exposed

    async def shared() -> bool:
        return 'limit_fallback_active{cell="eu"} 0.0' in (await house.clients["votes"].get("/metrics")).text

    assert await shared()
    with house.frozen("redis"):
        await eventually(alone, what="limits of the process alone")
        token = house.token(survey)
        answers: list[httpx.Response] = []

        async def refused() -> bool:
            answers.extend(await asyncio.gather(*(house.cast(survey, token) for _ in range(50))))
            return answers[-1].status_code == 429

        await eventually(refused, what="a token used up")
        permitted = sum(answer.status_code != 429 for answer in answers)
        assert permitted >= POLICIES["vote-token"].quota
        assert (await house.cast(survey, house.token(survey))).status_code in {201, 202}
    await eventually(shared, what="limits shared again")
