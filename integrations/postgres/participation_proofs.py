"""One participation and what proves it, for who knows its nullifier; of the others of its batch, hashes alone."""

from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from domain.errors import ErrorCode
from domain.receipts import Participation
from integrations.postgres.failures import unavailable_as

_BLOCKS: Final = (64, 4096, 2**31)  # before and behind it, as for the voter's own receipt
_PROOF = "SELECT evidence, region, transaction, leaf_hashes FROM audit.participation_proof($1, $2, $3)"
_PLACE = "SELECT audit.place_of_batch($1::text::xid8)"


@dataclass(frozen=True, slots=True)
class ProvableParticipation:
    """A participation, the transaction that wrote it, and the place of its batch's entry; None before it has one."""

    participation: Participation
    transaction: int
    place: int | None


class PostgresParticipationProofs:
    """Reads as the role `comitia_search`, by functions. All calls raise DomainError `directory_unavailable`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def of(self, survey_id: str, nullifier: bytes) -> ProvableParticipation | None:
        """Return the participation of a nullifier, or None."""
        row = await self._row(survey_id, nullifier, 0)
        if row is None:
            return None
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            place: int | None = await self._pool.fetchval(_PLACE, str(row["transaction"]))
        own = Participation(survey_id, nullifier, row["evidence"], row["region"])
        return ProvableParticipation(own, row["transaction"], place)

    async def leaf_hashes(self, own: Participation, count: int) -> list[bytes]:
        """Return those of the batch of a participation, in the order of its root; fewer where there are not `count`."""
        found: list[bytes] = []
        for blocks in _BLOCKS:
            row = await self._row(own.survey_id, own.nullifier, blocks)
            found = [] if row is None else list(row["leaf_hashes"])
            if len(found) >= count:
                break
        return found

    async def _row(self, survey_id: str, nullifier: bytes, blocks: int) -> Any:
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return await self._pool.fetchrow(_PROOF, survey_id, nullifier, blocks)
