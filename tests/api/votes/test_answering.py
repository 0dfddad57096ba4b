import asyncio
import secrets
from datetime import datetime
from typing import Any

import httpx
import pytest

from integrations.settings import Settings
from tests.api.votes.conftest import CELL, Votes, votes_service
from tests.api.votes.test_casting import problem
from tests.api.votes.test_outages import ledger_standing_still
from tests.audited import leaves
from tests.conftest import OwnerPool
from tests.voting_world import Booth, TokenDesk

KEPT = "SELECT count(*) FROM voting.answer_session WHERE nullifier = $1"


class Voter:
    """One person who answers step by step."""

    def __init__(self, votes: Votes, booth: Booth, desk: TokenDesk) -> None:
        self.nullifier = secrets.token_bytes(32)
        self.token = desk.token(booth.survey.id, CELL, nullifier=self.nullifier)
        self._client = votes.client
        self._address = f"/v1/surveys/{booth.survey.id}/answers"
        self._headers = {"authorization": f"Bearer {self.token}"}

    async def answer(self, **body: Any) -> httpx.Response:
        return await self._client.post(self._address, json=body, headers=self._headers)

    async def finish(self, session: str) -> httpx.Response:
        return await self._client.put(f"{self._address}/{session}/finish", headers=self._headers)


@pytest.fixture
def voter(votes: Votes, booth: Booth, desk: TokenDesk) -> Voter:
    return Voter(votes, booth, desk)


async def test_the_bodies_are_those_that_clients_were_promised(
    voter: Voter, booth: Booth, owner_pool: OwnerPool
) -> None:
    first = (await voter.answer(question="1", option="1", text="")).json()
    session = first["surveyAnswer"]["id"]
    assert datetime.fromisoformat(first["surveyAnswer"].pop("initialized"))
    assert first == {
        "surveyAnswer": {"id": session, "survey": booth.survey.id, "finished": None},
        "questionAnswer": {"id": "1", "surveyAnswer": session, "question": "1", "option": "1", "text": ""},
    }
    second = await voter.answer(surveyAnswerId=session, question="2", option="4", text="")
    assert second.json() == {"id": "2", "surveyAnswer": session, "question": "2", "option": "4", "text": ""}
    async with leaves(await owner_pool(CELL), "votes PUT /v1/surveys/{id}/answers/{answer_id}/finish"):
        finished = await voter.finish(session)
    body = finished.json()
    assert set(body) == {"id", "survey", "initialized", "finished"}
    assert body["finished"].endswith("Z")
    assert (body["id"], body["survey"]) == (session, booth.survey.id)
    assert await booth.counts() == {"participations": 1, "ballots": 1, "counted": 1}


async def test_what_is_sent_is_looked_at_once_its_sender_is_known(votes: Votes, voter: Voter, booth: Booth) -> None:
    for headers in ({}, {"authorization": "Bearer a.b.c"}):
        answer = await votes.client.post(f"/v1/surveys/{booth.survey.id}/answers", json={"x": 1}, headers=headers)
        assert answer.status_code == 401, answer.text
    assert problem(await voter.answer(x=1)) == (400, "malformed_request")


