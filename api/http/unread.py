"""How fast a client takes what is sent to it, counted only while it is the client that is waited for."""


class Unread:
    """One connection's; times in seconds of one clock, `unsent` are bytes that the client has not taken yet."""

    __slots__ = ("_taken_bytes", "_unsent", "_waited_s", "since")

    def __init__(self) -> None:
        self.since = 0.0  # of the wait that goes on
        self._unsent = 0
        self._waited_s = 0.0
        self._taken_bytes = 0

    def wait(self, now: float, unsent: int) -> None:
        """Begin to wait for the client."""
        self.since, self._unsent = now, unsent

    def go_on(self, now: float, unsent: int) -> None:
        """End the wait: the client has taken enough."""
        self._waited_s += now - self.since
        self._taken_bytes += max(0, self._unsent - unsent)

    def too_slow(self, now: float, unsent: int, *, window_s: float, bytes_per_s: float) -> bool:
        """Tell, while the client is waited for, whether it took less than that in all the waiting of a window.

        The waits of many pauses make a window, so taking a little now and then is no way to hold on.
        """
        self.go_on(now, unsent)
        self.wait(now, unsent)
        if self._waited_s <= window_s:
            return False
        slow = self._taken_bytes < bytes_per_s * self._waited_s
        self._waited_s, self._taken_bytes = 0.0, 0
        return slow
