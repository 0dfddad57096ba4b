"""What admission gives: nullifier, evidence, and the voting token that carries both and names nobody."""

from dataclasses import dataclass
from datetime import UTC, datetime

from domain.eligibility import Electorate, evidence_message, nullifier
from domain.pseudonyms import pseudonym
from domain.tokens import LIFETIME_S, VOTING, Confirmation, VotingWire
from integrations.keys import base64url
from integrations.keys.signing import Signer
from integrations.keys.tokens import TokenIssuer


@dataclass(frozen=True, slots=True)
class VotingToken:
    """A voting token and when it expires."""

    token: str
    expires_at: datetime


class VotingTokens:
    """Issues voting tokens."""

    def __init__(self, tokens: Signer, evidence: Signer, pseudonym_key: bytes) -> None:
        self._issuer = TokenIssuer(tokens, VOTING)
        self._evidence = evidence
        self._pseudonym_key = pseudonym_key

    def issue(
        self,
        electorate: Electorate,
        person_id: str,
        cell: str,
        region: str,
        *,
        device: str,
        jkt: str | None,
        now: float,
    ) -> VotingToken:
        """Return a token for an admitted person; asked again, it carries the same nullifier and evidence.

        `device` is the digest of the device's id or empty: the token has a pseudonym of it that holds for this survey
        only. `jkt` is the thumbprint of the key that the access token is bound to.
        """
        survey_id = electorate.survey_id
        mark = nullifier(electorate.eligibility_key, person_id)
        issued_at = int(now)
        device_pseudonym = pseudonym(self._pseudonym_key, "device", device, survey_id) if device else b""
        claims = VotingWire(
            iss=VOTING.issuer,
            aud=VOTING.audience,
            scope=VOTING.scope,
            iat=issued_at,
            exp=issued_at + LIFETIME_S,
            cnf=None if jkt is None else Confirmation(jkt),
            survey=survey_id,
            nullifier=base64url.encode_text(mark),
            cell=cell,
            region=region,
            evidence=base64url.encode_text(self._evidence.sign(evidence_message(survey_id, mark, cell, region))),
            device=base64url.encode_text(device_pseudonym),
        )
        return VotingToken(self._issuer.sign(claims), datetime.fromtimestamp(issued_at + LIFETIME_S, UTC))
