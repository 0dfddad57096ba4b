"""Writes batches straight into a ledger, as recording does but faster: true evidence, sealed ballots, true roots."""

import json
import secrets
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from benchmarks.ground import Ground
from benchmarks.voters import REGIONS
from domain import merkle
from domain.ballots import Answer
from domain.contracts.surveys import Survey
from domain.contracts.voting import BatchSummary, RegionCounts
from domain.eligibility import evidence_message
from domain.framing import framed
from domain.ids import BatchId
from domain.recording import ballot_leaf
from integrations.keys.purposes import EVIDENCE
from integrations.keys.signing import Ed25519Signer
from integrations.postgres.voting_surveys import VotingSurveys

BATCH = 250  # votes: what a gateway under load makes

_WRITE = (
    "INSERT INTO voting.batch (gateway_id, number, input_digest, outcomes, participations_root, ballots_root, "
    "accepted_at) VALUES ($1, $2, $3, $4, $5, $6, now())"
)
_COUNT = (
    "INSERT INTO voting.batch_count (gateway_id, number, survey_id, region, ballots, options) "
    "VALUES ($1, $2, $3, $4, $5, $6::jsonb)"
)


@dataclass(frozen=True, slots=True)
class Participation:
    """Somebody who took part."""

    nullifier: bytes
    region: str
    evidence: bytes


@dataclass(slots=True)
class Wrong:
    """What a batch has that it must not have; nothing, as it stands."""

    participations_root: bytes | None = None
    ballots_root: bytes | None = None
    without_ballot: bool = False
    without_participation: bool = False
    without_entry: bool = False
    counted: dict[str, int] = field(default_factory=dict)


class Filler:
    """Writes the batches of one gateway in one cell."""

    def __init__(self, ground: Ground, cell: str, pool: asyncpg.Pool, survey: Survey) -> None:
        self._ground = ground
        self.cell = cell
        self.pool = pool
        self.survey = survey
        self.gateway_id = secrets.token_bytes(16)
        self._number = 0
        self._signer = Ed25519Signer(ground.kms, EVIDENCE)
        self._sealed: list[tuple[str, bytes]] = []

    async def open(self) -> None:
        """Register the gateway, take up the keys, and seal a few hundred ballots: no two rows need differ in them."""
        await self._signer.refresh()
        await self.pool.execute(
            "INSERT INTO voting.gateway (gateway_id, build) VALUES ($1, 'benchmark')", self.gateway_id
        )
        known = await VotingSurveys(self.pool, self._ground.kms).get(self.survey.id)
        assert known is not None
        for number in range(BATCH):
            option = self.survey.questions[0].options[number % 4].id
            packed = known.box.rules.pack(REGIONS[number % len(REGIONS)], (Answer("1", (option,)),))
            self._sealed.append((option, known.seal.seal(packed)))

    def person(self, number: int, nullifier: bytes | None = None) -> Participation:
        """Return somebody who was admitted."""
        nullifier, region = nullifier or secrets.token_bytes(32), REGIONS[number % len(REGIONS)]
        message = evidence_message(self.survey.id, nullifier, self.cell, region)
        return Participation(nullifier, region, self._signer.sign(message))

    async def fill(self, votes: int) -> list[BatchSummary]:
        """Write so many votes; return what announcing them says."""
        summaries = []
        for start in range(0, votes, BATCH):
            people = [self.person(number) for number in range(min(BATCH, votes - start))]
            summaries.append((await self.write(people))[1])
        return summaries

    async def write(self, people: Sequence[Participation], wrong: Wrong | None = None) -> tuple[BatchId, BatchSummary]:
        """Write one batch in one transaction."""
        wrong = wrong or Wrong()
        self._number += 1
        batch, survey_id = BatchId(self.gateway_id, self._number), self.survey.id
        rows = sorted(people, key=lambda person: person.nullifier)
        chosen = [self._sealed[place % BATCH] for place in range(len(rows))]
        ballots = sorted((uuid.uuid4(), sealed) for _, sealed in chosen)
        roots = (
            wrong.participations_root
            or merkle.root(
                framed(survey_id.encode(), row.nullifier, row.evidence, row.region.encode()) for row in rows
            ),
            wrong.ballots_root or merkle.root(ballot_leaf(survey_id, ident.bytes, sealed) for ident, sealed in ballots),
        )
        regions = self._regions(rows, wrong)
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.copy_records_to_table(
                "participation",
                schema_name="voting",
                columns=["survey_id", "nullifier", "region", "evidence", "key_mac"],
                records=[
                    (survey_id, row.nullifier, row.region, row.evidence, b"")
                    for row in rows[int(wrong.without_participation) :]
                ],
            )
            await connection.copy_records_to_table(
                "ballot",
                schema_name="voting",
                columns=["survey_id", "ballot_id", "gateway_id", "number", "sealed"],
                records=[
                    (survey_id, ident, batch.gateway_id, batch.number, sealed)
                    for ident, sealed in ballots[int(wrong.without_ballot) :]
                ],
            )
            key = (batch.gateway_id, batch.number)
            await connection.execute(_WRITE, *key, bytes(32), bytes(len(rows)), *roots)
            await connection.executemany(
                _COUNT,
                [(*key, survey_id, found.region, found.ballots, json.dumps(found.options)) for found in regions],
            )
            if not wrong.without_entry:
                await self._note(connection, batch, len(rows), roots)
        summary = BatchSummary(
            cell=self.cell,
            gateway_id=batch.gateway_id,
            number=batch.number,
            survey_id=survey_id,
            regions=regions,
        )
        return batch, summary

    def _regions(self, rows: Sequence[Participation], wrong: Wrong) -> tuple[RegionCounts, ...]:
        counted = wrong.counted or Counter(row.region for row in rows)
        option = self.survey.questions[0].options[0].id
        return tuple(
            RegionCounts(region=region, ballots=ballots, options={option: ballots})
            for region, ballots in sorted(counted.items())
        )

    @staticmethod
    async def _note(
        connection: asyncpg.pool.PoolConnectionProxy, batch: BatchId, votes: int, roots: tuple[bytes, bytes]
    ) -> None:
        body = {
            "batch": str(batch),
            "participations": votes,
            "participationsRoot": roots[0].hex(),
            "ballotsRoot": roots[1].hex(),
        }
        await connection.execute(
            "INSERT INTO audit.entry (kind, body) VALUES ('votes.recorded', $1::jsonb)", json.dumps(body)
        )

    async def stuff_ballot(self, batch: BatchId) -> None:
        """Write a ballot into a batch that was recorded before, as the voting role could."""
        await self.pool.execute(
            "INSERT INTO voting.ballot (survey_id, ballot_id, gateway_id, number, sealed) VALUES ($1, $2, $3, $4, $5)",
            self.survey.id,
            uuid.uuid4(),
            batch.gateway_id,
            batch.number,
            self._sealed[0][1],
        )

    async def invent(self, person: Participation) -> None:
        """Write a participation without a batch."""
        await self.pool.execute(
            "INSERT INTO voting.participation (survey_id, nullifier, region, evidence, key_mac) "
            "VALUES ($1, $2, $3, $4, '')",
            self.survey.id,
            person.nullifier,
            person.region,
            person.evidence,
        )
