"""Breached passwords by range, as Have I Been Pwned serves them.

The first five hexadecimal digits of a SHA-1 go out, every known hash with that beginning comes back, padded so that
the size of the answer says nothing either.
"""

import hashlib
import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from domain.errors import ErrorCode
from integrations.telemetry.vendor_metrics import VendorMetrics
from integrations.vendor_http import VendorHttp, open_vendor_client
from integrations.vendor_settings import BreachesSettings

PREFIX_DIGITS: Final = 5
_ENTRIES_MIN: Final = 800  # of a padded answer; fewer are half of one
_ENTRY: Final = re.compile(r"([0-9A-F]{35}):([0-9]{1,12})")
_OK: Final = 200


@asynccontextmanager
async def open_breaches(
    settings: BreachesSettings, metrics: VendorMetrics | None = None
) -> AsyncIterator["BreachedPasswordRanges"]:
    """Open the client; nothing is asked of the vendor yet."""
    headers = {"add-padding": "true", "user-agent": "comitia"}
    calls = None if metrics is None else metrics.of("breaches")
    async with open_vendor_client(settings.base_url, headers=headers, calls=calls) as client:
        yield BreachedPasswordRanges(VendorHttp(client, ErrorCode.BREACHES_UNAVAILABLE, timeout_s=settings.timeout_s))


class BreachedPasswordRanges:
    """Implements `BreachedPasswords`."""

    def __init__(self, http: VendorHttp) -> None:
        self._http = http

    async def times_seen(self, password: str) -> int:
        """Return how often a password was seen; its hash is compared in constant time over the whole answer."""
        digest = hashlib.sha1(password.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest().upper()
        answer = await self._http.send("GET", f"/range/{digest[:PREFIX_DIGITS]}")
        if answer.status != _OK:
            raise self._http.unavailable(f"status {answer.status}", answer)
        entries = self._entries(answer.content)
        # Padding counts 0, so a padded entry that looks like this one says nothing
        return sum(count for suffix, count in entries if hmac.compare_digest(suffix, digest[PREFIX_DIGITS:]))

    def _entries(self, content: bytes) -> list[tuple[str, int]]:
        """Return suffixes and counts; one line that is neither makes the answer none."""
        lines = content.decode("latin-1").split()
        matches = [_ENTRY.fullmatch(line) for line in lines]
        entries = [(match[1], int(match[2])) for match in matches if match]
        if len(entries) < _ENTRIES_MIN or len(entries) != len(lines):
            raise self._http.unavailable("not a range of hashes")
        return entries
