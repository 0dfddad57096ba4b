"""Who may vote here: the voting token and, where it is bound, the proof of its key."""

import time
from collections.abc import Iterable
from typing import Protocol

from api.http.authorization import Proofs, SignedRequest, credentials
from api.http.limits import FailureLimits, LimitedRequest
from domain.errors import DomainError, ErrorCode
from domain.tokens import VotingClaims
from integrations.keys.tokens import VotingTokenVerifier
from integrations.telemetry.metrics import AuthMetrics


class VotingRequest(SignedRequest, LimitedRequest, Protocol):
    """A request with a voting token."""


class VotingAuthority:
    """Checks voting tokens and their proofs, without I/O."""

    def __init__(
        self,
        tokens: VotingTokenVerifier,
        proofs: Proofs,
        cells: Iterable[str],
        failures: FailureLimits,
        metrics: AuthMetrics,
    ) -> None:
        """Admit to the given cells, and count what is not admitted."""
        self._cells = frozenset(cells)
        self._tokens = tokens
        self._proofs = proofs
        self._failures = failures
        self._metrics = metrics
        self._accepted = metrics.accepted("voting")

    def admit(self, request: VotingRequest, survey_id: str | None) -> VotingClaims:
        """Return the claims that permit this request; `survey_id` None means that the token names the survey.

        Raises:
            DomainError: `unauthenticated`, `token_invalid`, `token_expired`, `proof_invalid`, `malformed_request`, or
                `forbidden` where the token is for another survey, `wrong_cell`; `rate_limited` where too many from
                this address were not admitted, this one included.
        """
        try:
            claims = self._verified(request, survey_id)
        except DomainError as error:
            self._metrics.refused(error.code)
            self._failures.count(request)
            raise
        self._accepted.inc()
        return claims

    def _verified(self, request: VotingRequest, survey_id: str | None) -> VotingClaims:
        sent = credentials(request.headers)
        now = time.time()
        claims = self._tokens.verify(sent.token, now)
        if claims.jkt is not None or sent.proof is not None:
            sent.check_binding(
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
        return claims
