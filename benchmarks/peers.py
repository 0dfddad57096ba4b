"""The services that we are compared with, under the same load, with the same proof that nothing was lost or doubled."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg

from benchmarks.baselines.ballots import TABLE
from benchmarks.ground import BASELINES, CELL, Ground
from benchmarks.load.spec import LoadSpec, write_requests
from benchmarks.processes import HOST, PYTHON, CpuWatch, run_load, running
from benchmarks.products import VoteLoad, VotesMeasured
from benchmarks.report import check_equal
from benchmarks.voters import Polling
from comitia.stack.ports import free_port
from domain.ids import new_survey_id
from integrations.keys.purposes import VOTING_TOKEN

_UVICORN = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning", "--host", HOST)
_COUNTS = """
SELECT count(*) AS recorded, count(DISTINCT nullifier) AS voters,
       count(*) FILTER (WHERE answers::jsonb #>> '{answers,0,options,0}' = '2') AS counted
FROM plain_vote WHERE survey_id = $1
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A baseline as it is served: uvicorn with uvloop and httptools, in one process or more."""

    app: str  # module of `benchmarks.baselines`
    processes: int
    pool_size: int = 20  # connections per process

    def __str__(self) -> str:
        """Return how it is served, for the details of a figure."""
        return f"{self.app}, {self.processes} process{'es' if self.processes > 1 else ''}, pool {self.pool_size}"


async def cast_votes_at_peer(ground: Ground, peer: Peer, load: VoteLoad) -> VotesMeasured:
    """Start a baseline, cast votes of different people in a survey that it has not seen, and stop it.

    Raises:
        CheckFailedError: it confirmed another number of votes than it recorded.
    """
    port = free_port([])
    polling = Polling(CELL, new_survey_id(), f"http://{HOST}:{port}")
    wanted = int((load.rate or load.expected) * load.seconds) + load.clients
    path = ground.folder / f"requests-{polling.survey_id}"
    keys = await ground.kms.public_keys(VOTING_TOKEN)
    environment = {
        "BASELINE_DSN": ground.baseline_url(BASELINES[0]),
        "BASELINE_DBOS_URL": ground.baseline_url(BASELINES[1]),
        "BASELINE_ISSUER_KEY": keys[ground.voters.key_id].hex(),
        "BASELINE_PUBLIC_URL": polling.url,
        "BASELINE_POOL_SIZE": str(peer.pool_size),
    }
    connection = await asyncpg.connect(environment["BASELINE_DSN"])
    async with AsyncExitStack() as lifetime:
        lifetime.push_async_callback(connection.close)
        lifetime.callback(path.unlink, missing_ok=True)
        await connection.execute(TABLE)
        process = await lifetime.enter_async_context(
            running(f"bench-{peer.app}", _command(peer, port), ground.log(peer.app), environment, port=port)
        )
        await asyncio.to_thread(write_requests, path, ground.voters.requests(polling, wanted, bound=load.bound))
        assert process.pid is not None
        watch = CpuWatch({**ground.state.pids, peer.app: process.pid})
        watch.start()
        result = await run_load(
            LoadSpec(
                ports=[port],
                requests=str(path),
                connections=load.clients,
                duration_s=load.seconds,
                warmup_s=load.warmup_s,
                rate=load.rate,
            )
        )
        cores = watch.cores()
        row = await connection.fetchrow(_COUNTS, polling.survey_id)
        assert row is not None
        await connection.execute("TRUNCATE plain_vote")
    checked = check_equal(str(peer), sent=result.sent, answered=result.answered, confirmed=result.good, **dict(row))
    return VotesMeasured(result, cores, checked, polling.survey_id)


def _command(peer: Peer, port: int) -> Sequence[str]:
    served = (f"benchmarks.baselines.{peer.app}:app", "--port", str(port), "--workers", str(peer.processes))
    return (PYTHON, "-m", "uvicorn", *served, *_UVICORN)
