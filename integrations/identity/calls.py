"""Calls to a provider of identity proofing, and what their answers mean in the port's two errors."""

from typing import Final, TypeVar

import httpx
import msgspec

from domain.errors import DomainError, ErrorCode
from integrations.vendor_http import VendorAnswer, VendorClient, VendorHttp, is_fault_of_vendor

_PASSING: Final = frozenset({httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY})

_T = TypeVar("_T")


class Failure(msgspec.Struct, rename="camel"):
    """The body of a provider's error, without its text: that quotes what we sent. `code` repeats the status."""

    code: int
    error_code: int | None = None


class ProviderCalls:
    """One provider's HTTP; every call ends within the time-out, with an answer that says something of the request."""

    def __init__(self, client: VendorClient, timeout_s: float, auth: httpx.Auth) -> None:
        """`client` has the provider's base URL, and its own time-outs do not count."""
        self._http = VendorHttp(client, ErrorCode.PROOFING_UNAVAILABLE, timeout_s=timeout_s)
        self._auth = auth

    async def send(self, method: str, path: str, body: object = None) -> VendorAnswer:
        """Return the answer: a 2xx, or a 4xx in the provider's own words.

        A page of whoever stands in between is none, so that its 404 never means that a case is gone.

        Raises:
            DomainError: `proofing_unavailable`.
        """
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if method == "GET" else {"content-type": "application/json"}
        answer = await self._http.send(method, path, content=content, headers=headers, auth=self._auth)
        status = answer.status
        if is_fault_of_vendor(status) or status in _PASSING or httpx.codes.is_redirect(status):
            raise self.unavailable(f"status {status}", answer)
        if httpx.codes.is_client_error(status):
            self.failure(answer)
            if status == httpx.codes.CONFLICT and answer.retry_after_s is not None:
                raise self.unavailable("busy with the case", answer)
        return answer

    async def ask(self, method: str, path: str, kind: type[_T], body: object = None) -> _T:
        """Send a request that the provider has no reason to refuse, and return the answer as a `kind` of msgspec.

        Raises:
            DomainError: `proofing_unavailable`, `proofing_refused`.
        """
        return self.read(await self.send(method, path, body), kind)

    def read(self, answer: VendorAnswer, kind: type[_T]) -> _T:
        """Return what a successful answer says, as `ask` does."""
        return self._decode(self.succeeded(answer), kind)

    def failure(self, answer: VendorAnswer) -> Failure:
        """Return what an error says. Raises DomainError `proofing_unavailable` where it is not the provider's."""
        failure = self._decode(answer, Failure)
        if failure.code != answer.status:
            raise self.unavailable(f"status {answer.status} of somebody else")
        return failure

    def succeeded(self, answer: VendorAnswer) -> VendorAnswer:
        """Return the answer if it is a success.

        Raises:
            DomainError: `proofing_refused`.
        """
        if not httpx.codes.is_success(answer.status):
            code = self.failure(answer).error_code
            raise DomainError(ErrorCode.PROOFING_REFUSED, f"status {answer.status}, error code {code}")
        return answer

    def unavailable(self, detail: str, answer: VendorAnswer | None = None) -> DomainError:
        """Return the error to raise; `detail` must be ours, never the provider's text."""
        return self._http.unavailable(detail, answer)

    def _decode(self, answer: VendorAnswer, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self.unavailable(f"garbled answer with status {answer.status}") from None
