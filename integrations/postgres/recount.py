"""What counting again reads of one cell's ledger: pages in the order of keys, so that any can be read again."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from domain.errors import DomainError, ErrorCode
from domain.recount import BallotRow, BatchKey, add_counts
from domain.tally import BALLOTS, Counts
from integrations.postgres.failures import ledger_failures
from integrations.postgres.replicas import Reads

PAGE = 10_000  # rows; a few MB
_FIRST_ID = bytes(16)

_KEY = "SELECT wrapped_ballot_key, sealed_at FROM voting.survey WHERE survey_id = $1"
_BALLOTS = """
SELECT ballot_id, gateway_id, number, sealed FROM voting.ballot
WHERE survey_id = $1 AND ballot_id > $2 ORDER BY ballot_id LIMIT $3
"""
_PARTICIPATIONS = """
SELECT nullifier, evidence, region FROM voting.participation
WHERE survey_id = $1 AND nullifier > $2 ORDER BY nullifier LIMIT $3
"""
_BATCHES = """
SELECT gateway_id, number, input_digest, outcomes, participations_root, ballots_root FROM voting.batch
WHERE (gateway_id, number) > ($2, $3) AND EXISTS (
    SELECT FROM voting.batch_count AS counted
    WHERE counted.survey_id = $1 AND counted.gateway_id = batch.gateway_id AND counted.number = batch.number
) ORDER BY gateway_id, number LIMIT $4
"""
_COUNTS = """
SELECT region, NULL AS option_id, sum(ballots) AS votes FROM voting.batch_count WHERE survey_id = $1 GROUP BY region
UNION ALL
SELECT region, choice.option_id, sum(choice.votes::bigint)
FROM voting.batch_count CROSS JOIN LATERAL jsonb_each_text(options) AS choice (option_id, votes)
WHERE survey_id = $1 GROUP BY region, choice.option_id
"""
_BATCH_COUNTS = "SELECT gateway_id, number, region, ballots, options FROM voting.batch_count WHERE survey_id = $1"


class ParticipationRow(NamedTuple):
    """A participation as its leaf needs it; a tuple, as `BallotRow`."""

    nullifier: bytes
    evidence: bytes
    region: str


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch as its leaf needs it."""

    key: BatchKey
    input_digest: bytes
    outcomes: bytes
    participations_root: bytes
    ballots_root: bytes


class RecountLedger:
    """Reads a sealed survey of one cell, whose rows stay as they are, so that any page may come from the standby.

    Made for the role `comitia_certification`.

    All calls raise DomainError `ledger_unavailable`.
    """

    def __init__(self, pool: Reads, *, page: int = PAGE) -> None:
        self._pool = pool
        self._page = page

    async def wrapped_key(self, survey_id: str) -> bytes:
        """Return the wrapped ballot key. Raises `survey_not_found`; `key_destroyed` after the survey's retention."""
        with ledger_failures():
            row = await self._pool.fetchrow(_KEY, survey_id)
        if row is None or row["sealed_at"] is None:
            raise DomainError(ErrorCode.SURVEY_NOT_FOUND, "not here, or not sealed")
        if not row["wrapped_ballot_key"]:
            raise DomainError(ErrorCode.KEY_DESTROYED, "the survey's retention has ended")
        return bytes(row["wrapped_ballot_key"])

    async def ballots(self, survey_id: str, after: bytes = b"") -> AsyncIterator[list[BallotRow]]:
        """Return the ballots in the order of their ids, page by page, behind the one that `after` names."""
        last = after or _FIRST_ID
        while True:
            with ledger_failures():
                rows = await self._pool.fetch(_BALLOTS, survey_id, UUID(bytes=last), self._page)
            if not rows:
                return
            yield [BallotRow(row["ballot_id"].bytes, row["gateway_id"], row["number"], row["sealed"]) for row in rows]
            last = rows[-1]["ballot_id"].bytes

    async def participations(self, survey_id: str) -> AsyncIterator[list[ParticipationRow]]:
        """Return the participations in the order of their nullifiers, page by page."""
        last = b""
        while True:
            with ledger_failures():
                rows = await self._pool.fetch(_PARTICIPATIONS, survey_id, last, self._page)
            if not rows:
                return
            yield [ParticipationRow(row["nullifier"], row["evidence"], row["region"]) for row in rows]
            last = rows[-1]["nullifier"]

    async def batches(self, survey_id: str) -> AsyncIterator[list[BatchRow]]:
        """Return the batches that count for the survey, by gateway and number, page by page."""
        gateway, number = b"", 0
        while True:
            with ledger_failures():
                rows = await self._pool.fetch(_BATCHES, survey_id, gateway, number, self._page)
            if not rows:
                return
            yield [
                BatchRow(
                    (row["gateway_id"], row["number"]),
                    row["input_digest"],
                    row["outcomes"],
                    row["participations_root"],
                    row["ballots_root"],
                )
                for row in rows
            ]
            gateway, number = rows[-1]["gateway_id"], rows[-1]["number"]

    async def counts(self, survey_id: str) -> Counts:
        """Return what the batches counted, added up."""
        with ledger_failures():
            rows = await self._pool.fetch(_COUNTS, survey_id)
        return {(row["region"], row["option_id"] or BALLOTS): int(row["votes"]) for row in rows}

    async def counts_by_batch(self, survey_id: str) -> dict[BatchKey, Counts]:
        """Return what each batch counted."""
        found: dict[BatchKey, Counts] = {}
        with ledger_failures():
            async with self._pool.acquire() as connection, connection.transaction():
                async for row in connection.cursor(_BATCH_COUNTS, survey_id, prefetch=PAGE):
                    counts = found.setdefault((row["gateway_id"], row["number"]), {})
                    region = row["region"]
                    add_counts(counts, {(region, BALLOTS): row["ballots"]})
                    add_counts(counts, {(region, option): n for option, n in json.loads(row["options"]).items()})
        return found
