"""Who may vote here: the voting token and, where it is bound, the proof of its key."""

import time
from collections.abc import Sequence
from typing import Protocol

from api.http.authorization import Proofs, credentials
from domain.errors import DomainError, ErrorCode
from domain.tokens import VotingClaims
from integrations.keys.tokens import VotingTokenVerifier


class SignedRequest(Protocol):
    """A request as its token and proof see it; lean requests are this already."""

    @property
    def method(self) -> str:
        """The method in capitals."""
        ...

    @property
    def path(self) -> bytes:
        """The path as sent, without query."""
        ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Every header, names in lower case."""
        ...

    @property
    def body(self) -> bytes:
        """The whole body."""
        ...


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
