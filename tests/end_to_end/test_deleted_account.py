"""An account deleted over the running services: its token is refused everywhere, its vote stays."""

import time

from domain.account_ends import DeletionStage
from domain.eligibility import VoterStatus
from domain.ids import new_session_id
from domain.sessions import LoginMethod, NewSession, new_refresh_token
from domain.tokens import Assurance, RiskBand
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.postgres.sessions import PostgresSessions
from tests.end_to_end.house import REGION, House, eventually


async def test_a_deleted_account_is_gone_and_its_vote_stays(house: House) -> None:
    survey = await house.open_survey("Cast before the end")
    voter_id, access = await house.voter()
    token = (await house.ask_to_vote(survey.id, access)).json()["votingToken"]
    assert (await house.cast(survey, token)).status_code in {201, 202}
    key, session_id = ProofKey.generate(), new_session_id("eu")
    login = NewSession(session_id, voter_id, key.jkt, LoginMethod.PASSWORD, Assurance.SUBSTANTIAL, RiskBand.LOW)
    await PostgresSessions(house.owners["eu"]).open(login, new_refresh_token("eu"))
    bound = house.access.voter(voter_id, "eu", REGION, jkt=key.jkt, session_id=session_id)

    def headers(method: str, path: str) -> dict[str, str]:
        url = house.supervisor.url("auth") + path
        return {"authorization": f"DPoP {bound}", "dpop": make_proof(key, method, url, time.time(), token=bound)}

    auth = house.clients["auth"]
    begun = await auth.delete("/v1/account", headers=headers("DELETE", "/v1/account"))
    assert begun.status_code == 202, begun.text
    deletion = begun.json()["deletionId"]

    async def completed() -> bool:
        found = (await auth.get(f"/v1/account/deletions/{deletion}")).json()
        return bool(found["stage"] == DeletionStage.COMPLETED and found["sessionsEnded"] == 1)

    await eventually(completed)

    async def refused() -> bool:
        answer = await auth.get("/v1/auth/sessions", headers=headers("GET", "/v1/auth/sessions"))
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
