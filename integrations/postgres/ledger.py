"""The ledger of one cell: a batch of votes becomes participations, ballots, counts and an audit entry, or nothing."""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from time import perf_counter

import asyncpg
import structlog
from opentelemetry.trace import NoOpTracer, Tracer

from domain import merkle
from domain.contracts.voting import (
    BatchSummary,
    Outcome,
    RecordedVotes,
    RegionCounts,
    SealedVote,
    SubmitVotesInput,
)
from domain.draining import BATCHES_IN_FLIGHT_MAX
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId
from domain.recording import (
    BallotBox,
    BatchRecording,
    VoteKey,
    Window,
    ballot_leaf,
    input_digest,
    participation_leaf,
    same_key,
)
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import ROW_ERRORS, ledger_failures
from integrations.postgres.voting_surveys import VotingSurveys
from integrations.telemetry.tracing import query_span

log = structlog.get_logger()

_WINDOWS = """
SELECT survey_id, start_at, finish_at, sealed_at IS NOT NULL AS sealed
FROM voting.survey WHERE survey_id = ANY($1::text[]) ORDER BY survey_id FOR SHARE
"""
_CLAIM = """
INSERT INTO voting.participation (survey_id, nullifier, region, evidence, key_mac)
SELECT survey_id, nullifier, region, evidence, key_mac
FROM unnest($1::text[], $2::bytea[], $3::text[], $4::bytea[], $5::bytea[])
    AS claim (survey_id, nullifier, region, evidence, key_mac)
ON CONFLICT ON CONSTRAINT uq_participation_survey_nullifier DO NOTHING
RETURNING survey_id, nullifier
"""
_EARLIER = """
SELECT survey_id, nullifier, key_mac
FROM voting.participation JOIN unnest($1::text[], $2::bytea[]) AS claim (survey_id, nullifier)
    USING (survey_id, nullifier)
"""
_RECORD = """
WITH batch AS (
    INSERT INTO voting.batch
        (gateway_id, number, input_digest, outcomes, participations_root, ballots_root, accepted_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
), ballots AS (
    INSERT INTO voting.ballot (survey_id, ballot_id, gateway_id, number, sealed)
    SELECT survey_id, ballot_id, $1, $2, sealed
    FROM unnest($8::text[], $9::uuid[], $10::bytea[]) AS ballot (survey_id, ballot_id, sealed)
), counts AS (
    INSERT INTO voting.batch_count (gateway_id, number, survey_id, region, ballots, options)
    SELECT $1, $2, survey_id, region, ballots, options
    FROM unnest($11::text[], $12::text[], $13::int[], $14::jsonb[]) AS count (survey_id, region, ballots, options)
)
INSERT INTO audit.entry (kind, body) VALUES ('votes.recorded', $15::jsonb)
"""
_BATCH = "SELECT input_digest, outcomes FROM voting.batch WHERE gateway_id = $1 AND number = $2"
_COUNTS = """
SELECT survey_id, region, ballots, options FROM voting.batch_count
WHERE gateway_id = $1 AND number = $2 ORDER BY survey_id, region
"""
_NOTE = "INSERT INTO audit.entry (kind, body) VALUES ($1, $2::jsonb)"
_BATCH_KEYS = {"pk_batch", "pk_batch_count"}  # one statement inserts both, in no promised order
_GATEWAY_KEY = "fk_batch_gateway"
_REGISTER = """
INSERT INTO voting.gateway (gateway_id, build, batches_in_flight) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""


class _RecordedBeforeError(Exception):
    """The batch's key is taken: this batch was recorded before, or is this instant by somebody else."""


class _UnknownGatewayError(Exception):
    """The ledger has no row of the batch's gateway: it was restored to a moment before that was written down."""


