"""Who may vote here: the voting token and, where it is bound, the proof of its key."""

import time

from api.http.authorization import Proofs, SignedRequest, credentials
from domain.errors import DomainError, ErrorCode
from domain.tokens import VotingClaims
from integrations.keys.tokens import VotingTokenVerifier


class VotingAuthority:
    """Checks voting tokens and their proofs, without I/O."""

    def __init__(self, tokens: VotingTokenVerifier, proofs: Proofs) -> None:
        self._tokens = tokens
        self._proofs = proofs

    def admit(self, request: SignedRequest, survey_id: str | None) -> VotingClaims:
        """Return the claims that permit this request; `survey_id` None means that the token names the survey.

        Raises:
            DomainError: `unauthenticated`, `token_invalid`, `token_expired`, `proof_invalid`, `malformed_request`, or
                `forbidden` where the token is for another survey.
        """
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
        return claims
