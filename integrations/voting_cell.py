"""What every process that records votes opens of one cell."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg
from temporalio.client import Client

from domain.ports import KeyManagement
from integrations.kafka.summaries import SummaryProducer
from integrations.keys.purposes import in_flight
from integrations.postgres.ledger import PostgresLedger
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import VOTING
from integrations.postgres.voting_surveys import VotingSurveys
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec

DEPLOYMENT = "voting"
_STATEMENT_TIMEOUT_S = 4.0  # under the activity's own, so that the driver says what happened


@dataclass(frozen=True, slots=True)
class VotingCellClients:
    """Open clients of one cell, closed with the lifetime that they were opened in."""

    pool: asyncpg.Pool
    surveys: VotingSurveys
    ledger: PostgresLedger
    summaries: SummaryProducer
    codec: EncryptionCodec
    temporal: Client


async def open_voting_cell(
    cell: str, settings: Settings, keys: KeyManagement, lifetime: AsyncExitStack, telemetry: Telemetry
) -> VotingCellClients:
    """Open ledger, broker and Temporal of a cell as role `comitia_voting`.

    Raises:
        NotDurableError: PostgreSQL would acknowledge what a crash can undo.
    """
    addresses = settings.cells[cell]
    watch = telemetry.waiting.watch_pool(cell, VOTING)
    pool = await open_pool(addresses.database, settings, VOTING, watch=watch, command_timeout=_STATEMENT_TIMEOUT_S)
    lifetime.push_async_callback(pool.close)
    surveys = VotingSurveys(pool, keys)
    summaries = SummaryProducer(addresses.kafka, cell, metrics=telemetry.waiting)
    lifetime.push_async_callback(summaries.close)
    codec = EncryptionCodec(keys, in_flight(cell))
    await codec.refresh()
    return VotingCellClients(
        pool=pool,
        surveys=surveys,
        ledger=PostgresLedger(pool, surveys, telemetry.tracing.tracer),
        summaries=summaries,
        codec=codec,
        temporal=await connect(addresses.temporal, codec, telemetry),
    )
