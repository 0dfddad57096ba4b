"""More votes than a cell can take: the rest is refused at once, and nobody else pays for it."""

import asyncio
import secrets
from collections import Counter

import httpx

from integrations.settings import Settings
from tests.api.votes.conftest import CELL, OTHER, Votes, booth_elsewhere, votes_service
from tests.api.votes.test_outages import ledger_standing_still
from tests.conftest import OwnerPool
from tests.voting_world import Booth, OpenBooth, TokenDesk

FEW = {"vote_queue_max": 60, "vote_intake_min": 40, "vote_start_timeout_s": 20.0, "vote_confirm_timeout_s": 1.0}


async def cast_until_taken(votes: Votes, booth: Booth, token: str) -> httpx.Response:
    async with asyncio.timeout(60):
        while (answer := await votes.cast(booth, token, key="k")).status_code == 503:
            await asyncio.sleep(0.1)
    return answer


async def refused_soon(tasks: list[asyncio.Task[httpx.Response]], *, at_least: int) -> bool:
    """Wait until so many were refused, while the others go on waiting."""
    async with asyncio.timeout(15):
        while sum(1 for task in tasks if task.done() and task.result().status_code == 503) < at_least:
            await asyncio.sleep(0.05)
    return True


async def counted(votes: Votes) -> Counter[str]:
    """Return what the process says of votes: answers on their route, requests, and errors by code."""
    found: Counter[str] = Counter()
    for line in (await votes.client.get("/metrics")).text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("http_requests_total") and 'route="/v1/surveys/{id}/vote"' in name:
            found["answers"] += int(float(value))
        elif name.startswith(("vote_requests_total", 'vote_errors_total{code="overloaded"}')):
            found[name] = int(float(value))
    return found


async def test_a_cell_whose_database_stands_still_costs_the_other_nothing(
    votes_settings: Settings, booth_of: OpenBooth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    async with (
        votes_service(votes_settings.model_copy(update=FEW)) as votes,
        booth_elsewhere(votes_settings, owner_pool) as elsewhere,
    ):
        booth = await booth_of()
        for each, cell in ((booth, CELL), (elsewhere, OTHER)):
            warm = desk.token(each.survey.id, cell)
            assert (await cast_until_taken(votes, each, warm)).status_code in {201, 202}
        async with ledger_standing_still(owner_pool):
            stuck = [
                asyncio.create_task(votes.cast(booth, desk.token(booth.survey.id, CELL), key="k")) for _ in range(80)
            ]
            assert await refused_soon(stuck, at_least=80 - int(FEW["vote_queue_max"]))
            tokens = [desk.token(elsewhere.survey.id, OTHER) for _ in range(30)]
            answers = await asyncio.gather(*(votes.cast(elsewhere, token, key="k") for token in tokens))
            assert {answer.status_code for answer in answers} <= {201, 202}
            assert (await elsewhere.settled(31))["counted"] == 31
            # Reads of the other cell go on as well
            stage = await votes.client.get(
                answers[0].headers["location"], headers={"authorization": f"Bearer {tokens[0]}"}
            )
            assert stage.json()["status"] in {"accepted", "confirmed"}
        found = Counter(answer.status_code for answer in await asyncio.gather(*stuck))
        assert set(found) <= {201, 202, 503}
        taken = found[201] + found[202]
        assert await booth.settled(1 + taken) == dict.fromkeys(("participations", "ballots", "counted"), 1 + taken)


async def test_a_hot_survey_leaves_a_cold_one_its_share_while_the_cell_is_full(
    votes_settings: Settings, booth_of: OpenBooth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    async with votes_service(votes_settings.model_copy(update=FEW)) as votes:
        hot, cold = await booth_of(), await booth_of()
        for booth in (hot, cold):
            await cast_until_taken(votes, booth, desk.token(booth.survey.id, CELL))
        async with ledger_standing_still(owner_pool):
            crowd = [asyncio.create_task(votes.cast(hot, desk.token(hot.survey.id, CELL))) for _ in range(80)]
            assert await refused_soon(crowd, at_least=80 - int(FEW["vote_queue_max"]))
            few = [asyncio.create_task(votes.cast(cold, desk.token(cold.survey.id, CELL))) for _ in range(10)]
            await asyncio.sleep(1)
            assert not any(task.done() and task.result().status_code == 503 for task in few)
        assert {answer.status_code for answer in await asyncio.gather(*few)} <= {201, 202}
        refused = [answer for answer in await asyncio.gather(*crowd) if answer.status_code == 503]
        assert refused
        async with asyncio.timeout(15):  # whoever was turned away unread is counted within a moment
            while (found := await counted(votes))["vote_requests_total"] != found["answers"]:
                await asyncio.sleep(0.05)
        assert found['vote_errors_total{code="overloaded"}'] >= len(refused)
        assert (await cold.settled(11))["counted"] == 11


async def test_a_vote_whose_caller_waits_no_longer_is_never_recorded(
    votes_settings: Settings, booth_of: OpenBooth, desk: TokenDesk, owner_pool: OwnerPool
) -> None:
    async with votes_service(votes_settings) as votes:
        booth = await booth_of()
        await cast_until_taken(votes, booth, desk.token(booth.survey.id, CELL))
        nullifier = secrets.token_bytes(32)
        token = desk.token(booth.survey.id, CELL, nullifier=nullifier)
        body = {"answers": [{"question": "1", "options": ["1"], "text": ""}]}
        path, headers = f"/v1/surveys/{booth.survey.id}/vote", {"authorization": f"Bearer {token}"}
        async with ledger_standing_still(owner_pool):
            first = asyncio.create_task(votes.cast(booth, desk.token(booth.survey.id, CELL)))
            await asyncio.sleep(0.5)  # it is in a batch, and the next ones wait
            late = await votes.client.post(path, json=body, headers=headers | {"request-timeout": "0m"})
            assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
            hasty = asyncio.create_task(
                votes.client.post(path, json=body, headers=headers | {"request-timeout": "300m"})
            )
            await asyncio.sleep(1)
        assert (await first).status_code in {201, 202}
        assert ((await hasty).status_code, (await hasty).json()["code"]) == (504, "deadline_exceeded")
        assert (await booth.settled(2))["participations"] == 2
        assert (await cast_until_taken(votes, booth, token)).json()["status"] in {"confirmed", "accepted"}
        assert (await booth.settled(3))["participations"] == 3
