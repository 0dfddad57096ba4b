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


@asynccontextmanager
async def open_vendor_client(
    base_url: str,
    *,
    headers: Mapping[str, str] | None = None,
    connections: int = _CONNECTIONS_MAX,
    calls: VendorCalls | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    """Open the one client of a vendor: redirects are not followed, and the environment's proxies are not asked.

    `calls` watches them; without it nobody does.
    """
    transport: httpx.AsyncBaseTransport = VendorConnections(connections=connections, idle_s=_IDLE_S, body_max=BODY_MAX)
    async with httpx.AsyncClient(
        base_url=base_url,
        # An encoded answer could unpack to anything, so none is asked for and none is taken
        headers={"accept-encoding": "identity", **(headers or {})},
        transport=transport if calls is None else _Watched(transport, calls),
        follow_redirects=False,
        trust_env=False,
    ) as client:
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

    def __init__(self, client: httpx.AsyncClient, unavailable: ErrorCode, *, timeout_s: float) -> None:
        self._client = client
        self._unavailable = unavailable
        self._timeout_s = timeout_s

    async def send(self, method: str, path: str, **request: Any) -> VendorAnswer:
        """Send a request and return the answer, of any status; `request` is what httpx takes.

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
        async with self._client.stream(method, path, timeout=self._timeout_s, **request) as response:
            headers = response.headers
            if headers.get("content-encoding", "identity").lower() != "identity":
                raise self.unavailable("compressed answer")
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > BODY_MAX:
                    raise self.unavailable("answer over 1 MiB")
            return VendorAnswer(
                response.status_code,
                bytes(content),
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
