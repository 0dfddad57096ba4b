"""A survey in two cells of their own with true voters: evidence that the issuer signed, batches that were recorded."""

import asyncio
import json
import secrets
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
from prometheus_client import CollectorRegistry
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig

from activities.reconciliation import ReconciliationActivities
from comitia.stack.state import StackState
from domain import merkle
from domain.ballots import Answer
from domain.contracts.reconciliation import Difference, ReconcileSurveyInput, ReconciliationReport
from domain.contracts.surveys import Survey
from domain.contracts.voting import BatchSummary, RegionCounts, SealedVote, SubmitVotesInput
from domain.eligibility import evidence_message
from domain.errors import DomainError
from domain.ids import BatchId, reconcile_survey_workflow_id
from domain.recording import ballot_leaf, participation_leaf
from integrations.keys.evidence import EvidenceVerifier
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import EVIDENCE
from integrations.keys.signing import Ed25519Signer
from integrations.platform import IN_FLIGHT
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import RECONCILIATION, TALLY, VOTING
from integrations.settings import Environment, Settings
from integrations.telemetry.metrics import TallyMetrics
from integrations.telemetry.reconciliation_metrics import ReconciliationMetrics
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.worker import sandbox
from tests.voting_world import Booth, open_booth, small_survey, voting_keys
from tests.workers.tally_cells import TallyCell
from workers.reconciliation import compose_activities, open_cell_pools
from workflows.reconcile_survey import ReconcileSurveyWorkflow

REGIONS = ("north", "south")
PATIENCE_S = 180


