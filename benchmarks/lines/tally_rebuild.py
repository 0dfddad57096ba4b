"""The tally rebuilt from a ledger of a million votes, every one in a batch of its own: the worst that it can meet."""

import time
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from benchmarks.ground import CELL, Ground
from benchmarks.products import tallied_votes
from benchmarks.report import Goal, Line, check_equal, line
from benchmarks.run import Run
from benchmarks.voters import CHOICE, REGIONS
from integrations.kafka.consumer import SummaryConsumer
from integrations.postgres.roles import TALLY
from integrations.postgres.tally import LedgerSnapshots, TallyEpochs
from integrations.redis.connection import open_redis
from integrations.redis.tally import TallyStore
from integrations.telemetry.metrics import TallyMetrics
from workers.rebuilding import Rebuilder
from workers.tally import open_tally_pool

_VOTES = 1_000_000
_GATEWAYS = 20

_FILL = (
    """
    INSERT INTO voting.gateway (gateway_id, build)
    SELECT decode(md5($1::text || g), 'hex'), 'benchmark' FROM generate_series(1, $2::int) AS g
    """,
    """
    INSERT INTO voting.batch
        (gateway_id, number, input_digest, outcomes, participations_root, ballots_root, accepted_at)
    SELECT decode(md5($1::text || g), 'hex'), n, sha256('1'), '\\x00', sha256('2'), sha256('3'), now()
    FROM generate_series(1, $2::int) AS g, generate_series(1, $3::int) AS n
    """,
    """
    INSERT INTO voting.batch_count (gateway_id, number, survey_id, region, ballots, options)
    SELECT decode(md5($1::text || g), 'hex'), n, $1::text, ($4::text[])[1 + n % array_length($4::text[], 1)], 1,
           jsonb_build_object($5::text, 1)
    FROM generate_series(1, $2::int) AS g, generate_series(1, $3::int) AS n
    """,
)


async def measure(run: Run) -> list[Line]:
    """Fill the ledger, then rebuild its survey's totals as the worker does when Redis lost them."""
    ground = run.ground
    survey = await ground.open_survey()
    await _fill(ground, survey.id)
    seconds = await _rebuild(ground, survey.id)
    checked = check_equal("the tally", recorded=_VOTES, **(await tallied_votes(ground, survey.id)))
    detail = f"{_VOTES:,} batches of {_GATEWAYS} gateways; {checked}"
    return [line("rebuild of the tally, 1,000,000 batches of one", seconds, "s", Goal(at_most=30), detail)]


async def _fill(ground: Ground, survey_id: str) -> None:
    each = _VOTES // _GATEWAYS
    arguments: list[object] = [survey_id, _GATEWAYS, each, list(REGIONS), CHOICE]
    async with ground.owner.acquire() as connection, connection.transaction():
        for statement, taken in zip(_FILL, (2, 3, 5), strict=True):
            await connection.execute(statement, *arguments[:taken])
    await ground.owner.execute("VACUUM ANALYZE voting.batch_count")


async def _rebuild(ground: Ground, survey_id: str) -> float:
    settings = ground.state.settings_for(TALLY)
    async with AsyncExitStack() as lifetime:
        redis = open_redis(settings.cells[CELL].redis)
        lifetime.push_async_callback(redis.aclose)
        pool = await open_tally_pool(settings, CELL, lifetime)
        consumer = SummaryConsumer(settings.cells[CELL].kafka, CELL)
        lifetime.push_async_callback(consumer.close)
        await consumer.open()
        store = TallyStore(redis, CELL)
        await store.load_scripts()
        metrics = TallyMetrics(CollectorRegistry())
        rebuilder = Rebuilder(store, TallyEpochs(pool), LedgerSnapshots(pool), consumer, metrics)
        began = time.perf_counter()
        await rebuilder.rebuild(survey_id, "benchmark")
        return time.perf_counter() - began
