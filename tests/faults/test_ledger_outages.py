"""PostgreSQL away for longer than any timeout: what was accepted is confirmed, and the other cell goes on."""

import asyncio

from tests.end_to_end.house import House, OpenSurvey, eventually
from tests.faults.load import Load

VOTERS = 60


async def outlasted(house: House, load: Load, cell: str) -> bool:
    """Tell whether every accepted batch is at a later attempt of its regular, patient activity already."""
    for submission in {load.answers[token].json()["submissionId"][:32] for token in load.accepted}:
        execution = house.execution(submission, cell)
        pending = (await execution.describe()).raw_description.pending_activities
        if not any(activity.attempt > 1 for activity in pending):
            return False
    return True


async def vote_until_accepted(house: House, survey: OpenSurvey) -> Load:
    """Cast votes of one cell while its ledger is away: some are accepted, the rest is told to come back."""
    load = Load.of(house, survey, VOTERS)
    await load.run()
    assert load.accepted, load.statuses()
    assert set(load.statuses()) <= {202, 503}
    for answer in load.answers.values():
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["code"] in {"overloaded", "outcome_unknown", "cell_unavailable"}
    return load


async def test_a_cell_without_its_ledger_confirms_later_what_it_accepts_now(house: House) -> None:
    survey = await house.open_survey()
    warm = [await house.cast(survey, house.token(survey, cell)) for cell in ("eu", "us")]
    assert [answer.status_code for answer in warm] == [201, 201]

    (_, eu_access), (_, us_access) = await house.voter("eu"), await house.voter("us")
    async with house.cell_cut_off("eu"):
        load, elsewhere = await asyncio.gather(
            vote_until_accepted(house, survey), _vote(house, survey, cell="us", votes=20)
        )
        assert elsewhere == {201: 20}  # the other cell takes no notice
        await eventually(lambda: outlasted(house, load, "eu"), what="attempts beyond the first timeout")
        away, here = await house.ask_to_vote(survey.id, eu_access), await house.ask_to_vote(survey.id, us_access)
        assert (away.status_code, away.json()["code"]) == (503, "directory_unavailable")
        assert int(away.headers["retry-after"]) >= 1
        assert here.status_code == 201, here.text
        assert (await house.results(survey))["totalResponses"] >= 2
        assert await _vote(house, survey, cell="us", votes=5) == {201: 5}

    await load.confirmed()
    await load.insist()
    await house.settled(survey, VOTERS + 27)


async def test_a_server_that_hangs_loses_nothing_that_was_accepted(house: House) -> None:
    survey = await house.open_survey()
    load = Load.of(house, survey, VOTERS, ("eu", "us"))
    await load.run(load.tokens[:2])
    assert load.statuses() == {201: 2}

    with house.frozen("postgres"):
        await load.run(load.tokens[2:])
        assert load.statuses().get(201) == 2  # nobody is told that it is recorded
        assert set(load.statuses()) <= {201, 202, 503}, load.statuses()
        assert load.accepted
        eu = Load(house, survey, load.tokens[0::2], {t: a for t, a in load.answers.items() if t in load.tokens[0::2]})
        await eventually(lambda: outlasted(house, eu, "eu"), what="attempts beyond the first timeout")

    await load.confirmed()
    await load.insist()
    await house.settled(survey, VOTERS)


async def _vote(house: House, survey: OpenSurvey, *, cell: str, votes: int) -> dict[int, int]:
    load = Load.of(house, survey, votes, [cell])
    await load.run()
    return load.statuses()


async def test_processes_that_start_while_a_cell_is_away_serve_the_other_one(house: House) -> None:
    survey = await house.open_survey()
    (_, eu_access), (_, us_access) = await house.voter("eu"), await house.voter("us")
    restarted = ("workers-voting", "workers-tally", "api-eligibility", "api-votes")
    async with house.cell_cut_off("eu"):
        await asyncio.gather(*(house.supervisor.processes[name].kill() for name in restarted))
        await house.supervisor.start("workers-voting")  # before whoever starts eagerly on its queue
        await house.supervisor.processes["workers-tally"].start()  # ready when it has every cell
        await asyncio.gather(*(house.supervisor.start(name) for name in ("api-eligibility", "api-votes")))

        refused = await house.ask_to_vote(survey.id, eu_access)
        assert (refused.status_code, refused.json()["code"]) == (503, "directory_unavailable")
        not_taken = await house.cast(survey, house.token(survey, "eu"))
        assert not_taken.status_code == 503, not_taken.text
        assert int(not_taken.headers["retry-after"]) >= 1
        admitted = await house.ask_to_vote(survey.id, us_access)
        assert admitted.status_code == 201, admitted.text
        assert (await house.cast(survey, admitted.json()["votingToken"])).status_code == 201

        async def counted() -> bool:
            return bool((await house.results(survey))["totalResponses"] == 1)

        await eventually(counted, what="the other cell's vote in the results")

    await house.supervisor.ready("workers-tally")

    async def taken() -> bool:
        answer = await house.ask_to_vote(survey.id, eu_access)
        if answer.status_code != 201:
            return False
        return (await house.cast(survey, answer.json()["votingToken"], key="once")).status_code == 201

    await eventually(taken, what="votes of the cell that is back")
    await house.settled(survey, 2)