@dataclass
class PollingPlace:
    """One cell: its booth, its tally, and the gateway that its votes come through."""

    tally: TallyCell
    booth: Booth
    voting: asyncpg.Pool
    signer: Ed25519Signer
    gateway_id: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    number: int = 0

    @property
    def cell(self) -> str:
        return self.tally.name

    @property
    def owner(self) -> asyncpg.Pool:
        return self.tally.owner

    def vote(self, option: str = "1", region: str = REGIONS[0], *, nullifier: bytes | None = None) -> SealedVote:
        """Return the vote of somebody who was admitted."""
        nullifier = nullifier or secrets.token_bytes(32)
        evidence = self.signer.sign(evidence_message(self.booth.survey.id, nullifier, self.cell, region))
        return self.booth.vote(Answer("1", (option,)), nullifier=nullifier, region=region, evidence=evidence)

    async def record(self, *votes: SealedVote, announce: bool = True) -> BatchId:
        """Record one batch, of two votes unless told which."""
        votes = votes or (self.vote("1", "north"), self.vote("2", "south"))
        self.number += 1
        batch = SubmitVotesInput(cell=self.cell, gateway_id=self.gateway_id, number=self.number, votes=votes)
        await self.booth.ledger.register_gateway(self.gateway_id, "test", 1)
        recorded = await self.booth.ledger.record(batch, datetime.now(UTC))
        if announce:
            await self.announce(recorded.summaries)
        return BatchId(self.gateway_id, batch.number)

    async def record_wrongly(self, *votes: SealedVote, **wrong: Any) -> BatchId:
        """Record a batch in one transaction of the voting role, as a recorder would that has a bug, and announce it.

        `wrong` replaces what would be right: `outcomes`, `participations` and `ballots` (how many are written),
        `participations_root`, `ballots_root`, `counted` (region to ballots), `xid`, `entries` (bodies).
        """
        batch = BatchId(self.gateway_id, self.number + 1)
        self.number += 1
        await self.booth.ledger.register_gateway(self.gateway_id, "test", 1)
        votes = votes or (self.vote("1", "north"), self.vote("1", "north"))
        rows = sorted(votes, key=lambda vote: vote.nullifier)
        ballots = sorted((uuid.uuid4(), vote.sealed_answers) for vote in rows)
        survey_id = self.booth.survey.id
        facts = {
            "outcomes": bytes(len(rows)),
            "participations_root": merkle.root(map(participation_leaf, rows)),
            "ballots_root": merkle.root(ballot_leaf(survey_id, ident.bytes, sealed) for ident, sealed in ballots),
            "counted": dict(Counter(vote.region for vote in rows)),
            "participations": len(rows),
            "ballots": len(ballots),
            **wrong,
        }
        entry = {
            "batch": str(batch),
            "participations": len(rows),
            "participationsRoot": facts["participations_root"].hex(),
            "ballotsRoot": facts["ballots_root"].hex(),
        }
        async with self.voting.acquire() as connection, connection.transaction():
            for vote in rows[: facts["participations"]]:
                await connection.execute(
                    "INSERT INTO voting.participation (survey_id, nullifier, region, evidence, key_mac) "
                    "VALUES ($1, $2, $3, $4, '')",
                    survey_id,
                    vote.nullifier,
                    vote.region,
                    vote.evidence,
                )
            for ident, sealed in ballots[: facts["ballots"]]:
                await self.stuff_ballot(connection, batch, ident, sealed)
            await connection.execute(
                "INSERT INTO voting.batch (gateway_id, number, input_digest, outcomes, participations_root, "
                "ballots_root, accepted_at, xid) VALUES ($1, $2, $3, $4, $5, $6, now(), "
                "coalesce($7::bigint::text::xid8, pg_current_xact_id()))",
                batch.gateway_id,
                batch.number,
                bytes(32),
                facts["outcomes"],
                facts["participations_root"],
                facts["ballots_root"],
                facts.get("xid"),
            )
            for region, counted in facts["counted"].items():
                await connection.execute(
                    "INSERT INTO voting.batch_count (gateway_id, number, survey_id, region, ballots, options) "
                    "VALUES ($1, $2, $3, $4, $5, jsonb_build_object('1', $5::int))",
                    batch.gateway_id,
                    batch.number,
                    survey_id,
                    region,
                    counted,
                )
            for body in facts.get("entries", [entry]):
                await connection.execute(
                    "INSERT INTO audit.entry (kind, body) VALUES ('votes.recorded', $1::jsonb)", json.dumps(body)
                )
        regions = tuple(RegionCounts(region=r, ballots=n, options={"1": n}) for r, n in facts["counted"].items())
        summary = BatchSummary(
            cell=self.cell,
            gateway_id=batch.gateway_id,
            number=batch.number,
            survey_id=survey_id,
            regions=regions,
        )
        await self.announce([summary])
        return batch

    async def stuff_ballot(
        self,
        connection: asyncpg.Pool | asyncpg.pool.PoolConnectionProxy,
        batch: BatchId,
        ident: uuid.UUID,
        sealed: bytes,
    ) -> str:
        """Insert a ballot, as the voting role may; return how it is named."""
        await connection.execute(
            "INSERT INTO voting.ballot (survey_id, ballot_id, gateway_id, number, sealed) VALUES ($1, $2, $3, $4, $5)",
            self.booth.survey.id,
            ident,
            batch.gateway_id,
            batch.number,
            sealed,
        )
        return str(ident)

    async def announce(self, summaries: Sequence[BatchSummary]) -> None:
        """Tell the tally, however long the broker takes, as the process of a batch does."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return await self.tally.producer.publish(tuple(summaries))
                except DomainError:
                    await asyncio.sleep(0.2)

    async def everything_is_final(self) -> None:
        """Wait until nothing runs any more that began before now: other tests share the server."""
        begun = await self.owner.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        final = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
        while await self.owner.fetchval(final) < begun:
            await asyncio.sleep(0.02)

    async def tamper(self, table: str, statement: str, *arguments: Any) -> None:
        """Run a statement as whoever owns the database and has switched a table's triggers off."""
        async with self.owner.acquire() as connection, connection.transaction():
            await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            await connection.execute(statement, *arguments)
            await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


