"""Who asks: the token of a request and, where the token is bound to a key, the proof that comes with it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.errors import DomainError, ErrorCode

_BEARER = b"bearer"
_DPOP = b"dpop"


class Proofs(Protocol):
    """Checks proofs of possession (RFC 9449)."""

    def verify(self, proof: bytes, *, method: str, path: str, token: bytes, body: bytes, jkt: str, now: float) -> bytes:
        """Accept a proof and return what names it, or raise DomainError `proof_invalid`."""
        ...


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


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token as sent; `proof` is None under the scheme Bearer."""

    token: bytes
    proof: bytes | None

    def check_binding(
        self, proofs: Proofs, jkt: str | None, *, method: str, path: str, body: bytes, now: float
    ) -> bytes:
        """Accept a bound token with a proof of its key for this very request, and an unbound one without.

        `jkt` is what the verified token is bound to, `path` without query, `body` as received. Returns what names the
        proof, by which other processes know that it was used, and nothing where there is none.

        Raises:
            DomainError: `proof_invalid`; `token_invalid` where an unbound token is sent as DPoP.
        """
        if jkt is None:
            if self.proof is not None:
                raise DomainError(ErrorCode.TOKEN_INVALID, "the token is not bound to a key: send it as Bearer")
            return b""
        if self.proof is None:
            raise DomainError(ErrorCode.PROOF_INVALID, "the token is bound to a key: send it as DPoP, with a proof")
        return proofs.verify(self.proof, method=method, path=path, token=self.token, body=body, jkt=jkt, now=now)


def credentials(headers: Iterable[tuple[bytes, bytes]]) -> Credentials:
    """Return the credentials among a request's headers (names in lower case).

    Raises:
        DomainError: `unauthenticated` where there is no token; `proof_invalid` where the scheme DPoP comes without
            exactly one proof (RFC 9449, section 4.3, point 1); `malformed_request` for two tokens.
    """
    authorization = proof = None
    for name, value in headers:
        if name == b"authorization":
            if authorization is not None:
                raise DomainError(ErrorCode.MALFORMED_REQUEST, "two Authorization headers")
            authorization = value
        elif name == _DPOP:
            if proof is not None:
                raise DomainError(ErrorCode.PROOF_INVALID, "two DPoP headers")
            proof = value
    if authorization is None:
        raise DomainError(ErrorCode.UNAUTHENTICATED)
    scheme, _, token = authorization.partition(b" ")
    scheme = scheme.lower()
    if not token or scheme not in {_BEARER, _DPOP}:
        raise DomainError(ErrorCode.UNAUTHENTICATED, "the scheme must be Bearer or DPoP")
    if scheme == _BEARER:
        return Credentials(token, None)
    if proof is None:
        raise DomainError(ErrorCode.PROOF_INVALID, "the DPoP header is missing")
    return Credentials(token, proof)
