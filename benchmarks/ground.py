"""What every line stands on: the real servers with their data in a folder of this run, a fresh survey per load."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp

import asyncpg
import psutil

from benchmarks.voters import REGIONS, Voters
from comitia.stack import postgres
from comitia.stack.servers import Servers
from comitia.stack.state import StackState
from comitia.stack.topology import Topology
from domain.contracts.surveys import InstallSurveyInput, Option, Question, Survey, SurveyWindow
from domain.ids import new_survey_id
from integrations.kafka.summaries import SummaryProducer
from integrations.kafka.topics import BATCH_RECORDED, ensure_topic, topic_durability
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import EVIDENCE, KEK_BALLOT, KEK_ELIGIBILITY, VOTING_TOKEN
from integrations.postgres.cell_surveys import PostgresCellSurveys
from integrations.postgres.pool import DURABILITY, open_pool
from integrations.postgres.roles import OWNER, SURVEYS
from integrations.redis.connection import durability as redis_durability
from integrations.redis.connection import open_redis
from integrations.settings import Settings

CELL = "eu"
BASELINES = ("bench_votes", "bench_dbos")  # databases of the peers, on the same server with the same settings
_PURPOSES = frozenset({VOTING_TOKEN, EVIDENCE, KEK_BALLOT, KEK_ELIGIBILITY})


class Ground:
    """The servers of one run with their databases and keys."""

    def __init__(self, state: StackState, settings: Settings, owner: asyncpg.Pool, kms: FileKms) -> None:
        self.state = state
        self.settings = settings
        self.owner = owner  # the cell's database, as the owner of its schemas
        self.kms = kms
        self.voters = Voters(kms)

    @property
    def folder(self) -> Path:
        """Where this run keeps everything."""
        return self.state.folder

    def log(self, name: str) -> Path:
        """Return where a process of ours writes."""
        return self.folder / "logs" / f"{name}.log"

    def baseline_url(self, database: str) -> str:
        """Return the address of a peer's database; its password is in it."""
        administrator = postgres.read_administrator(postgres.data_folder(self.folder, self.state.stack_id))
        where = f"127.0.0.1:{self.state.ports['postgres']}"
        return f"postgresql://{administrator.name}:{administrator.password}@{where}/{database}"

    async def open_survey(self, cell: str = CELL, survey: Survey | None = None) -> Survey:
        """Install a survey in one cell, open for a day, a fresh one of one question unless told which; return it."""
        now = datetime.now(UTC)
        survey = survey or Survey(
            id=new_survey_id(),
            title="Which one?",
            questions=(
                Question(
                    id="1",
                    title="Which one?",
                    min=1,
                    max=1,
                    order=1,
                    options=tuple(Option(id=str(n), text=f"Option {n}", order=n) for n in range(1, 5)),
                ),
            ),
            regions=REGIONS,
            version=1,
        )
        ballot = await self.kms.generate_data_key(KEK_BALLOT, survey.id)
        eligibility = await self.kms.generate_data_key(KEK_ELIGIBILITY, survey.id)
        pool = await open_pool(self.settings.cells[cell].database, self.settings, SURVEYS, size=1)
        try:
            surveys = PostgresCellSurveys(pool)
            await surveys.install(
                InstallSurveyInput(
                    cell=cell,
                    survey=survey,
                    wrapped_ballot_key=ballot.wrapped,
                    wrapped_eligibility_key=eligibility.wrapped,
                )
            )
            window = SurveyWindow(
                cell=cell, survey_id=survey.id, start_at=now - timedelta(hours=1), finish_at=now + timedelta(days=1)
            )
            await surveys.set_window(window, lambda: datetime.now(UTC))
        finally:
            await pool.close()
        return survey

    async def durability(self) -> dict[str, str]:
        """Return what every server says of how it keeps what it acknowledged; of Temporal, how it was started."""
        found = {f"postgresql {name}": str(await self.owner.fetchval(f"SHOW {name}")) for name in DURABILITY}
        cell = self.settings.cells[CELL]
        redis = open_redis(cell.redis)
        try:
            found |= {f"redis {name}": value for name, value in (await redis_durability(redis)).items()}
        finally:
            await redis.aclose()
        await ensure_topic(cell.kafka, BATCH_RECORDED.of(CELL), BATCH_RECORDED)
        topic = await topic_durability(cell.kafka, BATCH_RECORDED.of(CELL))
        producer = SummaryProducer(cell.kafka, CELL).durability()
        found |= {f"kafka {name}": value for name, value in {**topic, **producer}.items()}
        command = psutil.Process(self.state.pids["temporal"]).cmdline()
        pragma = [after for option, after in pairwise(command) if option == "--sqlite-pragma"]
        return {**found, "temporal sqlite": ", ".join(pragma) or "default"}


@asynccontextmanager
async def prepared_ground(folder: Path) -> AsyncIterator[Ground]:
    """Start the servers in `folder`, with the peers' databases beside ours."""
    async with (
        Servers(folder, environment={}) as servers,
        ground_on(servers.state, servers.state.settings_for(SURVEYS, OWNER)) as ground,
    ):
        yield ground


@asynccontextmanager
async def other_ground(topology: Topology) -> AsyncIterator[tuple[Ground, Servers]]:
    """Start another stack beside the one of the run, and leave nothing of it behind."""
    folder = Path(await asyncio.to_thread(mkdtemp, prefix="comitia-bench-"))
    try:
        async with Servers(folder, environment={}, topology=topology) as servers:
            try:
                async with ground_on(servers.state, servers.state.settings_for(SURVEYS, OWNER)) as ground:
                    yield ground, servers
            finally:
                stack_id = servers.state.stack_id
        postgres.forget(stack_id)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


@asynccontextmanager
async def ground_on(state: StackState, settings: Settings) -> AsyncIterator[Ground]:
    """Use servers that run; `settings` are those of a process that serves as surveys and as owner."""
    assert settings.keys_folder is not None
    pool = await open_pool(settings.cells[CELL].database, settings, OWNER, size=4)
    ground = Ground(state, settings, pool, FileKms(settings.keys_folder, _PURPOSES))
    try:
        await ground.voters.open()
        if not state.topology.standby:  # whose servers hold one database each; peers are measured on the run's own
            await _make_databases(ground)
        yield ground
    finally:
        await pool.close()


async def _make_databases(ground: Ground) -> None:
    connection = await asyncpg.connect(ground.baseline_url("postgres"))
    try:
        for name in BASELINES:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
