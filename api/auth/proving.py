"""The key that a client proves to hold before any token is bound to it: at login and at every refresh."""

import time
from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import Header, Request

from api.http.access import path_of
from api.http.limits import FrameworkRequest, Limits
from api.http.used_proofs import UsedProofs
from domain.errors import DomainError, ErrorCode
from integrations.keys.dpop import Proven

ProofHeader = Annotated[str | None, Header(alias="dpop", description="RFC 9449, with `bdh`, without `ath`")]
"""Documents the header; `KeyProofs` reads it as it was sent."""

_HEADER = b"dpop"


class RequestKeys(Protocol):
    """Finds the key that a request proves to hold."""

    def key_of(self, proof: bytes | None, *, method: str, path: str, body: bytes, now: float) -> Proven:
        """Return the key, once per proof, or raise DomainError `proof_invalid`."""
        ...


class KeyProofs:
    """Finds the keys that clients prove to hold; what is no proof counts against the address."""

    def __init__(
        self, proofs: RequestKeys, used: UsedProofs, limits: Limits, *, now: Callable[[], float] = time.time
    ) -> None:
        self._proofs = proofs
        self._used = used
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
            proven = self._proofs.key_of(
                sent[0] if sent else None, method=request.method, path=path_of(request), body=body, now=self._now()
            )
            await self._used.use(proven.proof)
        except DomainError:
            self._failures.count(FrameworkRequest(request))
            raise
        return proven.jkt