async def test_finishing_again_and_again_at_once_is_one_vote(voter: Voter, booth: Booth) -> None:
    session = (await voter.answer(question="1", option="1")).json()["surveyAnswer"]["id"]
    answers = await asyncio.gather(*(voter.finish(session) for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    later = await voter.finish(session)
    assert later.status_code == 200
    assert later.json()["finished"] is not None
    assert await booth.counts() == {"participations": 1, "ballots": 1, "counted": 1}


async def test_an_unfinished_ballot_that_breaks_a_rule_stays_open(voter: Voter) -> None:
    session = (await voter.answer(question="2", option="4")).json()["surveyAnswer"]["id"]
    assert problem(await voter.finish(session)) == (422, "too_few_options")
    assert (await voter.answer(surveyAnswerId=session, question="1", option="2")).status_code == 201
    assert (await voter.finish(session)).status_code == 200


async def test_a_finished_session_takes_no_more_answers(voter: Voter) -> None:
    session = (await voter.answer(question="1", option="1")).json()["surveyAnswer"]["id"]
    await voter.finish(session)
    late = await voter.answer(surveyAnswerId=session, question="1", option="2")
    assert problem(late) == (409, "answer_session_finished")


async def test_somebody_elses_session_is_not_there(votes: Votes, voter: Voter, booth: Booth, desk: TokenDesk) -> None:
    session = (await voter.answer(question="1", option="1")).json()["surveyAnswer"]["id"]
    stranger = Voter(votes, booth, desk)
    assert problem(await stranger.answer(surveyAnswerId=session, question="1", option="2")) == (
        404,
        "answer_session_not_found",
    )
    assert problem(await stranger.finish(session)) == (404, "answer_session_not_found")
    assert (await booth.counts())["participations"] == 0


async def test_two_sessions_of_one_person_are_one_vote(voter: Voter, booth: Booth) -> None:
    sessions = [(await voter.answer(question="1", option="1")).json()["surveyAnswer"]["id"] for _ in range(2)]
    assert (await voter.finish(sessions[0])).status_code == 200
    assert problem(await voter.finish(sessions[1])) == (409, "already_voted")
    assert await booth.counts() == {"participations": 1, "ballots": 1, "counted": 1}


async def test_what_is_stored_of_a_session_tells_nothing(voter: Voter, booth: Booth, owner_pool: OwnerPool) -> None:
    first = (await voter.answer(question="1", option="1")).json()["surveyAnswer"]["id"]
    other = (await voter.answer(question="2", option="4", text="a reason")).json()["surveyAnswer"]["id"]
    owner = await owner_pool(CELL)
    rows = await owner.fetch(
        "SELECT session_hash, state FROM voting.answer_session WHERE nullifier = $1", voter.nullifier
    )
    assert len(rows) == 2
    assert len({len(row["state"]) for row in rows}) == 1
    stored = b"".join(row["session_hash"] + row["state"] for row in rows)
    for secret in (first.encode(), other.encode(), b"a reason", b"question"):
        assert secret not in stored
    await voter.finish(first)
    left = await owner.fetchval(
        "SELECT state FROM voting.answer_session WHERE nullifier = $1 AND finished_at IS NOT NULL", voter.nullifier
    )
    assert left == b""


async def test_open_sessions_of_one_voter_are_bounded(voter: Voter, owner_pool: OwnerPool) -> None:
    for _ in range(8):
        await voter.answer(question="1", option="1")
    owner = await owner_pool(CELL)
    assert await owner.fetchval(KEPT, voter.nullifier) <= 5


async def test_whoever_has_voted_leaves_nothing_behind_by_trying_again(voter: Voter, owner_pool: OwnerPool) -> None:
    first = (await voter.answer(question="1", option="1")).json()["surveyAnswer"]["id"]
    assert (await voter.finish(first)).status_code == 200
    for _ in range(20):
        session = (await voter.answer(question="1", option="2")).json()["surveyAnswer"]["id"]
        async with asyncio.timeout(60):
            while (refused := await voter.finish(session)).status_code == 202:  # a busy machine: not known yet
                await asyncio.sleep(0.1)
        assert problem(refused) == (409, "already_voted")
    owner = await owner_pool(CELL)
    assert await owner.fetchval(KEPT, voter.nullifier) == 1
    assert (await voter.finish(first)).status_code == 200


async def test_a_session_that_was_refused_for_now_can_be_changed_and_finished(
    votes_settings: Settings, booth: Booth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    hasty = votes_settings.model_copy(update={"vote_start_timeout_s": 0.5, "vote_confirm_timeout_s": 0.3})
    async with votes_service(hasty) as votes:
        voter = Voter(votes, booth, desk)
        session = (await voter.answer(question="1", option="1")).json()["surveyAnswer"]["id"]
        async with ledger_standing_still(owner_pool), asyncio.timeout(60):
            while (await votes.cast(booth, desk.token(booth.survey.id, CELL))).status_code != 202:
                await asyncio.sleep(0.1)
            refused = await voter.finish(session)  # waits behind the batch that is not recorded
            assert problem(refused)[0] == 503
            assert refused.json()["code"] in {"overloaded", "cell_unavailable"}
            assert (await voter.answer(surveyAnswerId=session, question="1", option="2")).status_code == 201
        async with asyncio.timeout(60):
            while (finished := await voter.finish(session)).status_code in {202, 503}:
                await asyncio.sleep(0.1)
        assert finished.status_code == 200
        assert (await booth.settled(2))["counted"] == 2
