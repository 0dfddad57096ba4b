"""Who may vote here: the voting token and, where it is bound, the proof of its key."""

import time
from typing import Protocol

from domain.errors import DomainError, ErrorCode
from domain.tokens import VotingClaims
from integrations.keys.dpop import DpopVerifier
from integrations.keys.tokens import VotingTokenVerifier

_BEARER = b"bearer "
_DPOP = b"dpop "


class SignedRequest(Protocol):
    """A request as its token and proof see it; lean requests are this already."""

    @property
    def method(self) -> str:
        """The method in capitals."""
        ...

    @property
    def path(self) -> bytes:
        """The path as sent."""
        ...

    @property
    def body(self) -> bytes:
        """The whole body."""
        ...

    def get(self, name: bytes) -> bytes | None:
        """Return a header by its lower-case name."""
        ...


def bearer_of(request: SignedRequest) -> tuple[bytes, bytes | None]:
    """Return the token and, where the scheme is DPoP, the proof.

    Raises:
        DomainError: `unauthenticated` where there is no token, `proof_invalid` where the scheme's proof is missing.
    """
    header = request.get(b"authorization")
    if header is None:
        raise DomainError(ErrorCode.UNAUTHENTICATED)
    scheme = header[:7].lower()
    if scheme == _BEARER:
        return header[7:], None
    if scheme.startswith(_DPOP):
        proof = request.get(b"dpop")
        if proof is None:
            raise DomainError(ErrorCode.PROOF_INVALID, "the DPoP header is missing")
        return header[5:], proof
    raise DomainError(ErrorCode.UNAUTHENTICATED, "the scheme must be Bearer or DPoP")


class VotingAuthority:
    """Checks voting tokens and their proofs, locally."""

    def __init__(self, tokens: VotingTokenVerifier, proofs: DpopVerifier, public_url: str) -> None:
        """`public_url` is how clients reach this service: what a proof's `htu` begins with."""
        self._tokens = tokens
        self._proofs = proofs
        self._public_url = public_url.rstrip("/")

    def admit(self, request: SignedRequest, survey_id: str | None) -> VotingClaims:
        """Return the claims that permit this request; `survey_id` None means that the token names the survey.

        Raises:
            DomainError: `unauthenticated`, `token_invalid`, `token_expired`, `proof_invalid`, or `forbidden` where the
                token is for another survey.
        """
        token, proof = bearer_of(request)
        now = time.time()
        claims = self._tokens.verify(token, now)
        if claims.jkt is not None:
            if proof is None:
                raise DomainError(ErrorCode.PROOF_INVALID, "the token is bound: send it as DPoP, with a proof")
            self._proofs.verify(
                proof,
                method=request.method,
                url=self._public_url + request.path.decode("ascii", "replace"),
                token=token,
                body=None if request.method == "GET" else request.body,
                jkt=claims.jkt,
                now=now,
            )
        elif proof is not None:
            raise DomainError(ErrorCode.TOKEN_INVALID, "the token is not bound to a key")
        if survey_id is not None and claims.survey_id != survey_id:
            raise DomainError(ErrorCode.FORBIDDEN, "the voting token is for another survey")
        return claims
