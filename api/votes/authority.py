"""Who may vote here: the voting token and, where it is bound, the proof of its key."""

import time
from collections.abc import Iterable
from typing import Protocol

from api.http.authorization import Proofs, SignedRequest, credentials
from api.http.limits import FailureLimits, LimitedRequest
from api.http.used_proofs import UsedProofs
from domain.errors import DomainError, ErrorCode
from domain.tokens import VotingClaims
from integrations.keys.tokens import VotingTokenVerifier
from integrations.telemetry.metrics import AuthMetrics


class VotingRequest(SignedRequest, LimitedRequest, Protocol):
    """A request with a voting token."""


class VotingAuthority:
    """Checks voting tokens and their proofs."""

    def __init__(
        self,
        tokens: VotingTokenVerifier,
        *,
        proofs: Proofs,
        used: UsedProofs,
        cells: Iterable[str],
        failures: FailureLimits,
        metrics: AuthMetrics,
    ) -> None:
        """Admit to the given cells, and count what is not admitted."""
        self._cells = frozenset(cells)
        self._tokens = tokens
        self._proofs = proofs
        self._used = used
        self._failures = failures
        self._metrics = metrics
        self._accepted = metrics.accepted("voting")

    def admit(self, request: VotingRequest, survey_id: str | None) -> VotingClaims:
        """Return the claims that permit this vote; `survey_id` None means that the token names the survey.

        No vote waits for what other processes have seen: one whose proof was used there changes nothing.

        Raises:
            DomainError: `unauthenticated`, `token_invalid`, `token_expired`, `proof_invalid`, `malformed_request`, or
                `forbidden` where the token is for another survey, `wrong_cell`; `rate_limited` where too many from
                this address were not admitted, this one included.
        """
        try:
            claims, _ = self._verified(request, survey_id)
        except DomainError as error:
            self._turned_away(request, error)
            raise
        self._accepted.inc()
        return claims

    async def admit_once(self, request: VotingRequest, survey_id: str | None) -> VotingClaims:
        """Return the claims that permit any other request, whose proof no process has seen. Raises as `admit`."""
        try:
            claims, proof = self._verified(request, survey_id)
            await self._used.use(proof, claims.cell)
        except DomainError as error:
            self._turned_away(request, error)
            raise
        self._accepted.inc()
        return claims

    def _turned_away(self, request: VotingRequest, error: DomainError) -> None:
        self._metrics.refused(error.code)
        self._failures.count(request)

    def _verified(self, request: VotingRequest, survey_id: str | None) -> tuple[VotingClaims, bytes]:
        sent = credentials(request.headers)
        now = time.time()
        claims = self._tokens.verify(sent.token, now)
        proof = b""
        if claims.jkt is not None or sent.proof is not None:
            proof = sent.check_binding(
                self._proofs,
                claims.jkt,
                method=request.method,
                path=request.path.decode("ascii", "replace"),
                body=request.body,
                now=now,
            )
        if survey_id is not None and claims.survey_id != survey_id:
            raise DomainError(ErrorCode.FORBIDDEN, "the voting token is for another survey")
        if claims.cell not in self._cells:
            raise DomainError(ErrorCode.WRONG_CELL, "the cell")
        return claims, proof
