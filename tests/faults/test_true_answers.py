"""What a voter is told is a fact by then, as somebody else sees it who shares nothing with the service."""

import asyncio
from datetime import UTC, datetime, timedelta

from tests.end_to_end.house import House, eventually, nullifier_of

VOTERS = 150
AT_ONCE = 24


async def test_whoever_is_told_confirmed_is_in_the_ledger(house: House) -> None:
    survey = await house.open_survey()
    gate = asyncio.Semaphore(AT_ONCE)

    async def vote_and_look(number: int) -> tuple[int, bool]:
        cell = ("eu", "us")[number % 2]
        token = house.token(survey, cell)
        async with gate:
            answer = await house.cast(survey, token)
            found = await house.owners[cell].fetchval(
                "SELECT count(*) FROM voting.participation WHERE survey_id = $1 AND nullifier = $2",
                survey.id,
                nullifier_of(token),
            )
        return answer.status_code, found == 1

    seen = await asyncio.gather(*(vote_and_look(number) for number in range(VOTERS)))

    confirmed = [found for status, found in seen if status == 201]
    assert {status for status, _ in seen} <= {201, 202}
    assert len(confirmed) > VOTERS // 2
    assert all(confirmed)


async def test_whoever_is_told_accepted_is_in_temporal(house: House) -> None:
    survey = await house.open_survey()
    tokens = [house.token(survey) for _ in range(20)]

    async def vote_and_look(token: str) -> str | None:
        answer = await house.cast(survey, token)
        assert answer.status_code in {202, 503}, answer.text
        if answer.status_code == 503:
            return None
        assert answer.headers["location"] == f"/v1/submissions/{answer.json()['submissionId']}"
        found = await house.execution(answer.json()["submissionId"], "eu").describe()
        assert found.start_time <= datetime.now(UTC)
        return found.workflow_type

    async with house.locked_ledger(survey, "eu"):
        seen = await asyncio.gather(*(vote_and_look(token) for token in tokens))
        assert await house.participations(survey) == set()

    accepted = [token for token, found in zip(tokens, seen, strict=True) if found == "SubmitVotes"]
    assert accepted

    async def recorded() -> bool:
        return {nullifier_of(token) for token in accepted} <= await house.participations(survey)

    await eventually(recorded, what="every accepted vote in the ledger")


async def test_a_vote_that_was_accepted_before_the_end_counts_after_it(house: House) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=8)
    survey = await house.open_survey("Soon over", finishDate=end.strftime("%Y-%m-%dT%H:%M:%SZ"))
    early, late = house.token(survey), house.token(survey)
    async with house.locked_ledger(survey, "eu"):
        assert (await house.cast(survey, early)).status_code == 202

        async def over() -> bool:
            return datetime.now(UTC) > end

        await eventually(over, what="the end of the survey")
        assert await house.participations(survey) == set()

    async def recorded() -> bool:
        return await house.participations(survey) == {nullifier_of(early)}

    await eventually(recorded, what="the vote that was in time")
    assert (await house.cast(survey, late)).json()["code"] == "survey_closed"
    assert await house.counts(survey) == (1, 1, 1)
