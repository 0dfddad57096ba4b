"""Limits of voting over HTTP, with numbers small enough to reach."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import httpx
import pytest_asyncio

from integrations.settings import Settings
from tests.api.votes.conftest import CELL, Votes, votes_service
from tests.voting_world import Booth, TokenDesk

QUOTA = 4
WINDOW_S = 4000  # nothing flows in while a test runs
TAKEN = {201, 202, 409, 503}  # by a machine that may be busy; a limit's own answer is 429


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def limited(votes_settings: Settings, desk: TokenDesk) -> AsyncIterator[list[Votes]]:
    """Two processes with the same limits."""
    assert desk
    names = ("vote-token", "answer-token", "submission-token")
    settings = votes_settings.model_copy(update={"limits": dict.fromkeys(names, (QUOTA, WINDOW_S))})
    async with votes_service(settings) as one, votes_service(settings) as other:
        yield [one, other]


async def counted(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Ask until it is counted: a busy machine turns requests away before anybody knows whose they are."""
    async with asyncio.timeout(60):
        while True:
            answer = await ask()
            if "ratelimit" in answer.headers:
                return answer
            assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.1)


async def test_a_token_casts_so_often_and_hears_what_is_left(
    limited: list[Votes], booth: Booth, desk: TokenDesk
) -> None:
    token, other = desk.token(booth.survey.id, CELL), desk.token(booth.survey.id, CELL)
    answers = [await counted(lambda: limited[0].cast(booth, token)) for _ in range(QUOTA + 1)]
    assert {answer.status_code for answer in answers[:-1]} <= TAKEN
    policies = {answer.headers["ratelimit-policy"] for answer in answers}
    assert policies == {f'"vote-token";q={QUOTA};w={WINDOW_S}'}
    left = [answer.headers["ratelimit"].split(";")[:2] for answer in answers]
    assert left == [['"vote-token"', f"r={n}"] for n in (3, 2, 1, 0, 0)]
    refused = answers[-1]
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= WINDOW_S // QUOTA
    assert (await counted(lambda: limited[0].cast(booth, other))).status_code in TAKEN


async def test_another_process_hears_of_it(limited: list[Votes], booth: Booth, desk: TokenDesk) -> None:
    token = desk.token(booth.survey.id, CELL)
    statuses: list[int] = []
    async with asyncio.timeout(60):  # it is told within 100 ms, and later on a busy machine
        while statuses[-2:] != [429, 429]:
            answers = [await counted(partial(process.cast, booth, token)) for process in limited]
            statuses += [answer.status_code for answer in answers]
            await asyncio.sleep(0.05)
    permitted = len(statuses) - Counter(statuses)[429]
    assert QUOTA <= permitted <= 2 * QUOTA


async def test_steps_and_looks_have_limits_of_their_own(limited: list[Votes], booth: Booth, desk: TokenDesk) -> None:
    headers = {"authorization": f"Bearer {desk.token(booth.survey.id, CELL)}"}
    client, path = limited[0].client, f"/v1/surveys/{booth.survey.id}/answers"
    body = {"question": "1", "option": "1"}
    answers = [await counted(lambda: client.post(path, json=body, headers=headers)) for _ in range(QUOTA + 1)]
    assert [answer.status_code for answer in answers] == [201] * QUOTA + [429]
    assert answers[-1].headers["ratelimit-policy"].startswith('"answer-token"')
    session = answers[0].json()["surveyAnswer"]["id"]
    finished = await counted(lambda: client.put(f"{path}/{session}/finish", headers=headers))
    assert finished.headers["ratelimit"].startswith(f'"vote-token";r={QUOTA - 1};')
    looks = [await counted(lambda: client.get("/v1/submissions/none", headers=headers)) for _ in range(QUOTA + 1)]
    assert [answer.status_code for answer in looks] == [404] * QUOTA + [429]
    assert looks[-1].headers["ratelimit-policy"].startswith('"submission-token"')


async def test_whoever_has_no_good_token_uses_up_nobodys_limit(
    votes_settings: Settings, booth: Booth, desk: TokenDesk
) -> None:
    """A stranger behind the same address: refused himself at last, and the voter votes all the same."""
    settings = votes_settings.model_copy(update={"limits": {"failure-address": (QUOTA, WINDOW_S)}})
    token = desk.token(booth.survey.id, CELL)
    forged = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    statuses: list[int] = []
    async with votes_service(settings) as votes:
        refused = await votes.cast(booth, forged)
        async with asyncio.timeout(60):
            while refused.status_code != 429:
                statuses.append(refused.status_code)
                refused = await votes.cast(booth, forged)
        assert statuses.count(401) == QUOTA
        assert refused.headers["ratelimit-policy"] == f'"failure-address";q={QUOTA};w={WINDOW_S}'
        assert (await counted(lambda: votes.cast(booth, token))).status_code in TAKEN
