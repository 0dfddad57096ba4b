"""Reads a survey's live results from the event stream, as a browser's EventSource would."""

import asyncio
import contextlib
import json
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from comitia.demo.client import read_head

_LINE_BYTES_MAX = 1024 * 1024
_COME_BACK_S = 0.5


class LiveResults:
    """The newest snapshot that was seen. `run` reads until cancelled, and comes back when a connection ends."""

    def __init__(self, url: str, survey_id: str) -> None:
        self.document: dict[str, Any] = {}
        self.events = 0
        self._url = urlsplit(url)
        self._path = f"/v1/surveys/{survey_id}/results/stream"
        self._last_id = ""
        self._changed = asyncio.Event()

    @property
    def total(self) -> int:
        """Ballots in the newest snapshot."""
        found: int = self.document.get("totalResponses", 0)
        return found

    async def until(self, ballots: int) -> None:
        """Wait for a snapshot with at least that many ballots."""
        while self.total < ballots:
            self._changed.clear()
            await self._changed.wait()

    async def run(self) -> None:
        """Read for good."""
        while True:
            with contextlib.suppress(OSError, EOFError):
                await self._read()
            await asyncio.sleep(_COME_BACK_S)

    async def _read(self) -> None:
        reader, writer = await asyncio.open_connection(self._url.hostname, self._url.port, limit=_LINE_BYTES_MAX)
        try:
            last = f"Last-Event-ID: {self._last_id}\r\n" if self._last_id else ""
            request = (
                f"GET {self._path} HTTP/1.1\r\nHost: {self._url.netloc}\r\nAccept: text/event-stream\r\n{last}\r\n"
            )
            writer.write(request.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            status, _ = read_head(head[:-4])
            if status != HTTPStatus.OK:
                return
            while event := await _next_event(reader):
                self._take(event)
        finally:
            writer.close()

    def _take(self, event: dict[str, str]) -> None:
        self._last_id = event.get("id", self._last_id)
        if event.get("event") == "results":
            self.document = json.loads(event["data"])
            self.events += 1
            self._changed.set()


async def _next_event(reader: asyncio.StreamReader) -> dict[str, str]:
    """Return the fields of the next event that has any; raises EOFError at the end."""
    fields: dict[str, str] = {}
    while True:
        line = await reader.readline()
        if not line:
            raise EOFError
        text = line.decode().rstrip("\n")
        if not text and fields:
            return fields
        name, _, value = text.partition(": ")
        if name and not text.startswith(":"):  # that is a heartbeat
            fields[name] = value
