"""Limits of voting over HTTP, with numbers small enough to reach."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator

import pytest_asyncio

from integrations.settings import Settings
from tests.api.votes.conftest import CELL, Votes, votes_service
from tests.voting_world import Booth, TokenDesk

QUOTA = 4
WINDOW_S = 4000  # nothing flows in while a test runs


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def limited(votes_settings: Settings, desk: TokenDesk) -> AsyncIterator[list[Votes]]:
    """Two processes with the same limits."""
    assert desk
    names = ("vote-token", "answer-token", "submission-token")
    settings = votes_settings.model_copy(update={"limits": dict.fromkeys(names, (QUOTA, WINDOW_S))})
    async with votes_service(settings) as one, votes_service(settings) as other:
        yield [one, other]


async def test_a_token_casts_so_often_and_hears_what_is_left(
    limited: list[Votes], booth: Booth, desk: TokenDesk
) -> None:
    token = desk.token(booth.survey.id, CELL)
    answers = [await limited[0].cast(booth, token) for _ in range(QUOTA + 1)]
    assert [answer.status_code for answer in answers[1:]] == [409] * (QUOTA - 1) + [429]
    assert answers[0].status_code in {201, 202}
    policies = {answer.headers["ratelimit-policy"] for answer in answers}
    assert policies == {f'"vote-token";q={QUOTA};w={WINDOW_S}'}
    left = [answer.headers["ratelimit"].split(";")[:2] for answer in answers]
    assert left == [['"vote-token"', f"r={n}"] for n in (3, 2, 1, 0, 0)]
    refused = answers[-1]
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= WINDOW_S // QUOTA
    assert (await limited[0].cast(booth, desk.token(booth.survey.id, CELL))).status_code in {201, 202}
    assert await booth.settled(2) == {"participations": 2, "ballots": 2, "counted": 2}


async def test_another_process_hears_of_it(limited: list[Votes], booth: Booth, desk: TokenDesk) -> None:
    token = desk.token(booth.survey.id, CELL)
    statuses: list[int] = []
    async with asyncio.timeout(60):  # it is told within 100 ms, and later on a busy machine
        while statuses[-2:] != [429, 429]:
            statuses += [(await process.cast(booth, token)).status_code for process in limited]
            await asyncio.sleep(0.05)
    permitted = len(statuses) - Counter(statuses)[429]
    assert QUOTA <= permitted <= 2 * QUOTA


async def test_steps_and_looks_have_limits_of_their_own(limited: list[Votes], booth: Booth, desk: TokenDesk) -> None:
    headers = {"authorization": f"Bearer {desk.token(booth.survey.id, CELL)}"}
    client, path = limited[0].client, f"/v1/surveys/{booth.survey.id}/answers"
    body = {"question": "1", "option": "1"}
    answers = [await client.post(path, json=body, headers=headers) for _ in range(QUOTA + 1)]
    assert [answer.status_code for answer in answers] == [201] * QUOTA + [429]
    assert answers[-1].headers["ratelimit-policy"].startswith('"answer-token"')
    session = answers[0].json()["surveyAnswer"]["id"]
    finished = await client.put(f"{path}/{session}/finish", headers=headers)
    assert finished.status_code in {200, 202}
    assert finished.headers["ratelimit"].startswith(f'"vote-token";r={QUOTA - 1};')
    looks = [await client.get(finished.headers["location"], headers=headers) for _ in range(QUOTA + 1)]
    assert [answer.status_code for answer in looks] == [200] * QUOTA + [429]
    assert looks[-1].headers["ratelimit-policy"].startswith('"submission-token"')


async def test_whoever_has_no_good_token_uses_up_nobodys_limit(
    votes_settings: Settings, booth: Booth, desk: TokenDesk
) -> None:
    """A stranger behind the same address: refused himself at last, and the voter votes all the same."""
    settings = votes_settings.model_copy(update={"limits": {"failure-address": (QUOTA, WINDOW_S)}})
    voter = secrets.token_bytes(32)
    token = desk.token(booth.survey.id, CELL, nullifier=voter)
    forged = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    async with votes_service(settings) as votes:
        answers = [await votes.cast(booth, forged) for _ in range(2 * QUOTA)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert answers[-1].headers["ratelimit-policy"].startswith('"failure-address"')
        assert (await votes.cast(booth, token)).status_code in {201, 202}
    assert (await booth.settled(1))["participations"] == 1