@dataclass
class World:
    """A survey, its cells, and reconciliation over the real Temporal."""

    survey: Survey
    places: dict[str, PollingPlace]
    activities: ReconciliationActivities
    temporal: Client
    settings: Settings
    queue: str

    @property
    def one(self) -> PollingPlace:
        return next(iter(self.places.values()))

    @property
    def two(self) -> PollingPlace:
        return list(self.places.values())[1]

    async def start(self, **fields: Any) -> WorkflowHandle[Any, ReconciliationReport]:
        request = ReconcileSurveyInput(survey_id=self.survey.id, cells=tuple(self.places), **fields)
        return await self.temporal.start_workflow(
            ReconcileSurveyWorkflow.run,
            request,
            id=reconcile_survey_workflow_id(self.survey.id, secrets.token_hex(4)),
            task_queue=self.queue,
        )

    async def reconcile(self, **fields: Any) -> ReconciliationReport:
        """Return the report of a pass that begins once everything that was committed before is final."""
        async with asyncio.timeout(PATIENCE_S):
            for place in self.places.values():
                await place.everything_is_final()
            return await self.reconcile_now(**fields)

    async def reconcile_now(self, **fields: Any) -> ReconciliationReport:
        """Return the report of a pass."""
        async with asyncio.timeout(PATIENCE_S):
            return await (await self.start(**fields)).result()


def named(differences: Sequence[Difference]) -> set[tuple[str, ...]]:
    """Return kind, cell and row of each difference."""
    return {
        (
            found.kind.value,
            found.cell,
            *(
                part
                for part in (
                    found.batch,
                    found.ballot,
                    found.participation,
                    found.region,
                    found.option,
                    found.other_cell,
                )
                if part
            ),
        )
        for found in differences
    }


@asynccontextmanager
async def open_world(servers: StackState, cells: list[TallyCell]) -> AsyncIterator[World]:
    """Install a fresh survey in these cells and serve reconciliation of it."""
    base = servers.settings_for(TALLY, VOTING, RECONCILIATION, environment=Environment.TEST)
    settings: Settings = base.model_copy(update={"cells": cells[0].settings.cells})
    keys = voting_keys(settings)
    signer = Ed25519Signer(keys, EVIDENCE)
    await signer.refresh()
    survey = small_survey(regions=REGIONS)
    async with AsyncExitStack() as opened:
        places = {}
        for cell in cells:
            voting = await open_pool(settings.cells[cell.name].database, settings, VOTING, size=4)
            opened.push_async_callback(voting.close)
            booth = await open_booth(cell.name, voting, cell.owner, keys, survey)
            places[cell.name] = PollingPlace(cell, booth, voting, signer)
        pools = await open_cell_pools(settings, opened)
        registry = CollectorRegistry()
        metrics = (ReconciliationMetrics(registry), TallyMetrics(registry))
        activities = compose_activities(settings, pools, EvidenceVerifier(keys), metrics, opened)
        assert settings.platform_temporal is not None
        assert settings.keys_folder is not None
        codec = EncryptionCodec(FileKms(settings.keys_folder, frozenset({IN_FLIGHT})), IN_FLIGHT)
        temporal = await connect(settings.platform_temporal, codec)
        world = World(survey, places, activities, temporal, settings, f"reconciliation-{secrets.token_hex(4)}")
        await opened.enter_async_context(reconciling(world))
        yield world


def reconciling(world: World, *, activities: ReconciliationActivities | None = None) -> Worker:
    """Return a worker of the world's queue; one that replays every task is in `tests/workflows`."""
    return Worker(
        world.temporal,
        task_queue=world.queue,
        workflows=[ReconcileSurveyWorkflow],
        activities=(activities or world.activities).all(),
        workflow_runner=sandbox(),
        deployment_config=WorkerDeploymentConfig(
            version=WorkerDeploymentVersion("tests", "1"), use_worker_versioning=False
        ),
    )
