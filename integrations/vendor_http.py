"""HTTP to vendors: bounded in time and size, with one meaning for everything that is no answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from domain.errors import DomainError, ErrorCode
from integrations.deadlines import within
from integrations.telemetry.vendor_metrics import VendorCalls
from integrations.vendor_connections import VendorConnections

BODY_MAX: Final = 1024 * 1024
_RETRY_AFTER_MAX_S: Final = 3600
_CONNECTIONS_MAX: Final = 64
_IDLE_S: Final = 30.0
_SERVER_FAULT: Final = 500

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class VendorAnswer:
    """What a vendor answered, whatever the status: at most 1 MiB, not compressed."""

    status: int
    content: bytes = field(repr=False)
    content_type: str = ""  # in lower case, without parameters
    retry_after_s: int | None = None


class VendorClient(httpx.AsyncClient):
    """The one client of a vendor: redirects are not followed, and the environment's proxies are not asked.

    `call` is how vendors are asked: it builds the same request and leaves out what else `httpx` does with one (cookies,
    redirects, hooks), which takes more processor time than the connection.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], transport: httpx.AsyncBaseTransport) -> None:
        # An encoded answer could unpack to anything, so none is asked for and none is taken
        sent = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "comitia", **headers}
        super().__init__(base_url=base_url, headers=sent, transport=transport, follow_redirects=False, trust_env=False)
        self._prefix = base_url.rstrip("/")
        self._always = sent
        self._connections = transport

    async def call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
    ) -> httpx.Response:
        """Send a request and return its answer; `path` follows the base URL, `data` is a form, `auth` asks nothing.

        Raises:
            httpx.TransportError: there was none. httpx.InvalidURL.
        """
        sent = self._always if headers is None else {**self._always, **headers}
        request = httpx.Request(method, f"{self._prefix}{path}", headers=sent, content=content, data=data)
        if auth is not None:
            request = next(auth.sync_auth_flow(request))
        return await self._connections.handle_async_request(request)


@asynccontextmanager
async def open_vendor_client(
    base_url: str,
    *,
    headers: Mapping[str, str] | None = None,
    connections: int = _CONNECTIONS_MAX,
    calls: VendorCalls | None = None,
) -> AsyncIterator[VendorClient]:
    """Open the one client of a vendor. `calls` watches it; without it nobody does."""
    transport = VendorConnections(connections=connections, idle_s=_IDLE_S, body_max=BODY_MAX)
    watched: httpx.AsyncBaseTransport = transport
    if calls is not None:
        calls.watch(lambda: transport.waiting)
        watched = _Watched(transport, calls)
    async with VendorClient(base_url, headers or {}, watched) as client:
        yield client


class _Watched(httpx.AsyncBaseTransport):
    """Connections of a vendor whose calls are watched."""

    def __init__(self, connections: httpx.AsyncBaseTransport, calls: VendorCalls) -> None:
        self._connections = connections
        self._calls = calls

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request as the connections do, and say how that went."""
        with self._calls.call():
            response = await self._connections.handle_async_request(request)
        if is_fault_of_vendor(response.status_code):
            self._calls.failed()
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        await self._connections.aclose()


class VendorHttp:
    """One vendor's calls; whatever is no answer is a DomainError of the code for "cannot be reached"."""

    def __init__(self, client: VendorClient, unavailable: ErrorCode, *, timeout_s: float) -> None:
        self._client = client
        self._unavailable = unavailable
        self._timeout_s = timeout_s

    async def send(self, method: str, path: str, **request: Any) -> VendorAnswer:
        """Send a request and return the answer, of any status; `request` is what `VendorClient.call` takes.

        The time-out counts for all of it, connecting and the last byte included.

        Raises:
            DomainError: the vendor's "unavailable": not reachable, not in time, larger than 1 MiB, compressed;
                `deadline_exceeded` where the caller waits no longer.
        """
        limit_s = within(self._timeout_s)
        try:
            async with asyncio.timeout(limit_s):
                return await self._exchange(method, path, request)
        except TimeoutError as error:
            raise self.unavailable("no answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self.unavailable(type(error).__name__) from error

    async def send_for_json(self, method: str, path: str, **request: Any) -> tuple[VendorAnswer, JsonObject]:
        """Send a request and return the answer with the JSON object in it, whatever the status.

        Raises:
            DomainError: as `send`, and for whatever is no JSON object.
        """
        answer = await self.send(method, path, **request)
        return answer, self.json_of(answer)

    def json_of(self, answer: VendorAnswer) -> JsonObject:
        """Return the JSON object in an answer. Raises the vendor's "unavailable" where there is none."""
        try:
            content = json.loads(answer.content)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise self.unavailable(f"status {answer.status} without a JSON object", answer)
        return content

    def unavailable(self, detail: str, answer: VendorAnswer | None = None) -> DomainError:
        """Return the error to raise; `detail` must be ours, never the vendor's text."""
        return DomainError(self._unavailable, detail, retry_after_s=answer.retry_after_s if answer else None)

    async def _exchange(self, method: str, path: str, request: dict[str, Any]) -> VendorAnswer:
        response = await self._client.call(method, path, **request)
        headers = response.headers
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise self.unavailable("compressed answer")
        return VendorAnswer(
            response.status_code,
            await response.aread(),
            headers.get("content-type", "").partition(";")[0].strip().lower(),
            _seconds(headers.get("retry-after", "")),
        )


def is_fault_of_vendor(status: int) -> bool:
    """Tell whether a status says that trying again may help: over a limit, or the vendor's own fault."""
    return status == httpx.codes.TOO_MANY_REQUESTS or status >= _SERVER_FAULT


def _seconds(retry_after: str) -> int | None:
    """Return the seconds of a `Retry-After`, at most an hour; its form as a date is not read."""
    text = retry_after.strip()
    return min(int(text), _RETRY_AFTER_MAX_S) if text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004
