"""Fingerprint's server API, v4: reads events and forgets visitors."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog

from domain.devices import DeviceEvent
from domain.errors import DomainError, ErrorCode
from integrations.deadlines import within
from integrations.devices.mapping import GarbledEventError, read_event
from integrations.telemetry.vendor_metrics import VendorMetrics
from integrations.vendor_http import JsonObject, VendorAnswer, VendorHttp, open_vendor_client
from integrations.vendor_settings import FingerprintSettings

EVENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VISITOR_ID: Final = re.compile(r"[A-Za-z0-9]{1,64}")
_ISSUED_MS: Final = re.compile(r"(\d{13})\.")
_CODE: Final = re.compile(r"[a-z_]{1,40}")
# An event can be read a moment after the client has its id: 1.5 s in all
_PAUSES_S: Final = (0.1, 0.2, 0.4, 0.8)
_FRESH_S: Final = 60.0
_OK, _BAD_REQUEST, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 200, 400, 403, 404, 429

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_fingerprint(
    settings: FingerprintSettings, metrics: VendorMetrics | None = None
) -> AsyncIterator["FingerprintDevices"]:
    """Open the client; nothing is asked of the vendor yet."""
    headers = {"authorization": f"Bearer {settings.api_key.get_secret_value()}"}
    calls = None if metrics is None else metrics.of("fingerprint")
    async with open_vendor_client(settings.base_url, headers=headers, calls=calls) as client:
        http = VendorHttp(client, ErrorCode.DEVICES_UNAVAILABLE, timeout_s=settings.timeout_s)
        yield FingerprintDevices(http, origins=settings.origins)


class FingerprintDevices:
    """Implements `DeviceIntelligence`. Safe to share and to repeat."""

    def __init__(
        self,
        http: VendorHttp,
        *,
        origins: Collection[str] = (),
        pauses_s: Sequence[float] = _PAUSES_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`origins` are where our clients run; without any it is not looked at."""
        self._http = http
        self._origins = origins
        self._pauses_s = pauses_s
        self._now = now

    async def event(self, event_id: str) -> DeviceEvent:
        """Return an event, waiting a moment for one that is not readable or not complete yet.

        One that stays incomplete is returned as such.
        """
        if not EVENT_ID.fullmatch(event_id):
            raise DomainError(ErrorCode.DEVICE_EVENT_INVALID, "not the id of an event")
        event = await self._read(event_id)
        # Who makes ids up shall not make us wait and ask again
        for pause_s in self._pauses_s if self._may_come(event_id) else ():
            if event is not None and event.complete:
                break
            await asyncio.sleep(within(pause_s))
            event = await self._read(event_id)
        if event is None:
            raise DomainError(ErrorCode.DEVICE_EVENT_INVALID, "no such event")
        return event

    async def erase(self, device_id: str) -> None:
        """Ask the vendor to forget a visitor; one that it does not know is forgotten."""
        if not _VISITOR_ID.fullmatch(device_id):
            raise DomainError(ErrorCode.DEVICES_MISCONFIGURED, "not the id of a visitor")
        answer = await self._http.send("DELETE", f"/visitors/{device_id}")
        if answer.status == _OK:
            return
        code = self._code(answer, self._http.json_of(answer))
        if (answer.status, code) != (_NOT_FOUND, "visitor_not_found"):
            raise self._failure(answer, code)

    async def _read(self, event_id: str) -> DeviceEvent | None:
        """Return the event, or None where there is none (yet)."""
        answer, content = await self._http.send_for_json("GET", f"/events/{event_id}")
        if answer.status != _OK:
            code = self._code(answer, content)
            if (answer.status, code) == (_NOT_FOUND, "event_not_found"):
                return None
            if (answer.status, code) == (_BAD_REQUEST, "request_cannot_be_parsed"):
                raise DomainError(ErrorCode.DEVICE_EVENT_INVALID, "not the id of an event")
            raise self._failure(answer, code)
        try:
            event = read_event(content, self._origins)
        except GarbledEventError as error:
            raise self._http.unavailable(str(error)) from error
        if event.event_id != event_id:
            raise self._http.unavailable("another event than was asked for")
        return event

    def _may_come(self, event_id: str) -> bool:
        issued = _ISSUED_MS.match(event_id)
        return issued is None or abs(self._now() - int(issued[1]) / 1000) < _FRESH_S

    def _code(self, answer: VendorAnswer, content: JsonObject) -> str:
        error = content.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        return code if isinstance(code, str) and _CODE.fullmatch(code) else f"status_{answer.status}"

    def _failure(self, answer: VendorAnswer, code: str) -> DomainError:
        if answer.status in {_BAD_REQUEST, _FORBIDDEN}:  # keys that are missing or wrong are 403 here, never 401
            log.error("fingerprint_refuses", status=answer.status, code=code)
            return DomainError(ErrorCode.DEVICES_MISCONFIGURED, code)
        if answer.status == _TOO_MANY:
            return DomainError(ErrorCode.DEVICES_UNAVAILABLE, code, retry_after_s=answer.retry_after_s or 1)
        return self._http.unavailable(code, answer)
