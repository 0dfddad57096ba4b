"""What was in time is answered again after the end; nothing new is taken then."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from functools import partial

import httpx
import pytest

from domain.contracts.voting import Outcome
from tests.api.votes.conftest import CELL, Votes
from tests.api.votes.test_answering import Voter
from tests.api.votes.test_casting import problem
from tests.api.votes.test_outages import ledger_standing_still
from tests.conftest import OwnerPool
from tests.voting_world import Booth, TokenDesk

ONE = {"participations": 1, "ballots": 1, "counted": 1}


@pytest.fixture
def voter(votes: Votes, booth: Booth, desk: TokenDesk) -> Voter:
    return Voter(votes, booth, desk)


async def end(booth: Booth, votes: Votes, desk: TokenDesk, owner_pool: OwnerPool) -> None:
    """End the survey, and wait until the service knows."""
    owner = await owner_pool(CELL)
    await owner.execute("UPDATE voting.survey SET finish_at = now() WHERE survey_id = $1", booth.survey.id)
    async with asyncio.timeout(30):
        while True:  # no option 9: refused before the end, too
            answer = await votes.cast(booth, desk.token(booth.survey.id, CELL), "9")
            if answer.json()["code"] == "survey_closed":
                return
            await asyncio.sleep(0.05)


async def told(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Ask until the answer is the last word: on a busy machine it may come later."""
    async with asyncio.timeout(60):
        while (answer := await ask()).status_code in {202, 503}:
            await asyncio.sleep(0.1)
    return answer


async def test_a_vote_that_was_in_time_gets_its_answer_again(
    votes: Votes, second_votes: Votes, booth: Booth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    token = desk.token(booth.survey.id, CELL)
    first = await told(lambda: votes.cast(booth, token, key="one"))
    assert first.status_code == 201
    await end(booth, votes, desk, owner_pool)
    for service in (votes, second_votes):  # the second has never read the survey
        again = await told(partial(service.cast, booth, token, "2", key="one"))
        assert (again.status_code, again.json()["replayed"]) == (201, True)
        assert again.json()["receipt"] == first.json()["receipt"]
        stage = await service.client.get(again.headers["location"], headers={"authorization": f"Bearer {token}"})
        assert (stage.json()["status"], stage.json()["receipt"]) == ("confirmed", first.json()["receipt"])
        for key in ("two", None):
            assert problem(await service.cast(booth, token, key=key)) == (409, "survey_closed")
        stranger = desk.token(booth.survey.id, CELL)
        assert problem(await service.cast(booth, stranger, key="one")) == (409, "survey_closed")
    assert await booth.counts() == ONE


async def test_a_new_vote_that_is_late_starts_no_batch(
    votes: Votes, booth: Booth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    await end(booth, votes, desk, owner_pool)
    owner = await owner_pool(CELL)
    batches = "SELECT count(*) FROM voting.batch WHERE position($1::bytea IN outcomes) > 0"
    closed = bytes([Outcome.SURVEY_CLOSED])
    before = await owner.fetchval(batches, closed)
    tokens = [desk.token(booth.survey.id, CELL) for _ in range(20)]
    late = await asyncio.gather(*(told(partial(votes.cast, booth, token, key="late")) for token in tokens))
    assert {problem(answer) for answer in late} == {(409, "survey_closed")}
    assert await owner.fetchval(batches, closed) == before
    assert (await booth.counts())["participations"] == 0


async def test_while_the_ledger_cannot_be_asked_nobody_hears_that_it_is_over(
    votes: Votes, booth: Booth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    token = desk.token(booth.survey.id, CELL)
    assert (await told(lambda: votes.cast(booth, token, key="one"))).status_code == 201
    await end(booth, votes, desk, owner_pool)
    async with ledger_standing_still(owner_pool):
        refused = await votes.cast(booth, token, key="one")
    assert problem(refused) == (503, "ledger_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    again = await told(lambda: votes.cast(booth, token, key="one"))
    assert (again.status_code, again.json()["replayed"]) == (201, True)


async def test_a_finished_session_is_finished_after_the_end_too(
    votes: Votes, voter: Voter, booth: Booth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    finished, other = [(await voter.answer(question="1", option="1")).json()["surveyAnswer"]["id"] for _ in range(2)]
    first = await told(lambda: voter.finish(finished))
    assert first.status_code == 200
    await end(booth, votes, desk, owner_pool)
    again = await voter.finish(finished)
    assert (again.status_code, again.json()) == (200, first.json())
    for unfinished in (other, "unknown"):
        assert problem(await voter.finish(unfinished)) == (409, "survey_closed")
    assert await booth.counts() == ONE


async def test_a_session_whose_recording_its_voter_never_heard_of_is_finished_after_the_end(
    votes: Votes, voter: Voter, booth: Booth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    session = (await voter.answer(question="1", option="1")).json()["surveyAnswer"]["id"]
    assert (await told(lambda: voter.finish(session))).status_code == 200
    owner = await owner_pool(CELL)
    await owner.execute("UPDATE voting.answer_session SET finished_at = NULL WHERE nullifier = $1", voter.nullifier)
    await end(booth, votes, desk, owner_pool)
    answer = await voter.finish(session)
    assert answer.status_code == 200
    assert answer.json()["finished"] is not None
    assert await booth.counts() == ONE


async def test_the_ledger_itself_tells_a_late_repeat_from_a_late_vote(booth: Booth, owner_pool: OwnerPool) -> None:
    voter, mac = secrets.token_bytes(32), secrets.token_bytes(32)
    now = await booth.pool.fetchval("SELECT now()")
    await booth.ledger.record(await booth.batch(booth.vote(nullifier=voter, key_mac=mac)), now)
    owner = await owner_pool(CELL)
    await owner.execute(
        "UPDATE voting.survey SET finish_at = now(), sealed_at = now() WHERE survey_id = $1", booth.survey.id
    )
    late = await booth.batch(
        booth.vote(nullifier=voter, key_mac=mac),
        booth.vote(nullifier=voter, key_mac=secrets.token_bytes(32)),
        booth.vote(nullifier=voter),
        booth.vote(key_mac=mac),
    )
    recorded = await booth.ledger.record(late, await booth.pool.fetchval("SELECT now()"))
    assert [Outcome(byte) for byte in recorded.outcomes] == [Outcome.REPLAYED, *[Outcome.SURVEY_CLOSED] * 3]
    assert recorded.summaries == ()
    assert await booth.counts() == ONE
