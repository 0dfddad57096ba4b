"""What is looked at in a database that was brought back, before anybody uses it."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

import asyncpg

from domain import merkle
from domain.framing import framed
from domain.ids import BatchId
from domain.recording import ballot_leaf
from integrations.addresses import Address
from integrations.postgres.migrate import VERSION_SCHEMA, Tree, heads
from integrations.postgres.provision import Administrator

_APPEND_ONLY = ("gateway", "participation", "batch", "ballot", "batch_count")
_TRIGGERS = (
    *(f"voting_{table}_append_only" for table in _APPEND_ONLY),
    "audit_entry_append_only",
    "audit_leaf_append_only",
    "audit_entry_of_its_writer",
)
_CONSTRAINTS = (
    "uq_participation_survey_nullifier",
    "ck_participation_nullifier",
    "ck_participation_evidence",
    "pk_batch",
    "fk_batch_gateway",
    "pk_ballot",
    "pk_batch_count",
    "fk_batch_count_batch",
    "ck_batch_count_options",
    "pk_entry",
)
_PRESENT = """
SELECT tgname::text AS name FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A')
UNION ALL SELECT conname::text FROM pg_constraint WHERE convalidated
"""
_SUMS = """
SELECT survey_id, (SELECT count(*) FROM voting.participation AS p WHERE p.survey_id = s.survey_id) AS participations,
    (SELECT count(*) FROM voting.ballot AS b WHERE b.survey_id = s.survey_id) AS ballots,
    (SELECT coalesce(sum(ballots), 0) FROM voting.batch_count AS c WHERE c.survey_id = s.survey_id)::bigint AS counted
FROM voting.survey AS s ORDER BY survey_id
"""
_BATCHES = """
SELECT gateway_id, number, participations_root, ballots_root,
    xid::text::bigint & 4294967295 AS short, body->>'participationsRoot' AS told_participations,
    body->>'ballotsRoot' AS told_ballots
FROM voting.batch LEFT JOIN audit.entry USING (xid) WHERE kind = 'votes.recorded' OR kind IS NULL
"""
# Rows of one batch are those of one transaction, in the order in which their tree was built.
_PARTICIPATIONS = """
SELECT xmin::text::bigint AS short, survey_id, nullifier, evidence, region FROM voting.participation
ORDER BY short, survey_id COLLATE "C", nullifier
"""
_BALLOTS = """
SELECT gateway_id, number, survey_id, ballot_id, sealed FROM voting.ballot ORDER BY gateway_id, number, ballot_id
"""
_PREFETCH = 5000
_LAST = "SELECT max(recorded_at) FROM voting.batch"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked, and what was seen."""

    what: str
    passed: bool
    seen: str


class Inspection:
    """Reads one database as administrator, in one snapshot; changes nothing."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def structure(self, tree: Tree) -> list[Finding]:
        """Check the revision, and for a cell that triggers and constraints are there and in force."""
        reached = await self._connection.fetchval(f"SELECT version_num FROM {VERSION_SCHEMA}.revision")  # noqa: S608
        known = heads(tree)
        found = [Finding("revision", reached in known, f"{reached}, newest {', '.join(known)}")]
        if tree is Tree.CELL:
            present = {row["name"] for row in await self._connection.fetch(_PRESENT)}
            for what, wanted in (("append-only triggers", _TRIGGERS), ("constraints", _CONSTRAINTS)):
                missing = [name for name in wanted if name not in present]
                found.append(
                    Finding(what, not missing, f"{len(wanted) - len(missing)} of {len(wanted)} {missing or ''}")
                )
        return found

    async def ledger(self) -> list[Finding]:
        """Check the sums of every survey, and the roots of every batch in the tables and in its audit entry."""
        sums = await self._connection.fetch(_SUMS)
        unequal = [row["survey_id"] for row in sums if len({row["participations"], row["ballots"], row["counted"]}) > 1]
        votes = sum(row["participations"] for row in sums)
        batches = await self._connection.fetch(_BATCHES)
        participations = {short: root async for short, root in self._participation_roots()}
        ballots = {key: root async for key, root in self._ballot_roots()}
        wrong, untold = 0, 0
        for row in batches:
            key = (row["gateway_id"], row["number"])
            wrong += row["participations_root"] != participations.pop(row["short"], merkle.EMPTY_ROOT)
            wrong += row["ballots_root"] != ballots.pop(key, merkle.EMPTY_ROOT)
            told = (row["told_participations"], row["told_ballots"])
            untold += told != (row["participations_root"].hex(), row["ballots_root"].hex())
        stray = len(participations) + len(ballots)
        last: datetime | None = await self._connection.fetchval(_LAST)
        return [
            Finding(
                "participations = ballots = counted",
                not unequal,
                f"{votes} votes of {len(sums)} surveys {unequal or ''}",
            ),
            Finding("Merkle roots of batches", not wrong, f"{len(batches)} batches, {wrong} wrong; last at {last}"),
            Finding("rows that belong to no batch", not stray, str(stray)),
            Finding("audit entries say the same roots", not untold, f"{untold} do not"),
        ]

    async def acknowledged(self, batches: Collection[BatchId]) -> Finding:
        """Check that every one of these batches is recorded."""
        rows = await self._connection.fetch(
            "SELECT gateway_id, number FROM voting.batch JOIN unnest($1::bytea[], $2::bigint[]) "
            "AS noted (gateway_id, number) USING (gateway_id, number)",
            [batch.gateway_id for batch in batches],
            [batch.number for batch in batches],
        )
        missing = len(set(batches)) - len({(row["gateway_id"], row["number"]) for row in rows})
        return Finding("batches of the notes", not missing, f"{len(set(batches))} noted, {missing} missing")

    async def _participation_roots(self) -> AsyncIterator[tuple[int, bytes]]:
        async for short, leaves in self._grouped(_PARTICIPATIONS, itemgetter("short"), _participation_leaf):
            yield short, merkle.root(leaves)

    async def _ballot_roots(self) -> AsyncIterator[tuple[tuple[bytes, int], bytes]]:
        async for key, leaves in self._grouped(_BALLOTS, itemgetter("gateway_id", "number"), _ballot_leaf):
            yield key, merkle.root(leaves)

    async def _grouped(
        self, statement: str, key_of: Callable[[Any], Any], leaf_of: Callable[[Any], bytes]
    ) -> AsyncIterator[tuple[Any, list[bytes]]]:
        key, leaves = None, list[bytes]()
        async for row in self._connection.cursor(statement, prefetch=_PREFETCH):
            if leaves and key_of(row) != key:
                yield key, leaves
                leaves = []
            key = key_of(row)
            leaves.append(leaf_of(row))
        if leaves:
            yield key, leaves


def _participation_leaf(row: Any) -> bytes:
    return framed(row["survey_id"].encode(), row["nullifier"], row["evidence"], row["region"].encode())


def _ballot_leaf(row: Any) -> bytes:
    return ballot_leaf(row["survey_id"], row["ballot_id"].bytes, row["sealed"])


@asynccontextmanager
async def inspecting(address: Address, administrator: Administrator, database: str) -> AsyncIterator[Inspection]:
    """Read a database in one snapshot that changes nothing."""
    connection = await asyncpg.connect(
        host=address.host,
        port=address.port,
        user=administrator.name,
        password=administrator.password,
        database=database,
        ssl="disable",
        timeout=10,
    )
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield Inspection(connection)
    finally:
        await connection.close()