class PostgresLedger:
    """Implements `VoteLedger` for one cell."""

    def __init__(self, pool: asyncpg.Pool, surveys: VotingSurveys, tracer: Tracer | None = None) -> None:
        self._pool = pool
        self._surveys = surveys
        self._tracer = tracer or NoOpTracer()

    async def register_gateway(self, gateway_id: bytes, build: str, batches_in_flight: int) -> None:
        """Write a gateway down before its first batch, with how many it starts before the first is recorded.

        Safe to repeat. A drain looks so far ahead of what it recorded, and no further.

        Raises:
            DomainError: `ledger_unavailable`.
        """
        with ledger_failures():
            async with acknowledged(self._pool) as connection:
                await connection.execute(_REGISTER, gateway_id, build, batches_in_flight)

    async def record(self, batch: SubmitVotesInput, accepted_at: datetime) -> RecordedVotes:
        """Record a batch once, in one transaction; `accepted_at` is the instant that made it durable.

        Safe to repeat: the same batch returns its first outcomes, and needs no key for that. A row that the database
        refuses is found by halving and refused alone; so are the votes of a survey whose key is destroyed or whose
        definition nobody can read, with a fault written down. A gateway that the ledger does not know is written down
        again: a restore to a moment before its start took its row away, and not what it goes on to accept.

        Raises:
            DomainError: `ledger_unavailable` or `key_unavailable` (retryable), or `batch_digest_mismatch` (a fault).
        """
        began = perf_counter()
        with query_span(self._tracer, "record_votes"):
            recorded = await self._record_or_find(batch, accepted_at)
        surveys = {vote.survey_id for vote in batch.votes}
        log.info(
            "votes_recorded",
            batch_id=_name(batch),
            election_id=surveys.pop() if len(surveys) == 1 else None,
            votes=len(batch.votes),
            new=recorded.outcomes.count(Outcome.RECORDED),
            duration_ms=round(1000 * (perf_counter() - began), 1),
        )
        return recorded

    async def _record_or_find(self, batch: SubmitVotesInput, accepted_at: datetime) -> RecordedVotes:
        boxes, lost = await self._surveys.boxes({vote.survey_id for vote in batch.votes})
        if lost:
            recorded = await self._found(batch)
            if recorded is not None:
                return recorded
            for error in lost.values():
                if error.spec.retryable:
                    raise error
        with ledger_failures():
            try:
                return await self._record_readable(batch, boxes, accepted_at, lost)
            except _UnknownGatewayError:
                log.warning("gateway_registered_again", batch_id=_name(batch))
                # Neither its build nor its limit came with the batch; a drain that looks too far ahead misses nothing.
                await self.register_gateway(batch.gateway_id, "", BATCHES_IN_FLIGHT_MAX)
                return await self._record_readable(batch, boxes, accepted_at, lost)

    async def _record_readable(
        self,
        batch: SubmitVotesInput,
        boxes: Mapping[str, BallotBox],
        accepted_at: datetime,
        lost: Mapping[str, DomainError],
    ) -> RecordedVotes:
        try:
            try:
                return await self._record(BatchRecording(batch, boxes, lost=lost), accepted_at, lost)
            except ROW_ERRORS:
                refused = await self._refused(batch.votes)
                log.warning("votes_refused_by_ledger", batch_id=_name(batch), votes=len(refused))
                return await self._record(BatchRecording(batch, boxes, lost=lost, refused=refused), accepted_at, lost)
        except _RecordedBeforeError:
            return await self._recorded_before(batch)

    async def _record(
        self, recording: BatchRecording, accepted_at: datetime, lost: Mapping[str, DomainError]
    ) -> RecordedVotes:
        batch = recording.batch
        async with self._pool.acquire() as connection, connection.transaction():
            for survey_id, error in lost.items():
                log.error("vote_for_lost_survey", batch_id=_name(batch), election_id=survey_id, code=error.code)
                body = _body(batch, survey=survey_id, code=error.code)
                await connection.execute(_NOTE, "fault.vote_for_lost_survey", body)
            windows = await connection.fetch(_WINDOWS, sorted({vote.survey_id for vote in batch.votes}))
            faults = recording.close_outside(
                {row["survey_id"]: Window(row["start_at"], row["finish_at"], row["sealed"]) for row in windows},
                accepted_at,
            )
            if faults:
                log.error("vote_for_sealed_survey", batch_id=_name(batch), votes=len(faults))
                await connection.execute(_NOTE, "fault.vote_for_sealed_survey", _body(batch, votes=len(faults)))
            await self._claim(connection, recording)
            return await self._write(connection, recording, accepted_at)

    @staticmethod
    async def _claim(connection: asyncpg.pool.PoolConnectionProxy, recording: BatchRecording) -> None:
        claims = recording.claims()
        inserted: set[VoteKey] = set()
        earlier: dict[VoteKey, bytes] = {}
        if claims:
            rows = await connection.fetch(_CLAIM, *_participation_columns(claims))
            inserted = {(row[0], row[1]) for row in rows}
        missing = [key for vote in claims if (key := (vote.survey_id, vote.nullifier)) not in inserted]
        missing += [(vote.survey_id, vote.nullifier) for vote in recording.late]
        if missing:
            rows = await connection.fetch(_EARLIER, [key[0] for key in missing], [key[1] for key in missing])
            earlier = {(row[0], row[1]): row[2] for row in rows}
        recording.settle(inserted, earlier)

    @staticmethod
    async def _write(
        connection: asyncpg.pool.PoolConnectionProxy, recording: BatchRecording, accepted_at: datetime
    ) -> RecordedVotes:
        batch = recording.batch
        new = recording.new_votes()
        # A random id is the shuffle: sorted by it, nothing of the batch's order is left.
        ballots = sorted((uuid.uuid4(), survey_id, sealed) for survey_id, sealed in recording.resealed())
        participations_root = merkle.root(map(participation_leaf, new))
        ballots_root = merkle.root(ballot_leaf(survey_id, ident.bytes, sealed) for ident, survey_id, sealed in ballots)
        summaries = recording.summaries()
        counts = [(summary.survey_id, region) for summary in summaries for region in summary.regions]
        recorded = RecordedVotes(outcomes=recording.outcomes, summaries=summaries)
        try:
            await connection.execute(
                _RECORD,
                batch.gateway_id,
                batch.number,
                input_digest(batch),
                recorded.outcomes,
                participations_root,
                ballots_root,
                accepted_at,
                [survey_id for _, survey_id, _ in ballots],
                [ident for ident, _, _ in ballots],
                [sealed for _, _, sealed in ballots],
                [survey_id for survey_id, _ in counts],
                [region.region for _, region in counts],
                [region.ballots for _, region in counts],
                [json.dumps(region.options) for _, region in counts],
                _body(
                    batch,
                    participations=len(new),
                    participationsRoot=participations_root.hex(),
                    ballotsRoot=ballots_root.hex(),
                ),
            )
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name not in _BATCH_KEYS:
                raise
            raise _RecordedBeforeError from error
        except asyncpg.ForeignKeyViolationError as error:
            if error.constraint_name != _GATEWAY_KEY:
                raise
            raise _UnknownGatewayError from error
        return recorded

    async def _found(self, batch: SubmitVotesInput) -> RecordedVotes | None:
        return await self.find(batch.cell, BatchId(batch.gateway_id, batch.number), digest=input_digest(batch))

    async def _recorded_before(self, batch: SubmitVotesInput) -> RecordedVotes:
        recorded = await self._found(batch)
        if recorded is None:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE, "the batch's key is taken by a row that cannot be read")
        return recorded

    async def find(self, cell: str, batch_id: BatchId, *, digest: bytes | None = None) -> RecordedVotes | None:
        """Return what a recorded batch came to, or None where the ledger has no such batch.

        The answer comes after a commit of its own, which waits for the standby (`DurableConnection`): a row that only
        this server has is never shown.

        Raises:
            DomainError: `ledger_unavailable`, or `batch_digest_mismatch` where `digest` is another batch's.
        """
        with ledger_failures():
            async with acknowledged(self._pool) as connection:
                row = await connection.fetchrow(_BATCH, batch_id.gateway_id, batch_id.number)
                if row is None:
                    return None
                if digest is not None and row["input_digest"] != digest:
                    log.error("batch_digest_mismatch", batch_id=str(batch_id))
                    raise DomainError(ErrorCode.BATCH_DIGEST_MISMATCH, str(batch_id))
                counts = await connection.fetch(_COUNTS, batch_id.gateway_id, batch_id.number)
        return RecordedVotes(outcomes=row["outcomes"], summaries=_summaries(cell, batch_id, counts))

    async def is_recorded(self, survey_id: str, nullifier: bytes, key_mac: bytes) -> bool:
        """Tell whether a vote of this person with this idempotency key (its MAC) is recorded, as `find` would.

        Raises:
            DomainError: `ledger_unavailable`.
        """
        with ledger_failures():
            async with acknowledged(self._pool) as connection:
                row = await connection.fetchrow(_EARLIER, [survey_id], [nullifier])
        return row is not None and same_key(key_mac, row["key_mac"])

    async def _refused(self, votes: Sequence[SealedVote]) -> set[int]:
        """Return the indices of the votes whose rows the database does not take, by halving; nothing is kept."""
        refused: set[int] = set()
        async with self._pool.acquire() as connection:
            whole = connection.transaction()
            await whole.start()
            try:
                halves = [range(len(votes))]
                while halves:
                    part = halves.pop()
                    if await _takes(connection, [votes[index] for index in part]):
                        continue
                    if len(part) == 1:
                        refused.update(part)
                        continue
                    middle = len(part) // 2
                    halves += [part[:middle], part[middle:]]
            finally:
                await whole.rollback()
        return refused


