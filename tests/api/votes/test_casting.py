import asyncio
import secrets
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from domain.contracts.surveys import Survey
from tests.api.votes.conftest import CELL, Votes
from tests.audited import leaves
from tests.conftest import OwnerPool
from tests.voting_world import Booth, OpenBooth, TokenDesk, small_survey


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


async def test_a_vote_is_confirmed_with_a_receipt_that_its_voter_can_read_again(
    votes: Votes, booth: Booth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    token = desk.token(booth.survey.id, CELL)
    async with leaves(await owner_pool(CELL), "votes POST /v1/surveys/{id}/vote"):
        answer = await votes.cast(booth, token, "2")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (201, "confirmed")
    assert len(body["receipt"]) == 24
    assert "replayed" not in body
    assert await booth.counts() == {"participations": 1, "ballots": 1, "counted": 1}

    submission = await votes.client.get(answer.headers["location"], headers={"authorization": f"Bearer {token}"})
    assert submission.json() == {**body, "replayed": False}

    stranger = desk.token(booth.survey.id, CELL)
    refused = await votes.client.get(answer.headers["location"], headers={"authorization": f"Bearer {stranger}"})
    assert problem(refused) == (404, "submission_not_found")


async def test_the_token_alone_names_the_survey_on_the_short_address(
    votes: Votes, booth: Booth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    body = {"answers": [{"question": "1", "options": ["3"]}]}
    headers = {"authorization": f"Bearer {desk.token(booth.survey.id, CELL)}"}
    async with leaves(await owner_pool(CELL), "votes POST /vote"):
        assert (await votes.client.post("/vote", json=body, headers=headers)).status_code == 201
    assert (await booth.counts())["counted"] == 1


async def test_the_same_key_gets_the_first_answer_again_and_any_other_is_refused(
    votes: Votes, booth: Booth, desk: TokenDesk
) -> None:
    voter = secrets.token_bytes(32)
    first = await votes.cast(booth, desk.token(booth.survey.id, CELL, nullifier=voter), "1", key="one")
    again = await votes.cast(booth, desk.token(booth.survey.id, CELL, nullifier=voter), "2", key="one")
    other = await votes.cast(booth, desk.token(booth.survey.id, CELL, nullifier=voter), "1", key="two")
    none = await votes.cast(booth, desk.token(booth.survey.id, CELL, nullifier=voter), "1")
    assert again.status_code == 201
    assert again.json()["replayed"] is True
    assert again.json()["receipt"] == first.json()["receipt"]
    assert problem(other) == problem(none) == (409, "already_voted")
    assert await booth.counts() == {"participations": 1, "ballots": 1, "counted": 1}


async def test_one_key_of_two_voters_is_two_votes(votes: Votes, booth: Booth, desk: TokenDesk) -> None:
    answers = [await votes.cast(booth, desk.token(booth.survey.id, CELL), "1", key="one") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert len({answer.json()["receipt"] for answer in answers}) == 2
    assert not any("replayed" in answer.json() for answer in answers)
    assert await booth.counts() == {"participations": 2, "ballots": 2, "counted": 2}


async def test_receipts_say_nothing_about_the_choice(votes: Votes, booth: Booth, desk: TokenDesk) -> None:
    """One voter's receipt is a function of the nullifier alone: it is known before he chooses."""
    for option in ("1", "2", "3"):
        voter = secrets.token_bytes(32)
        answer = await votes.cast(booth, desk.token(booth.survey.id, CELL, nullifier=voter), option)
        assert answer.json()["receipt"] == booth.known.seal.receipt(voter)


async def test_hundreds_of_parallel_votes_of_one_person_on_two_processes_are_one_vote(
    votes: Votes, second_votes: Votes, booth: Booth, desk: TokenDesk
) -> None:
    voter = secrets.token_bytes(32)
    token = desk.token(booth.survey.id, CELL, nullifier=voter)
    keys = ["a", "b", None]
    services = (votes, second_votes)
    answers = await asyncio.gather(
        *(services[n % 2].cast(booth, token, str(1 + n % 3), key=keys[n % 3]) for n in range(300))
    )
    assert await booth.settled(1) == {"participations": 1, "ballots": 1, "counted": 1}
    found = Counter(answer.status_code for answer in answers)
    assert set(found) <= {201, 202, 409, 503}  # 202 and 503 where the machine is busy: one vote all the same
    fresh = [answer for answer in answers if answer.status_code == 201 and "replayed" not in answer.json()]
    assert len(fresh) <= 1
    assert len({answer.json()["receipt"] for answer in answers if answer.status_code == 201}) <= 1


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"age": timedelta(hours=1)}, "token_expired"),
        ({"age": timedelta(hours=-1)}, "token_invalid"),
        ({"iss": "somebody"}, "token_invalid"),
        ({"aud": "voters"}, "token_invalid"),
        ({"scope": "voter"}, "token_invalid"),
        ({"exp": 2**40}, "token_invalid"),
        ({"evidence": "c2hvcnQ"}, "token_invalid"),
    ],
)
async def test_a_token_that_is_not_exactly_right_casts_nothing(
    votes: Votes, booth: Booth, desk: TokenDesk, claims: dict[str, Any], code: str
) -> None:
    token = desk.token(booth.survey.id, CELL, **claims)
    assert problem(await votes.cast(booth, token)) == (401, code)
    assert (await booth.counts())["participations"] == 0


