"""A voting token that is bound to a key: every address of the service asks for its proof, for that request alone."""

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from integrations.keys.dpop import AGE_MAX_S
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.settings import Settings
from tests.api.votes.conftest import CELL, Votes
from tests.api.votes.test_casting import problem
from tests.voting_world import Booth, TokenDesk

CHOICE = {"question": "1", "option": "1", "text": ""}
BALLOT = {"answers": [{"question": "1", "options": ["1"], "text": ""}]}
ADDRESSES = ("vote", "vote in survey", "answer", "finish", "submission")


@dataclass
class Device:
    """One voter's token and the key that it is bound to."""

    votes: Votes
    base: str  # how clients reach the service
    token: str
    key: ProofKey

    def proof(self, method: str, path: str, body: bytes, *, age_s: float = 0, key: ProofKey | None = None) -> str:
        """Return a proof for one request."""
        made_at = time.time() - age_s
        return make_proof(key or self.key, method, self.base + path, made_at, token=self.token, body=body)

    async def send(
        self, method: str, path: str, body: bytes = b"", proof: str | None = None, scheme: str = "DPoP"
    ) -> httpx.Response:
        """Send a request with this proof."""
        headers = {"authorization": f"{scheme} {self.token}", "content-type": "application/json"}
        if proof is not None:
            headers["dpop"] = proof
        return await self.votes.client.request(method, path, content=body, headers=headers)

    async def ask(self, method: str, path: str, body: bytes = b"") -> httpx.Response:
        """Send a request as it should be."""
        return await self.send(method, path, body, self.proof(method, path, body))


@pytest.fixture(params=["EdDSA", "ES256"])
def device(
    votes: Votes, booth: Booth, desk: TokenDesk, votes_settings: Settings, request: pytest.FixtureRequest
) -> Device:
    key = ProofKey.generate(algorithm=request.param)
    token = desk.token(booth.survey.id, CELL, jkt=key.jkt)
    return Device(votes, votes_settings.public_url, token, key)


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


async def request_of(address: str, device: Device, booth: Booth) -> tuple[str, str, bytes]:
    """Return method, path and body of a request; what it needs before it is there."""
    survey = f"/v1/surveys/{booth.survey.id}"
    match address:
        case "vote":
            return "POST", "/vote", encoded(BALLOT)
        case "vote in survey":
            return "POST", f"{survey}/vote", encoded(BALLOT)
        case "answer":
            return "POST", f"{survey}/answers", encoded(CHOICE)
        case "finish":
            opened = await device.ask("POST", f"{survey}/answers", encoded(CHOICE))
            return "PUT", f"{survey}/answers/{opened.json()['surveyAnswer']['id']}/finish", b""
        case _:
            return "GET", "/v1/submissions/none", b""


@pytest.mark.parametrize("address", ADDRESSES)
async def test_every_address_takes_a_bound_token_with_a_proof_for_that_request_alone(
    device: Device, booth: Booth, address: str
) -> None:
    method, path, body = await request_of(address, device, booth)
    for scheme, proof, sent in wrong_ways(device, method, path, body):
        refused = await device.send(method, path, sent, proof, scheme)
        assert problem(refused) == (401, "proof_invalid"), (scheme, proof)
        assert "DPoP" in refused.headers["www-authenticate"]
    assert (await booth.counts())["participations"] == 0

    good = device.proof(method, path, body)
    taken = await device.send(method, path, body, good)
    if address == "submission":
        assert problem(taken) == (404, "submission_not_found")
    else:
        assert taken.status_code in {200, 201, 202}, taken.text
    assert problem(await device.send(method, path, body, good)) == (401, "proof_invalid")  # used before
    votes = 0 if address in {"answer", "submission"} else 1
    assert (await booth.settled(votes))["participations"] == votes


@pytest.mark.parametrize("address", ADDRESSES)
async def test_another_process_refuses_a_used_proof_and_answers_a_repeated_vote_alike(
    device: Device, booth: Booth, second_votes: Votes, address: str
) -> None:
    method, path, body = await request_of(address, device, booth)
    good = device.proof(method, path, body)
    first = await device.send(method, path, body, good)
    await booth.settled(0 if address in {"answer", "submission"} else 1)
    device.votes = second_votes
    again = await device.send(method, path, body, good)
    if address in {"answer", "submission"}:
        assert problem(again) == (401, "proof_invalid")
        return
    if address == "finish":
        assert again.json()["id"] == first.json()["id"]
    else:  # without a key of its own
        assert problem(again) == (409, "already_voted")
    assert await booth.counts() == {"participations": 1, "ballots": 1, "counted": 1}


def wrong_ways(device: Device, method: str, path: str, body: bytes) -> list[tuple[str, str | None, bytes]]:
    """Return scheme, proof and body of what must not pass."""
    other = body.replace(b'"1"', b'"2"') or b"{}"  # as well-formed, so that it is the proof which refuses it
    return [
        ("DPoP", None, body),
        ("Bearer", None, body),
        ("Bearer", device.proof(method, path, body), body),
        ("DPoP", device.proof(method, path, body, key=ProofKey.generate()), body),
        ("DPoP", device.proof(method, path, body), other),
        ("DPoP", device.proof("PATCH", path, body), body),
        ("DPoP", device.proof(method, path + "x", body), body),
        ("DPoP", device.proof(method, path, body, age_s=AGE_MAX_S + 5), body),
    ]


async def test_an_unbound_token_is_not_sent_as_bound(device: Device, booth: Booth, desk: TokenDesk) -> None:
    device.token = desk.token(booth.survey.id, CELL)
    for path, body in (("/vote", BALLOT), (f"/v1/surveys/{booth.survey.id}/answers", CHOICE)):
        assert problem(await device.ask("POST", path, encoded(body))) == (401, "token_invalid")


async def test_a_bound_token_votes_and_reads_what_became_of_it(device: Device, booth: Booth) -> None:
    cast = await device.ask("POST", "/vote", encoded(BALLOT))
    await booth.settled(1)
    stage = await device.ask("GET", cast.headers["location"])
    assert stage.json()["status"] == "confirmed"
    assert await booth.counts() == {"participations": 1, "ballots": 1, "counted": 1}
