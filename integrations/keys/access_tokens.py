"""Issues the access tokens of voters and staff, for development and tests until a login stands before it."""

import secrets
import time
from collections.abc import Callable, Sequence

from domain.ports import KeyManagement
from domain.tokens import (
    LIFETIME_S,
    STAFF_ACCESS,
    VOTER_ACCESS,
    Assurance,
    Confirmation,
    RiskBand,
    Role,
    StaffClaims,
    VoterClaims,
)
from integrations.keys.purposes import ACCESS_TOKEN, STAFF_TOKEN
from integrations.keys.signing import Ed25519Signer
from integrations.keys.tokens import TokenIssuer


class AccessTokens:
    """Signs access tokens; `refresh` before first use."""

    def __init__(self, kms: KeyManagement, *, now: Callable[[], float] = time.time) -> None:
        self.signers = (Ed25519Signer(kms, ACCESS_TOKEN), Ed25519Signer(kms, STAFF_TOKEN))
        self._voters = TokenIssuer(self.signers[0], VOTER_ACCESS)
        self._staff = TokenIssuer(self.signers[1], STAFF_ACCESS)
        self._now = now

    async def refresh(self) -> None:
        """Take up the current keys. Raises DomainError `key_unavailable`."""
        for signer in self.signers:
            await signer.refresh()

    def voter(
        self,
        voter_id: str,
        cell: str,
        region: str,
        *,
        jkt: str | None = None,
        device: str = "",
        network: str = "",
        assurance: Assurance = Assurance.SUBSTANTIAL,
        risk: RiskBand = RiskBand.LOW,
    ) -> str:
        """Return a voter's access token; `jkt`, `device` and `network` bind it as `VoterClaims` says."""
        now = int(self._now())
        claims = VoterClaims(
            iss=VOTER_ACCESS.issuer,
            aud=VOTER_ACCESS.audience,
            scope=VOTER_ACCESS.scope,
            iat=now,
            exp=now + LIFETIME_S,
            cnf=None if jkt is None else Confirmation(jkt),
            sub=voter_id,
            jti=secrets.token_urlsafe(12),
            sid=secrets.token_urlsafe(12),
            cell=cell,
            region=region,
            assurance=assurance,
            risk=risk,
            device=device,
            network=network,
        )
        return self._voters.sign(claims)

    def staff(self, staff_id: str, roles: Sequence[Role], *, jkt: str | None = None) -> str:
        """Return a staff member's access token."""
        now = int(self._now())
        claims = StaffClaims(
            iss=STAFF_ACCESS.issuer,
            aud=STAFF_ACCESS.audience,
            scope=STAFF_ACCESS.scope,
            iat=now,
            exp=now + LIFETIME_S,
            cnf=None if jkt is None else Confirmation(jkt),
            sub=staff_id,
            jti=secrets.token_urlsafe(12),
            sid=secrets.token_urlsafe(12),
            roles=tuple(roles),
        )
        return self._staff.sign(claims)
