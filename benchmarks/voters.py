"""Voters who hold their voting tokens when the clock starts: whole requests, signed and encoded beforehand."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from domain.eligibility import evidence_message
from domain.ports import KeyManagement
from domain.tokens import LIFETIME_S, VOTING, Confirmation, VotingWire
from integrations.keys import base64url
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.keys.purposes import EVIDENCE, VOTING_TOKEN
from integrations.keys.signing import Ed25519Signer
from integrations.keys.tokens import TokenIssuer

CHOICE = "2"
BODY = b'{"answers":[{"question":"1","options":["2"],"text":""}]}'
REGIONS = ("ward-1", "ward-2", "ward-3", "ward-4")
_DEVICES = 256  # keys of bound tokens: making one costs as much as using it


@dataclass(frozen=True, slots=True)
class Polling:
    """Where votes of one survey go. `url` is how the clients see the service, without a path."""

    cell: str
    survey_id: str
    url: str

    @property
    def path(self) -> str:
        """The vote route."""
        return f"/v1/surveys/{self.survey_id}/vote"


class Voters:
    """Signs voting tokens as admission does, with the issuer's own keys; `open` before first use."""

    def __init__(self, kms: KeyManagement) -> None:
        self._signer = Ed25519Signer(kms, VOTING_TOKEN)
        self._evidence = Ed25519Signer(kms, EVIDENCE)
        self._tokens = TokenIssuer(self._signer, VOTING)
        self._devices = [ProofKey.generate() for _ in range(_DEVICES)]

    async def open(self) -> None:
        """Take up the current keys. Raises DomainError `key_unavailable`."""
        await self._signer.refresh()
        await self._evidence.refresh()

    @property
    def key_id(self) -> str:
        """The id of the key that signs the tokens."""
        return self._signer.key_id

    def requests(self, polling: Polling, count: int, *, bound: bool = False) -> Iterator[bytes]:
        """Yield the vote requests of `count` different people, each with an idempotency key of its own.

        Proofs are good for a minute from when they are made.
        """
        host = polling.url.removeprefix("http://")
        head = f"POST {polling.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(BODY)}\r\n"
        for number in range(count):
            device = self._devices[number % _DEVICES] if bound else None
            token = self._token(polling, REGIONS[number % len(REGIONS)], device)
            proof = ""
            if device is not None:
                proof = make_proof(device, "POST", polling.url + polling.path, time.time(), token=token, body=BODY)
                proof = f"DPoP: {proof}\r\n"
            scheme = "DPoP" if bound else "Bearer"
            lines = f"Authorization: {scheme} {token}\r\n{proof}Idempotency-Key: {secrets.token_urlsafe(16)}\r\n\r\n"
            yield (head + lines).encode("ascii") + BODY

    def _token(self, polling: Polling, region: str, device: ProofKey | None) -> str:
        now = int(time.time())
        nullifier = secrets.token_bytes(32)
        evidence = self._evidence.sign(evidence_message(polling.survey_id, nullifier, polling.cell, region))
        claims = VotingWire(
            iss=VOTING.issuer,
            aud=VOTING.audience,
            scope=VOTING.scope,
            iat=now,
            exp=now + LIFETIME_S,
            cnf=None if device is None else Confirmation(device.jkt),
            survey=polling.survey_id,
            nullifier=base64url.encode_text(nullifier),
            cell=polling.cell,
            region=region,
            evidence=base64url.encode_text(evidence),
        )
        return self._tokens.sign(claims)
