"""A whole platform of its own: four servers and every application process, to be used, killed, stopped and read."""

import asyncio
import base64
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
from asyncpg.connect_utils import SessionAttribute
from pydantic import SecretStr
from temporalio.client import Client, WorkflowHandle

from comitia.stack import postgres
from comitia.stack.applications import APPLICATIONS, Application
from comitia.stack.ports import HOST
from comitia.stack.process import ManagedProcess
from comitia.stack.sandboxes import Sandboxes
from comitia.stack.servers import NAMESPACES, Servers
from comitia.stack.source import Source
from comitia.stack.state import CELLS, StackState
from comitia.stack.supervisor import Supervisor
from comitia.stack.topology import Topology
from comitia.tokens import open_access_tokens
from domain.ids import BatchId, submit_votes_workflow_id
from domain.tokens import Role
from integrations.addresses import DatabaseAddress
from integrations.keys.access_tokens import AccessTokens
from integrations.postgres.directory import Directory
from integrations.postgres.migrate import Tree, migrate
from integrations.postgres.pool import pool_on_demand
from integrations.postgres.roles import IDENTITY, OWNER
from integrations.settings import Environment
from tests.end_to_end.collector import SpanCollector, span_collector
from tests.voting_world import TokenDesk, voting_keys

REGION = "ward-1"
DEADLINE_S = 60.0
_LOOK_AGAIN_S = 0.05
# Tests leave their surveys open, and passes over all of them every minute would be most of what a machine does
SELDOM = {"COMITIA_RECONCILE_EVERY_S": "900"}

Json = dict[str, Any]


async def eventually(look: Callable[[], Awaitable[Any]], *, within_s: float = DEADLINE_S, what: str = "") -> Any:
    """Return the first true answer of `look`; fail with the last one at the deadline."""
    give_up_at, last = time.monotonic() + within_s, None
    while time.monotonic() < give_up_at:
        last = await look()
        if last:
            return last
        await asyncio.sleep(_LOOK_AGAIN_S)
    raise AssertionError(f"{what or look} not within {within_s:.0f} s; last: {last!r}")


def claims_of(token: str) -> Json:
    """Return what a token says, unverified."""
    body = token.split(".")[1]
    found: Json = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def nullifier_of(voting_token: str) -> bytes:
    """Return the nullifier that a voting token carries."""
    text = claims_of(voting_token)["nullifier"]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def batch_of(submission_id: str, cell: str) -> str:
    """Return the execution of the batch that a submission's id names: 16 bytes of gateway, 8 of number."""
    content = base64.urlsafe_b64decode(submission_id)
    return submit_votes_workflow_id(cell, BatchId(content[:16], int.from_bytes(content[16:24], "big")))


def draft(title: str, options: Sequence[str] = ("Yes", "No", "Perhaps"), **fields: Any) -> Json:
    """Return the body of a survey with one question of one choice that also takes a text."""
    choices = [{"text": text, "image": None} for text in options]
    question = {"title": f"{title}?", "min": 1, "max": 1, "textMax": 60, "options": choices}
    return {"title": title, "regions": [REGION], "questions": [question], **fields}


@dataclass(frozen=True)
class OpenSurvey:
    """A published survey: its one question and the ids of its options, in order."""

    id: str
    question: str
    options: tuple[str, ...]

    def ballot(self, option: int = 0, text: str = "") -> Json:
        """Return the body of a vote."""
        return {"answers": [{"question": self.question, "options": [self.options[option]], "text": text}]}