async def test_a_token_of_another_survey_or_cell_casts_nothing(
    votes: Votes, booth: Booth, booth_of: OpenBooth, desk: TokenDesk
) -> None:
    other = await booth_of()
    assert problem(await votes.cast(booth, desk.token(other.survey.id, CELL))) == (403, "forbidden")
    assert problem(await votes.cast(booth, desk.token(booth.survey.id, "mars"))) == (421, "wrong_cell")
    assert problem(await votes.cast(booth, desk.token(booth.survey.id, "us"))) == (404, "survey_not_found")
    assert (await booth.counts())["participations"] == 0


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic eDp5", "Bearer a.b.c", "DPoP a.b.c"])
async def test_no_token_no_vote(votes: Votes, booth: Booth, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    answer = await votes.client.post(f"/v1/surveys/{booth.survey.id}/vote", json={"answers": []}, headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_request"),
        (b"{", 400, "malformed_request"),
        (b"[]", 400, "malformed_request"),
        (b"\xff\xfe", 400, "malformed_request"),
        (b'{"answers": 1}', 400, "malformed_request"),
        (b'{"answers": [], "extra": 1}', 400, "malformed_request"),
        (b'{"answers": [{"question": 1, "options": ["1"]}]}', 400, "malformed_request"),
        (b'{"answers": [{"question": "1", "options": ["1"], "surprise": true}]}', 400, "malformed_request"),
        (b'{"answers": []}', 422, "too_few_options"),
        (b'{"answers": [{"question": "1", "options": ["1", "2"]}]}', 422, "too_many_options"),
        (b'{"answers": [{"question": "1", "options": ["4"]}]}', 422, "option_unknown"),
        (b'{"answers": [{"question": "9", "options": ["1"]}]}', 422, "question_unknown"),
        (b'{"answers": [{"question": "1", "options": ["1"], "text": "hi"}]}', 422, "text_not_allowed"),
        (b'{"answers": "' + b"x" * 70_000 + b'"}', 413, "payload_too_large"),
    ],
)
async def test_a_bad_ballot_is_refused_with_its_code_and_costs_nobody_his_vote(
    votes: Votes, booth: Booth, desk: TokenDesk, body: bytes, status: int, code: str
) -> None:
    token = desk.token(booth.survey.id, CELL)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    answer = await votes.client.post(f"/v1/surveys/{booth.survey.id}/vote", content=body, headers=headers)
    assert problem(answer) == (status, code)
    assert (await votes.cast(booth, token)).status_code == 201


async def test_a_body_must_be_json(votes: Votes, booth: Booth, desk: TokenDesk) -> None:
    headers = {"authorization": f"Bearer {desk.token(booth.survey.id, CELL)}", "content-type": "text/plain"}
    answer = await votes.client.post(f"/v1/surveys/{booth.survey.id}/vote", content=b"{}", headers=headers)
    assert problem(answer) == (415, "unsupported_media_type")


@pytest.mark.parametrize("key", ["x" * 256, "tab\there"])
async def test_a_bad_idempotency_key_is_refused(votes: Votes, booth: Booth, desk: TokenDesk, key: str) -> None:
    answer = await votes.cast(booth, desk.token(booth.survey.id, CELL), key=key)
    assert problem(answer) == (400, "malformed_request")


async def test_before_and_after_its_window_a_survey_takes_no_votes(
    votes: Votes, booth_of: OpenBooth, desk: TokenDesk
) -> None:
    now = datetime.now(UTC)
    closed = await booth_of(start_at=now - timedelta(days=2), finish_at=now - timedelta(days=1))
    early = await booth_of(start_at=now + timedelta(days=1))
    never = await booth_of(start_at=None)
    assert problem(await votes.cast(closed, desk.token(closed.survey.id, CELL))) == (409, "survey_closed")
    assert problem(await votes.cast(early, desk.token(early.survey.id, CELL))) == (409, "survey_not_open")
    assert problem(await votes.cast(never, desk.token(never.survey.id, CELL))) == (409, "survey_not_open")


async def test_a_survey_without_regions_takes_any_region(votes: Votes, booth_of: OpenBooth, desk: TokenDesk) -> None:
    survey: Survey = small_survey(regions=())
    booth = await booth_of(survey=survey)
    assert (await votes.cast(booth, desk.token(survey.id, CELL, region="anywhere"))).status_code == 201
