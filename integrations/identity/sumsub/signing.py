"""Signs requests to Sumsub over the very bytes that travel."""

import hashlib
import hmac
from collections.abc import Callable, Generator
from typing import Final

import httpx

TOKEN_HEADER: Final = "x-app-token"  # noqa: S105 - a header's name
TIME_HEADER: Final = "x-app-access-ts"
SIGNATURE_HEADER: Final = "x-app-access-sig"


def request_signature(secret: bytes, at: str, method: str, target: bytes, body: bytes) -> str:
    """Return the lower-case hex HMAC-SHA-256 of a request.

    `at` is in whole seconds since 1970, as digits; `target` is path and query as on the wire.
    """
    signed = at.encode("ascii") + method.upper().encode("ascii") + target + body
    return hmac.new(secret, signed, hashlib.sha256).hexdigest()


class SumsubAuth(httpx.Auth):
    """Adds the three headers to a request that is otherwise complete, so that nothing is encoded after signing."""

    requires_request_body = True

    def __init__(self, app_token: str, secret: str, now: Callable[[], float]) -> None:
        """`now` gives seconds since 1970; every attempt is signed anew."""
        self._app_token = app_token
        self._secret = secret.encode()
        self._now = now

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Sign the request."""
        at = str(int(self._now()))
        request.headers[TOKEN_HEADER] = self._app_token
        request.headers[TIME_HEADER] = at
        request.headers[SIGNATURE_HEADER] = request_signature(
            self._secret, at, request.method, request.url.raw_path, request.content
        )
        yield request
