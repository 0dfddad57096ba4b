"""The key that a browser shows with each request of a session that it is bound to (RFC 9449)."""

import time

import structlog
from fastapi import Request

from api.console.cookies import HeldCookie
from api.console.visits import NotSignedInError
from api.http.access import path_of
from api.http.used_proofs import UsedProofs
from domain.errors import DomainError, ErrorCode
from domain.ids import CONSOLE_SESSION_ID, cell_in
from integrations.keys.dpop import RequestProofs
from integrations.telemetry.metrics import AuthMetrics

log = structlog.get_logger(__name__)


class BrowserKeys:
    """Refuses whoever does not show the key of the browser that signed in; the session goes on without them."""

    def __init__(self, proofs: RequestProofs, used: UsedProofs, metrics: AuthMetrics) -> None:
        self._proofs = proofs
        self._used = used
        self._metrics = metrics

    async def require(self, request: Request, held: HeldCookie) -> None:
        """Return once the key that a cookie names was shown; one that names none has none. Raises NotSignedInError."""
        if not held.key:
            return
        try:
            proven = self._proofs.key_of(
                request.headers.get("dpop", "").encode(),
                method=request.method,
                path=path_of(request),
                body=await request.body(),
                now=time.time(),
            )
            await self._used.use(proven.proof, cell_in(CONSOLE_SESSION_ID, held.session_id))
        except DomainError as error:
            self._metrics.refused(error.code)
            raise NotSignedInError(lacks_proof=True) from error
        if proven.jkt != held.key:
            self._metrics.refused(ErrorCode.PROOF_INVALID)
            log.warning("console_key_differs")
            raise NotSignedInError(lacks_proof=True)
