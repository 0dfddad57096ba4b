"""The ledger stands still for longer than any timeout: nothing that was acknowledged is lost, nothing is unbounded."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from domain.errors import ErrorCode
from integrations.settings import Settings
from tests.api.votes.conftest import CELL, OTHER, Votes, booth_elsewhere, votes_service
from tests.conftest import OwnerPool
from tests.voting_world import Booth, OpenBooth, TokenDesk


@asynccontextmanager
async def ledger_standing_still(owner_pool: OwnerPool, table: str = "participation") -> AsyncIterator[None]:
    owner = await owner_pool(CELL)
    async with owner.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"LOCK TABLE voting.{table} IN ACCESS EXCLUSIVE MODE")
        try:
            yield
        finally:
            await transaction.rollback()


async def test_what_is_accepted_while_the_ledger_is_away_is_confirmed_later_and_the_rest_is_told_to_come_back(
    votes_settings: Settings, booth_of: OpenBooth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    limits = {"vote_queue_max": 50, "vote_start_timeout_s": 1.5, "vote_confirm_timeout_s": 0.3}
    async with votes_service(votes_settings.model_copy(update=limits)) as votes:
        booth = await booth_of()
        warm = desk.token(booth.survey.id, CELL)
        assert (await votes.cast(booth, warm)).status_code in {201, 202}
        tokens = [desk.token(booth.survey.id, CELL) for _ in range(120)]
        async with ledger_standing_still(owner_pool):
            answers = await asyncio.gather(*(votes.cast(booth, token, key="k") for token in tokens))
            found = Counter(answer.status_code for answer in answers)
            assert set(found) == {202, 503}
            refused = [answer for answer in answers if answer.status_code == 503]
            codes = {answer.json()["code"] for answer in refused}
            assert ErrorCode.OVERLOADED in codes
            # Whoever comes after the process has noticed hears why
            assert codes <= {ErrorCode.OVERLOADED, ErrorCode.CELL_UNAVAILABLE}
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
            accepted = [answer for answer in answers if answer.status_code == 202]
            stage = await votes.client.get(
                accepted[0].headers["location"],
                headers={"authorization": f"Bearer {tokens[answers.index(accepted[0])]}"},
            )
            assert stage.json()["status"] == "accepted"
            await asyncio.sleep(5)  # longer than every timeout between the vote and the ledger
        await booth.settled(len(accepted) + 1)
        again = []
        for part in range(0, len(tokens), 40):  # fewer than the queue takes
            again += await asyncio.gather(*(_taken(votes, booth, token) for token in tokens[part : part + 40]))
        assert {answer.status_code for answer in again} <= {201, 202}
        for first, second in zip(answers, again, strict=True):
            if first.status_code == 202 and second.status_code == 201:
                assert second.json()["replayed"] is True
        assert await booth.settled(121) == {"participations": 121, "ballots": 121, "counted": 121}


async def _taken(votes: Votes, booth: Booth, token: str) -> httpx.Response:
    """Cast until the vote is taken: on a busy machine it may wait longer than this service lets it."""
    async with asyncio.timeout(60):
        while (answer := await votes.cast(booth, token, key="k")).status_code == 503:
            await asyncio.sleep(0.2)
    return answer


def loading() -> int:
    return sum("_ask_and_cast" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_votes_of_a_survey_that_cannot_be_read_yet_are_bounded_and_told_soon_to_come_back(
    votes_settings: Settings, booth_of: OpenBooth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    few = {"vote_intake_min": 20, "vote_queue_max": 30}
    async with votes_service(votes_settings.model_copy(update=few)) as votes:
        booth = await booth_of()
        tokens = [desk.token(booth.survey.id, CELL) for _ in range(100)]
        async with ledger_standing_still(owner_pool, "survey"):
            asking = [asyncio.create_task(votes.cast(booth, token, key="k")) for token in tokens]
            most = 0
            async with asyncio.timeout(60):
                while not all(task.done() for task in asking):
                    most = max(most, loading())
                    await asyncio.sleep(0.01)
            answers = [task.result() for task in asking]
        assert 0 < most <= few["vote_queue_max"]
        assert {answer.status_code for answer in answers} == {503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        codes = Counter(answer.json()["code"] for answer in answers)
        assert set(codes) == {ErrorCode.OVERLOADED, ErrorCode.LEDGER_UNAVAILABLE}
        assert (await _taken(votes, booth, tokens[0])).status_code in {201, 202}
        assert (await booth.settled(1))["participations"] == 1


async def stage_of(votes: Votes, cast: httpx.Response, token: str) -> str:
    answer = await votes.client.get(cast.headers["location"], headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["status"])


async def test_reads_and_the_other_cell_go_on_meanwhile(
    votes_settings: Settings, booth_of: OpenBooth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    stuck, other = await booth_of(), await booth_of()
    usual = votes_settings.model_copy(update={"vote_confirm_timeout_s": 1.0})
    async with votes_service(usual) as votes, booth_elsewhere(votes_settings, owner_pool) as elsewhere:
        late, early = desk.token(stuck.survey.id, CELL), desk.token(other.survey.id, CELL)
        far = desk.token(elsewhere.survey.id, OTHER)
        before = await _taken(votes, other, early)
        await other.settled(1)
        async with ledger_standing_still(owner_pool), asyncio.timeout(60):
            waiting = await _taken(votes, stuck, late)
            assert waiting.status_code == 202
            assert await stage_of(votes, waiting, late) == "accepted"
            assert await stage_of(votes, before, early) == "confirmed"
            assert await stage_of(votes, await _taken(votes, elsewhere, far), far) in {"accepted", "confirmed"}
            assert (await elsewhere.settled(1))["counted"] == 1
            for operation in ("/livez", "/readyz"):
                assert (await votes.client.get(operation)).status_code == 200
        assert (await stuck.settled(1))["counted"] == 1
