"""Keys that were read a moment ago, in memory."""

import time
from collections.abc import Callable

from domain.ports import KeyMaterial

HELD_S = 60.0  # for so long a key that another process destroyed is still used here


class HeldKeys:
    """Secrets for `HELD_S` from when their reading began; any look drops those whose time is over."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._held: dict[str, tuple[float, KeyMaterial]] = {}

    def get(self, key_id: str) -> KeyMaterial | None:
        """Return a key that is held, or None."""
        since = self.now() - HELD_S
        for over in [each for each, (read_at, _) in list(self._held.items()) if read_at <= since]:
            self._held.pop(over, None)
        _, found = self._held.get(key_id, (0.0, None))
        return found

    def keep(self, key: KeyMaterial, read_at: float) -> KeyMaterial:
        """Hold a key whose reading began at `read_at`, and return it."""
        self._held[key.key_id] = (read_at, key)
        return key

    def drop(self, key_id: str) -> None:
        """Forget a key."""
        self._held.pop(key_id, None)
