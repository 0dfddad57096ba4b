"""Somebody who is logged in, by a session that is bound to a key of theirs."""

import time
from dataclasses import dataclass

import httpx

from domain.ids import new_session_id
from domain.sessions import LoginMethod, NewSession, new_refresh_token
from domain.tokens import Assurance, RiskBand
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.postgres.sessions import PostgresSessions
from tests.end_to_end.house import REGION, House


@dataclass
class AccountOwner:
    """Asks `api auth` as its clients do."""

    house: House
    voter_id: str
    token: str
    key: ProofKey

    @classmethod
    async def logged_in(cls, house: House, voter_id: str, cell: str = "eu") -> "AccountOwner":
        """Open a session of this voter."""
        key, session_id = ProofKey.generate(), new_session_id(cell)
        login = NewSession(session_id, voter_id, key.jkt, LoginMethod.PASSWORD, Assurance.SUBSTANTIAL, RiskBand.LOW)
        await PostgresSessions(house.owners[cell]).open(login, new_refresh_token(cell))
        token = house.access.voter(voter_id, cell, REGION, jkt=key.jkt, session_id=session_id)
        return cls(house, voter_id, token, key)

    async def ask(self, method: str, path: str) -> httpx.Response:
        """Send a request with a proof of its own."""
        url = self.house.supervisor.url("auth") + path
        proof = make_proof(self.key, method, url, time.time(), token=self.token)
        headers = {"authorization": f"DPoP {self.token}", "dpop": proof}
        return await self.house.clients["auth"].request(method, path, headers=headers)

    async def delete_account(self) -> str:
        """Ask for the end of the account; return the deletion's id."""
        begun = await self.ask("DELETE", "/v1/account")
        assert begun.status_code == 202, begun.text
        return str(begun.json()["deletionId"])