@dataclass
class House:
    """Everything that runs, and a client for each service."""

    servers: Servers
    supervisor: Supervisor
    clients: dict[str, httpx.AsyncClient]
    owners: dict[str, asyncpg.Pool]  # by cell, and the catalogue's
    directories: dict[str, Directory]
    temporal: dict[str, Client]  # by namespace, as somebody without our keys reads it
    access: AccessTokens
    desk: TokenDesk
    spans: SpanCollector
    sandboxes: Sandboxes | None = None  # of vendors, where they were asked for

    @property
    def state(self) -> StackState:
        return self.servers.state

    @property
    def logs(self) -> Path:
        return Path(self.state.folder) / "logs"

    def admin(self, role: Role = Role.ADMIN) -> dict[str, str]:
        """Return the header of a member of staff."""
        return {"authorization": f"Bearer {self.access.staff('u_tester', [role])}"}

    async def draft_survey(self, title: str, options: Sequence[str] = ("Yes", "No", "Perhaps"), **fields: Any) -> Json:
        """Create a draft; return its body."""
        made = await self.clients["surveys"].post(
            "/v1/internal/surveys", json=draft(title, options, **fields), headers=self.admin()
        )
        assert made.status_code == 201, made.text
        found: Json = made.json()
        return found

    async def open_survey(
        self, title: str = "A survey", options: Sequence[str] = ("Yes", "No", "Perhaps"), **fields: Any
    ) -> OpenSurvey:
        """Create and publish a survey; return it once every cell has it."""
        body = await self.draft_survey(title, options, **fields)

        async def published() -> bool:
            answer = await self.clients["surveys"].put(
                f"/v1/internal/surveys/{body['id']}/publish", headers=self.admin()
            )
            assert answer.status_code in {200, 503}, answer.text
            return answer.status_code == 200

        await eventually(published, what="published")
        question = body["questions"][0]
        return OpenSurvey(body["id"], question["id"], tuple(option["id"] for option in question["options"]))

    async def finish(self, survey: OpenSurvey) -> None:
        """Finish a survey by hand; return once every cell has its end."""

        async def finished() -> bool:
            done = await self.clients["surveys"].put(f"/v1/internal/surveys/{survey.id}/finish", headers=self.admin())
            assert done.status_code in {200, 503}, done.text  # a busy cell has it a little later
            return done.status_code == 200

        await eventually(finished, what="finished")

    def token(self, survey: OpenSurvey, cell: str = "eu") -> str:
        """Return the voting token of somebody who was admitted, without asking."""
        return self.desk.token(survey.id, cell, region=REGION)

    async def voter(self, cell: str = "eu", **fields: Any) -> tuple[str, str]:
        """Create a voter; return the id and an access token."""
        region = fields.pop("region", REGION)
        (voter_id,) = await self.directories[cell].create_voters(1, region, **fields)
        return voter_id, self.access.voter(voter_id, cell, region)

    async def ask_to_vote(self, survey_id: str, access_token: str, **headers: str) -> httpx.Response:
        """Ask for a voting token."""
        if access_token:
            headers["authorization"] = f"Bearer {access_token}"
        return await self.clients["eligibility"].post(f"/v1/surveys/{survey_id}/voting-token", headers=headers)

    async def cast(self, survey: OpenSurvey, token: str, body: Json | None = None, key: str = "") -> httpx.Response:
        """Cast a vote."""
        headers = {"authorization": f"Bearer {token}"} | ({"idempotency-key": key} if key else {})
        return await self.clients["votes"].post(
            f"/v1/surveys/{survey.id}/vote", json=body or survey.ballot(), headers=headers
        )

    async def results(self, survey: OpenSurvey) -> Json:
        """Return the results as staff see them."""
        found = await self.clients["results"].get(f"/v1/internal/surveys/{survey.id}/results", headers=self.admin())
        assert found.status_code == 200, found.text
        document: Json = found.json()
        return document

    async def participations(self, survey: OpenSurvey) -> set[bytes]:
        """Return the nullifiers that the ledgers of all cells have."""
        found: list[bytes] = []
        for cell in CELLS:
            rows = await self.owners[cell].fetch(
                "SELECT nullifier FROM voting.participation WHERE survey_id = $1", survey.id
            )
            found += [row["nullifier"] for row in rows]
        assert len(found) == len(set(found))
        return set(found)

    async def counts(self, survey: OpenSurvey) -> tuple[int, int, int]:
        """Return participations, ballots and counted ballots of all cells."""
        sums = [0, 0, 0]
        for cell in CELLS:
            row = await self.owners[cell].fetchrow(
                "SELECT (SELECT count(*) FROM voting.participation WHERE survey_id = $1), "
                "(SELECT count(*) FROM voting.ballot WHERE survey_id = $1), "
                "(SELECT coalesce(sum(ballots), 0) FROM voting.batch_count WHERE survey_id = $1)",
                survey.id,
            )
            assert row is not None
            sums = [before + int(value) for before, value in zip(sums, row, strict=True)]
        return sums[0], sums[1], sums[2]

    async def settled(self, survey: OpenSurvey, votes: int) -> None:
        """Wait until ledger and tally both have exactly so many votes, and see that neither has more."""

        async def told() -> bool:
            return bool((await self.results(survey))["totalResponses"] >= votes)

        await eventually(told, what=f"{votes} votes in the results")
        assert await self.counts(survey) == (votes, votes, votes)
        results = await self.results(survey)
        assert results["totalResponses"] == votes
        assert sum(option["votes"] for option in results["questions"][0]["options"]) == votes

    def execution(self, submission_id: str, cell: str) -> WorkflowHandle[Any, Any]:
        """Return the execution that a submission's id names."""
        return self.temporal[cell].get_workflow_handle(batch_of(submission_id, cell))

    @contextmanager
    def frozen(self, server: str) -> Iterator[None]:
        """Keep a server from doing anything: connections stay, no answer comes."""
        pid = self.servers.processes[server].pid
        assert pid is not None
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in family:
            os.kill(process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in family:
                os.kill(process.pid, signal.SIGCONT)

    @asynccontextmanager
    async def locked_ledger(self, survey: OpenSurvey, cell: str) -> AsyncIterator[None]:
        """Keep the ledger of one cell from recording votes of a survey."""
        async with self.locked_survey(survey.id, cell):
            yield

    @asynccontextmanager
    async def locked_survey(self, survey_id: str, cell: str) -> AsyncIterator[None]:
        """The same, of a survey that is known by its id alone."""
        async with self.owners[cell].acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM voting.survey WHERE survey_id = $1 FOR UPDATE", survey_id)
            yield

    @asynccontextmanager
    async def administrator(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of whoever may do anything to PostgreSQL, outside every cell."""
        found = postgres.read_administrator(postgres.data_folder(Path(self.state.folder), self.state.stack_id))
        connection = await asyncpg.connect(
            host=HOST,
            port=self.state.ports["postgres"],
            database="postgres",
            user=found.name,
            password=found.password,
            ssl="disable",
        )
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def cell_cut_off(self, cell: str) -> AsyncIterator[None]:
        """Take one cell's database away: nobody gets in, and who was in is out."""
        async with self.administrator() as connection:
            await connection.execute(f'ALTER DATABASE "{cell}" ALLOW_CONNECTIONS false')
            try:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", cell
                )
                yield
            finally:
                await connection.execute(f'ALTER DATABASE "{cell}" ALLOW_CONNECTIONS true')


async def end_at_once(processes: Iterable[ManagedProcess]) -> None:
    """End processes without their leave: nobody needs what they have, and an orderly stop waits for much."""

    async def end(process: ManagedProcess) -> None:
        if Path(process.command[0]).name == "postgres":  # whose children and shared memory are its own to end
            process.stop_signal = signal.SIGQUIT
            await process.stop()
        else:
            process.stopping = True
            await process.kill()

    await asyncio.gather(*(end(process) for process in processes))


@asynccontextmanager
async def open_house(
    folder: Path,
    *,
    topology: Topology | None = None,
    migrations: Callable[[DatabaseAddress, SecretStr, Tree], object] = migrate,
    applications: Sequence[Application] = APPLICATIONS,
    source: Source | None = None,
    servers: Servers | None = None,
    arrange: Callable[[Supervisor], Awaitable[None]] | None = None,
    traced: bool = True,
    vendors: bool = False,
) -> AsyncIterator[House]:
    """Start everything in `folder`, and leave nothing behind; the code is ours unless another `source` is given.

    `servers` are started instead of the usual ones; `arrange` is called before the first process starts. With `vendors`
    people can register and log in.
    """
    async with AsyncExitStack() as lifetime:
        servers = servers or Servers(folder, environment={}, topology=topology, migrations=migrations)
        await lifetime.enter_async_context(servers)
        lifetime.callback(postgres.forget, servers.state.stack_id)
        settings = servers.state.settings_for(IDENTITY, environment=Environment.TEST)
        access = await open_access_tokens(settings)  # before a process reads the keys
        desk = TokenDesk(voting_keys(settings))
        await desk.open()
        spans = lifetime.enter_context(span_collector())
        tracing = {
            "COMITIA_OTLP_ENDPOINT": spans.url,
            "COMITIA_TRACE_SAMPLE_RATIO": "1",  # what is kept of one request in a hundred must be fit for all
            "OTEL_BSP_SCHEDULE_DELAY": "500",
        }
        sandboxes = Sandboxes(servers.state, environment=Environment.TEST) if vendors else None
        supervisor = Supervisor(
            servers.state,
            environment=Environment.TEST,
            applications=applications,
            source=source,
            more=SELDOM | (tracing if traced else {}) | (sandboxes.variables if sandboxes else {}),
            reserved=sandboxes.ports if sandboxes else (),
        )
        if sandboxes is not None:
            sandboxes.webhooks_url = f"{supervisor.url('webhooks')}/v1/webhooks"
            await lifetime.enter_async_context(sandboxes)
        if arrange is not None:
            await arrange(supervisor)
        await lifetime.enter_async_context(supervisor)
        owners, directories, clients = {}, {}, {}
        for name in (*CELLS, "catalogue"):
            address = servers.state.database(name)
            owners[name] = await asyncpg.create_pool(
                host=[server.host for server in address.servers],
                port=[server.port for server in address.servers],
                target_session_attrs=SessionAttribute.primary,
                database=address.name,
                user=OWNER,
                password=servers.state.password(OWNER),
                ssl="disable",
                min_size=0,
                max_size=4,
            )
            lifetime.callback(owners[name].terminate)
        for cell in CELLS:
            pool = await pool_on_demand(settings.cells[cell].database, settings, IDENTITY, size=2)
            lifetime.callback(pool.terminate)
            directories[cell] = Directory(pool, cell)
        for service in [each.service for each in applications if each.package == "api"]:
            limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
            clients[service] = await lifetime.enter_async_context(
                httpx.AsyncClient(base_url=supervisor.url(service), timeout=30, limits=limits, trust_env=False)
            )
        port = servers.state.ports["temporal"]
        temporal = {name: await Client.connect(f"{HOST}:{port}", namespace=name) for name in NAMESPACES}
        yield House(servers, supervisor, clients, owners, directories, temporal, access, desk, spans, sandboxes)
        await end_at_once(supervisor.processes.values())
        await end_at_once(servers.processes.values())
