"""One vote through everything, as a voter and as everyone who watches."""

from tests.end_to_end.house import House, eventually


async def test_a_vote_goes_through_every_process(house: House) -> None:
    survey = await house.open_survey()
    voters = []
    for cell in ("eu", "us"):
        _, access = await house.voter(cell)
        admitted = await house.ask_to_vote(survey.id, access)
        assert admitted.status_code == 201, admitted.text
        voters.append(admitted.json()["votingToken"])

    async def confirmed() -> bool:  # a platform that has just started on a busy machine accepts, and confirms later
        answers = [await house.cast(survey, token, survey.ballot(n), key="once") for n, token in enumerate(voters)]
        assert {answer.status_code for answer in answers} <= {201, 202}, [answer.text for answer in answers]
        return all(answer.status_code == 201 for answer in answers)

    await eventually(confirmed, what="two votes confirmed")
    await house.settled(survey, 2)
    results = await house.results(survey)
    assert [option["votes"] for option in results["questions"][0]["options"]] == [1, 1, 0]
    assert results["missingCells"] == []
