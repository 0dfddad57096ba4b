"""The key that a client proves to hold before any token is bound to it: at login and at every refresh."""

import time
from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import Header, Request

from api.http.access import path_of
from api.http.limits import FrameworkRequest, Limits
from domain.errors import DomainError, ErrorCode

ProofHeader = Annotated[str | None, Header(alias="dpop", description="RFC 9449, with `bdh`, without `ath`")]
"""Documents the header; `KeyProofs` reads it as it was sent."""

_HEADER = b"dpop"


class RequestKeys(Protocol):
    """Finds the key that a request proves to hold."""

    def key_of(self, proof: bytes | None, *, method: str, path: str, body: bytes, now: float) -> str:
        """Return the key's thumbprint, once per proof, or raise DomainError `proof_invalid`."""
        ...


class KeyProofs:
    """Finds the keys that clients prove to hold; what is no proof counts against the address."""

    def __init__(self, proofs: RequestKeys, limits: Limits, *, now: Callable[[], float] = time.time) -> None:
        self._proofs = proofs
        self._failures = limits.failures
        self._now = now

    async def of(self, request: Request) -> str:
        """Return the thumbprint of the key that a request proves to hold; called once its body is what it must be.

        Raises:
            DomainError: `proof_invalid`, or `rate_limited` after too many of them.
        """
        sent = [value for name, value in request.scope["headers"] if name == _HEADER]
        body = await request.body()
        try:
            if len(sent) > 1:
                raise DomainError(ErrorCode.PROOF_INVALID, "two DPoP headers")
            return self._proofs.key_of(
                sent[0] if sent else None, method=request.method, path=path_of(request), body=body, now=self._now()
            )
        except DomainError:
            self._failures.count(FrameworkRequest(request))
            raise
