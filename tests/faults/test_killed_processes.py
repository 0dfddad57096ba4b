"""Kills that meet at the worst moment: what Temporal alone has, and what nobody is left to answer for."""

import asyncio

from tests.end_to_end.house import House, nullifier_of
from tests.faults.load import Load

VOTERS = 300
API, WORKER = "api-votes", "workers-voting"


async def test_both_killed_one_after_the_other_lose_nothing_that_was_accepted(house: House) -> None:
    survey = await house.open_survey()
    load = Load.of(house, survey, 40)
    async with house.locked_ledger(survey, "eu"):
        voting = asyncio.create_task(load.run())
        await load.acknowledge(1)  # 202: nothing can be recorded
        await house.supervisor.processes[API].kill()
        await voting
        await house.supervisor.processes[WORKER].kill()
        accepted = load.accepted
        assert accepted
        assert len(accepted) == len(load.acknowledged)
        assert await house.participations(survey) == set()

    await house.supervisor.start(WORKER)
    await load.confirmed()  # by the worker alone, from what Temporal kept
    assert {nullifier_of(token) for token in accepted} <= await house.participations(survey)

    await house.supervisor.start(API)
    token = accepted[0]
    submission = load.answers[token].json()["submissionId"]
    told = await house.clients["votes"].get(
        f"/v1/submissions/{submission}", headers={"authorization": f"Bearer {token}"}
    )
    assert (told.status_code, told.json()["status"]) == (200, "confirmed"), told.text
    await load.insist()
    await house.settled(survey, len(load.tokens))


async def test_a_process_that_dies_again_and_again_records_each_vote_once(house: House) -> None:
    survey = await house.open_survey()
    load = Load.of(house, survey, VOTERS // 2, ("eu", "us"))
    for part in range(1, 3):
        voting = asyncio.create_task(load.run(set(load.tokens).difference(load.acknowledged)))
        await load.acknowledge(part * VOTERS // 8)
        await house.supervisor.processes[API].kill()
        await voting
        await house.supervisor.start(API)

    await load.insist()
    await load.confirmed()
    await house.settled(survey, VOTERS // 2)


async def test_an_orderly_stop_leaves_nobody_recorded_without_an_answer(house: House) -> None:
    survey = await house.open_survey()
    load = Load.of(house, survey, VOTERS // 2, ("eu", "us"))
    voting = asyncio.create_task(load.run())
    await load.acknowledge(VOTERS // 8)

    await house.supervisor.processes[API].stop()
    await voting

    answered = {nullifier_of(token) for token in load.acknowledged}
    assert load.interrupted  # those who came when it was gone
    assert await house.participations(survey) <= answered
    await house.supervisor.start(API)
    await load.insist()
    await load.confirmed()
    await house.settled(survey, VOTERS // 2)


async def test_what_only_temporal_has_survives_a_crash_of_temporal(house: House) -> None:
    survey = await house.open_survey()
    load = Load.of(house, survey, 20)
    async with house.locked_ledger(survey, "eu"):
        voting = asyncio.create_task(load.run())
        await load.acknowledge(1)
        await house.servers.processes["temporal"].kill()
        await voting
        accepted = load.accepted
        assert accepted
        assert await house.participations(survey) == set()
        await house.servers.start("temporal")

    await load.confirmed()
    assert accepted == [token for token in accepted if token in load.acknowledged]
    await load.insist()
    await house.settled(survey, 20)
