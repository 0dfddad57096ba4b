"""An account deleted over the running services: its token is refused everywhere, its vote stays."""

from domain.account_ends import DeletionStage
from domain.eligibility import VoterStatus
from tests.end_to_end.account_owner import AccountOwner
from tests.end_to_end.house import House, eventually


async def test_a_deleted_account_is_gone_and_its_vote_stays(house: House) -> None:
    survey = await house.open_survey("Cast before the end")
    voter_id, access = await house.voter()
    token = (await house.ask_to_vote(survey.id, access)).json()["votingToken"]
    assert (await house.cast(survey, token)).status_code in {201, 202}
    owner = await AccountOwner.logged_in(house, voter_id)
    deletion = await owner.delete_account()

    async def completed() -> bool:
        found = (await house.clients["auth"].get(f"/v1/account/deletions/{deletion}")).json()
        return bool(found["stage"] == DeletionStage.COMPLETED and found["sessionsEnded"] == 1)

    await eventually(completed)

    async def refused() -> bool:
        answer = await owner.ask("GET", "/v1/auth/sessions")
        return (answer.status_code, answer.json().get("code")) == (401, "session_revoked")

    await eventually(refused)
    row = await house.owners["eu"].fetchrow(
        "SELECT status, person_id FROM identity.voter WHERE voter_id = $1", voter_id
    )
    assert row is not None
    assert row["status"] == VoterStatus.CLOSED
    assert row["person_id"] is not None
    late = await house.ask_to_vote(survey.id, access)  # a token of another session, not expired yet
    assert (late.status_code, late.json()["code"]) == (403, "voter_not_active")
    await house.settled(survey, 1)
    assert await house.counts(survey) == (1, 1, 1)
