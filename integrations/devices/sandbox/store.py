"""What Fingerprint's sandbox knows: keys, events and visitors, and how fast each key may ask."""

import hashlib
import secrets
import string
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from integrations.devices.sandbox.profiles import Json

REGIONS: Final = ("us", "eu", "ap")
_EVENTS_MAX: Final = 100_000
_FORGOTTEN_MS: Final = 10 * 86_400_000  # a deletion takes the events of ten days
_ALPHABET: Final = string.ascii_letters + string.digits
_VISITOR_LETTERS: Final = 20


@dataclass(slots=True)
class Key:
    """A secret API key: the region that it is good in, and what it may do; with its bucket of requests."""

    region: str
    active: bool = True
    may_delete: bool = True
    tokens: float | None = None
    filled_at: float = 0.0


@dataclass(slots=True)
class StoredEvent:
    """An event, whatever a test made of its content; from when on it can be read and is complete (monotonic clock)."""

    event_id: str
    content: Json
    at_ms: int
    device: str
    visitor_id: str
    readable_at: float
    complete_at: float
    settled: bool = False  # the first change of an event comes too early


@dataclass(slots=True)
class Store:
    """Everything the sandbox keeps, in memory: events are dropped from the oldest on."""

    keys: dict[str, Key] = field(default_factory=dict)
    events: "OrderedDict[str, StoredEvent]" = field(default_factory=OrderedDict)
    generations: dict[str, int] = field(default_factory=dict)
    per_second: float = 5.0
    burst: float = 15.0

    def add(self, event: StoredEvent) -> None:
        """Keep an event."""
        self.events[event.event_id] = event
        while len(self.events) > _EVENTS_MAX:
            self.events.popitem(last=False)

    def visitor_id(self, device: str) -> str:
        """Return the id of a device: the same until the visitor is deleted."""
        digest = hashlib.sha256(f"{device}/{self.generations.get(device, 0)}".encode()).digest()
        return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:_VISITOR_LETTERS])

    def forget(self, visitor_id: str, now_ms: int) -> bool:
        """Delete a visitor; False where there is none."""
        theirs = [event for event in self.events.values() if event.visitor_id == visitor_id]
        for event in theirs:
            if now_ms - event.at_ms < _FORGOTTEN_MS:
                del self.events[event.event_id]
        for device in {event.device for event in theirs}:
            self.generations[device] = self.generations.get(device, 0) + 1
        return bool(theirs)

    def admit(self, key: Key, now: float) -> bool:
        """Take one request out of a key's bucket; False where it is empty."""
        filled = self.burst if key.tokens is None else key.tokens + (now - key.filled_at) * self.per_second
        key.tokens, key.filled_at = min(self.burst, filled), now
        if key.tokens < 1:
            return False
        key.tokens -= 1
        return True

    def search(self, *, visitor_id: str | None, linked_id: str | None, start_ms: int, end_ms: int) -> list[Json]:
        """Return matching events, newest first."""
        found = [
            event
            for event in self.events.values()
            if start_ms <= event.at_ms <= end_ms
            and visitor_id in {None, event.visitor_id}
            and linked_id in {None, event.content.get("linked_id")}
        ]
        found.sort(key=lambda event: (event.at_ms, event.event_id), reverse=True)
        return [event.content for event in found]


def new_event_id(timestamp_ms: int) -> str:
    """Return an event id: the time in ms, a dot, and six characters."""
    return f"{timestamp_ms}.{''.join(secrets.choice(_ALPHABET) for _ in range(6))}"
