"""What was seen before, in bounded memory: forgetting never lets a replay through."""


class ReplayCache:
    """Remembers identifiers by the second of their issue.

    When it is full the oldest second is forgotten and everything issued at or before it is refused from then on:
    a flood shortens how late a proof may come, it opens nothing. One per process: what other processes have seen is
    asked of the cell's (`api/http/used_proofs.py`), or else what it is a proof for must be idempotent.
    """

    def __init__(self, *, capacity: int = 500_000) -> None:
        self._capacity = capacity
        self._seconds: dict[int, set[bytes]] = {}
        self._count = 0
        self._floor = 0

    def __len__(self) -> int:
        return self._count

    def add(self, identifier: bytes, issued_at: int, oldest: int) -> bool:
        """Remember an identifier issued at a second; return whether it is new and late enough to tell.

        `oldest` is the first second that callers still take: what is older is forgotten here.
        """
        if issued_at <= self._floor:
            return False
        seen = self._seconds.get(issued_at)
        if seen is None:
            seen = self._seconds[issued_at] = set()
            self._forget_before(oldest)
        elif identifier in seen:
            return False
        seen.add(identifier)
        self._count += 1
        if self._count > self._capacity:
            self._forget_before(min(self._seconds) + 1)
        return True

    def _forget_before(self, second: int) -> None:
        for old in [issued_at for issued_at in self._seconds if issued_at < second]:
            self._count -= len(self._seconds.pop(old))
        self._floor = max(self._floor, second - 1)
