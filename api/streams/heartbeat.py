"""The signs of life of all streams of a process, by one timer."""

import asyncio
import time
from typing import Final

from api.streams.protocol import Stream

HEARTBEAT_S: Final = 15
STUCK_MAX_S: Final = 30.0


class HeartbeatWheel:
    """Each second it is the turn of one of `slots`, so a stream's turn comes every `slots` seconds."""

    def __init__(self, slots: int = HEARTBEAT_S, *, stuck_max_s: float = STUCK_MAX_S, turn_s: float = 1.0) -> None:
        self._slots: list[set[Stream]] = [set() for _ in range(slots)]
        self._stuck_max_s = stuck_max_s
        self._turn_s = turn_s
        self._next = 0

    def slot(self) -> int:
        """Return the slot whose turn is furthest away."""
        return (self._next - 1) % len(self._slots)

    def add(self, stream: Stream) -> None:
        """Take a stream into its slot."""
        self._slots[stream.slot].add(stream)

    def remove(self, stream: Stream) -> None:
        """Let go of a stream."""
        self._slots[stream.slot].discard(stream)

    async def run(self) -> None:
        """Turn until cancelled."""
        while True:
            await asyncio.sleep(self._turn_s)
            now = time.monotonic()
            for stream in tuple(self._slots[self._next]):
                stream.beat(now, self._stuck_max_s)
            self._next = (self._next + 1) % len(self._slots)