async def _takes(connection: asyncpg.pool.PoolConnectionProxy, votes: Sequence[SealedVote]) -> bool:
    """Tell whether the database takes these participations and ballots; a savepoint takes them out again.

    The write-ahead log and the tables keep what was taken out, in the order in which it came: so in the place of each
    ballot stands one that is as long and says nothing.
    """
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        await connection.execute(_CLAIM, *_participation_columns(votes))
        await connection.execute(
            "INSERT INTO voting.ballot (survey_id, ballot_id, gateway_id, number, sealed) "
            "SELECT survey_id, gen_random_uuid(), '', 0, sealed "
            "FROM unnest($1::text[], $2::bytea[]) AS ballot (survey_id, sealed)",
            [vote.survey_id for vote in votes],
            [bytes(len(vote.sealed_answers)) for vote in votes],
        )
    except ROW_ERRORS:
        return False
    else:
        return True
    finally:
        await savepoint.rollback()


def _participation_columns(
    votes: Sequence[SealedVote],
) -> tuple[list[str], list[bytes], list[str], list[bytes], list[bytes]]:
    return (
        [vote.survey_id for vote in votes],
        [vote.nullifier for vote in votes],
        [vote.region for vote in votes],
        [vote.evidence for vote in votes],
        [vote.key_mac for vote in votes],
    )


def _summaries(cell: str, batch_id: BatchId, counts: Iterable[asyncpg.Record]) -> tuple[BatchSummary, ...]:
    regions: dict[str, list[RegionCounts]] = {}
    for row in counts:
        region = RegionCounts(region=row["region"], ballots=row["ballots"], options=json.loads(row["options"]))
        regions.setdefault(row["survey_id"], []).append(region)
    return tuple(
        BatchSummary(
            cell=cell,
            gateway_id=batch_id.gateway_id,
            number=batch_id.number,
            survey_id=survey_id,
            regions=tuple(found),
        )
        for survey_id, found in regions.items()
    )


def _name(batch: SubmitVotesInput) -> str:
    return str(BatchId(batch.gateway_id, batch.number))


def _body(batch: SubmitVotesInput, **facts: str | int) -> str:
    return json.dumps({"batch": _name(batch), **facts})
