"""Each proof of possession once in its cell, whichever process it is brought to.

A process knows by itself what it has seen (`integrations/keys/replays.py`), and asks its cell's memory for the others.
Where that is away, each process knows its own: nobody is refused for the outage.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from api.grouping import Grouped
from api.shared_calls import SharedCalls
from domain.errors import DomainError, ErrorCode

LIMIT_S: Final = 0.1  # of one answer; a request waits for no more than the group before its own and its own


class ProofMemory(Protocol):
    """Knows the proofs that the processes of a cell have seen."""

    async def use(self, proofs: Sequence[bytes]) -> list[bool]:
        """Remember proofs; return which are new. Raises DomainError `used_proofs_unavailable`."""
        ...


class CellProofs:
    """The proofs of one cell; never fails."""

    def __init__(
        self, cell: str, memory: ProofMemory, *, limit_s: float = LIMIT_S, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._memory = memory
        self._calls = SharedCalls(f"proofs-{cell}", limit_s=limit_s, now=now)
        self._grouped = Grouped(self.use)

    async def use(self, proofs: Sequence[bytes]) -> list[bool]:
        """Remember proofs; return which no other process has seen, as far as can be told."""
        new = await self._calls.ask(lambda: self._memory.use(proofs))
        return [True] * len(proofs) if new is None else new

    def waiting(self) -> int:
        """Return how many proofs wait for the next question."""
        return len(self._grouped)

    async def is_first_use(self, proof: bytes) -> bool:
        """Remember one proof, together with whatever comes at the same time."""
        return await self._grouped.ask(proof)


class UsedProofs:
    """The proofs of every cell; those of whoever has none are the first one's, as their limits are."""

    def __init__(self, cells: Mapping[str, CellProofs]) -> None:
        self._cells = cells
        self._strangers = next(iter(cells.values()), None)

    def of(self, cell: str) -> CellProofs:
        """Return the proofs of a cell."""
        return self._cells[cell]

    async def use(self, proof: bytes, cell: str | None = None) -> None:
        """Use a proof that this process has found good, once in a cell; an empty one is none.

        Raises:
            DomainError: `proof_invalid` where another process has seen it.
        """
        known = self._cells.get(cell or "", self._strangers)
        if proof and known is not None and not await known.is_first_use(proof):
            raise proof_used_before()


def proof_used_before() -> DomainError:
    """Return the refusal of a proof that was used already."""
    return DomainError(ErrorCode.PROOF_INVALID, "the proof was used before")
