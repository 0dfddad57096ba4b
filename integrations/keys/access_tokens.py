"""Issues access tokens: of voters for their sessions, and of anybody for development and tests."""

import secrets
import time
from collections.abc import Callable, Sequence

from domain.ids import cell_of_voter
from domain.ports import KeyManagement
from domain.sessions import Session
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


class VoterTokens:
    """Signs the access tokens of voters; the signer is refreshed before first use."""

    def __init__(self, signer: Ed25519Signer, *, now: Callable[[], float] = time.time) -> None:
        self.signer = signer
        self._issuer = TokenIssuer(signer, VOTER_ACCESS)
        self._now = now

    def of_session(self, session: Session) -> str:
        """Return an access token of an open session, bound to its client's key."""
        return self.issue(
            session.voter_id,
            cell_of_voter(session.voter_id) or "",
            session.region,
            session_id=session.session_id,
            jkt=session.jkt,
            device=session.device,
            network=session.network,
            assurance=session.assurance,
            risk=session.risk,
        )

    def issue(
        self,
        voter_id: str,
        cell: str,
        region: str,
        *,
        session_id: str,
        jkt: str | None,
        device: str,
        network: str,
        assurance: Assurance,
        risk: RiskBand,
    ) -> str:
        """Return an access token; `jkt`, `device` and `network` bind it as `VoterClaims` says."""
        now = int(self._now())
        return self._issuer.sign(
            VoterClaims(
                iss=VOTER_ACCESS.issuer,
                aud=VOTER_ACCESS.audience,
                scope=VOTER_ACCESS.scope,
                iat=now,
                exp=now + LIFETIME_S,
                cnf=None if jkt is None else Confirmation(jkt),
                sub=voter_id,
                jti=secrets.token_urlsafe(12),
                sid=session_id,
                cell=cell,
                region=region,
                assurance=assurance,
                risk=risk,
                device=device,
                network=network,
            )
        )


class AccessTokens:
    """Signs access tokens without a login, for development and tests; `refresh` before first use."""

    def __init__(self, kms: KeyManagement, *, now: Callable[[], float] = time.time) -> None:
        self.signers = (Ed25519Signer(kms, ACCESS_TOKEN), Ed25519Signer(kms, STAFF_TOKEN))
        self._voters = VoterTokens(self.signers[0], now=now)
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
        session_id: str = "",
    ) -> str:
        """Return a voter's access token; `jkt`, `device` and `network` bind it as `VoterClaims` says."""
        return self._voters.issue(
            voter_id,
            cell,
            region,
            session_id=session_id or secrets.token_urlsafe(12),
            jkt=jkt,
            device=device,
            network=network,
            assurance=assurance,
            risk=risk,
        )

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
