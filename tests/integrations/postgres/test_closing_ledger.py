"""Draining a real ledger: what is recorded, what runs, what was never started, and what is lost."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio
from temporalio.testing import ActivityEnvironment

from activities.draining import ClosingCell, DrainActivities
from domain.contracts.certification import CellSurveyReference, DrainedCell
from domain.contracts.voting import Outcome, RecordedVotes, SubmitVotesInput
from domain.draining import CLOCKS_AGREE_WITHIN, BatchExecution
from domain.ids import BatchId, batch_of_workflow_id
from integrations.postgres.closing_ledger import PostgresClosingLedger
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import CERTIFICATION
from tests.conftest import OwnerPool, SettingsFor
from tests.voting_world import Booth, OpenBooth

CELL = "eu"
NOW = datetime.now(UTC)
START, END = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
INSIDE = END - timedelta(minutes=1)


class Executions:
    """Temporal's word on batches; what it is not told of was never started."""

    def __init__(self) -> None:
        self.known: dict[str, BatchExecution] = {}
        self.asked: list[str] = []

    async def describe(self, batch: BatchId) -> BatchExecution | None:
        self.asked.append(str(batch))
        return self.known.get(str(batch))

    async def running(self, before: datetime) -> set[BatchId]:
        return {
            batch_of_workflow_id(name)
            for name, execution in self.known.items()
            if execution.is_open and execution.started_at < before
        }


class Drain:
    """A survey that ended an hour ago, in a cell with one gateway from before its end."""

    def __init__(self, booth: Booth, owner: asyncpg.Pool, pool: asyncpg.Pool) -> None:
        self.booth = booth
        self.gateway = secrets.token_bytes(16)
        self.executions = Executions()
        self._owner = owner
        self._activities = DrainActivities({CELL: ClosingCell(PostgresClosingLedger(pool), self.executions)})
        self.heartbeats: list[object] = []
        self.began = NOW  # by Temporal's clock

    async def register(self, in_flight: int = 2, at: datetime = START + timedelta(minutes=30)) -> None:
        """Write the gateway down as of an hour and a half ago, or of another instant."""
        await self._owner.execute(
            "INSERT INTO voting.gateway (gateway_id, build, batches_in_flight, registered_at) VALUES ($1, 'x', $2, $3)",
            self.gateway,
            in_flight,
            at,
        )

    async def record(self, *numbers: int) -> None:
        """Record empty batches of these numbers."""
        await self._owner.executemany(
            "INSERT INTO voting.batch (gateway_id, number, input_digest, outcomes, participations_root, ballots_root, "
            "accepted_at) VALUES ($1, $2, $3, '', $3, $3, now())",
            [(self.gateway, number, bytes(32)) for number in numbers],
        )

    def name(self, number: int) -> str:
        return f"{self.gateway.hex()}-{number}"

    def runs(self, number: int, started_at: datetime = INSIDE, *, status: str = "running") -> None:
        """Let Temporal have a batch."""
        self.executions.known[self.name(number)] = BatchExecution(started_at, status == "running", status)

    async def run(self, on_heartbeat: object = None) -> DrainedCell:
        """Drain."""
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, started_time=self.began)

        def hear(*details: object) -> None:
            self.heartbeats.append(details)
            if callable(on_heartbeat):
                on_heartbeat(*details)

        environment.on_heartbeat = hear
        drained: DrainedCell = await environment.run(
            self._activities.drain_cell, CellSurveyReference(cell=CELL, survey_id=self.booth.survey.id)
        )
        return drained

    def asked(self) -> set[int]:
        """Return the numbers of our gateway that Temporal was asked for."""
        ours = [name for name in self.executions.asked if name.startswith(self.gateway.hex())]
        return {int(name.rpartition("-")[2]) for name in ours}


@pytest_asyncio.fixture(loop_scope="session")
async def drain(booth_of: OpenBooth, owner_pool: OwnerPool, settings_for: SettingsFor) -> AsyncIterator[Drain]:
    settings = settings_for(CERTIFICATION)
    pool = await open_pool(settings.cells[CELL].database, settings, CERTIFICATION, size=2)
    yield Drain(await booth_of(start_at=START, finish_at=END), await owner_pool(CELL), pool)
    await pool.close()


async def test_a_gateway_with_every_number_recorded_is_drained(drain: Drain) -> None:
    await drain.register()
    await drain.record(1, 2, 3)
    drained = await drain.run()
    assert (drained.closed_at, drained.differences) == (END, ())
    assert drain.asked() == {4, 5}


async def test_holes_are_asked_for_and_counted_where_nothing_was_started(drain: Drain) -> None:
    await drain.register(in_flight=1)
    await drain.record(1, 4)
    drain.runs(3, END)  # durable at the end: its votes are refused
    drained = await drain.run()
    assert drained.never_started == 1
    assert drain.asked() == {2, 3, 5}


async def test_a_batch_that_runs_is_waited_for_until_it_is_recorded(drain: Drain) -> None:
    await drain.register()
    await drain.record(1)
    drain.runs(3)
    waited = []

    def end_it(*details: object) -> None:
        if details == (f"batch {drain.name(3)}",):
            waited.append(details)
            drain.runs(3, status="completed")

    async def recorded_meanwhile(batch: BatchId) -> BatchExecution | None:
        found = drain.executions.known.get(str(batch))
        if found is not None and not found.is_open:
            await drain.record(2, 3)
            drain.executions.known.clear()
        return found

    drain.executions.describe = recorded_meanwhile  # type: ignore[method-assign]
    assert (await drain.run(end_it)).differences == ()
    assert len(waited) == 1


async def test_a_database_whose_clock_is_ahead_does_not_end_a_survey(
    drain: Drain, caplog: pytest.LogCaptureFixture
) -> None:
    drain.began = END + CLOCKS_AGREE_WITHIN - timedelta(seconds=1)
    await drain.register()
    assert (await drain.run()).closed_at == END
    assert drain.heartbeats.count(("the end",)) > 1
    (said,) = [record for record in caplog.records if record.message.startswith("cell_clock_differs")]
    assert vars(said)["cell"] == CELL


async def test_a_batch_that_ended_without_a_row_is_named(drain: Drain) -> None:
    await drain.register(in_flight=1)
    await drain.record(1, 3)
    drain.runs(2, status="terminated")
    drain.runs(4, status="completed")
    drained = await drain.run()
    assert [(found.kind, found.row) for found in drained.differences] == [
        ("batch_missing", f"batch {drain.name(2)}"),
        ("batch_missing", f"batch {drain.name(4)}"),
    ]
    assert drain.asked() == {2, 4, 5}  # what ended was in flight no longer: one further could be


async def test_a_batch_of_a_gateway_that_a_restored_ledger_does_not_know_is_waited_for(drain: Drain) -> None:
    booth = drain.booth
    batch = SubmitVotesInput(cell=CELL, gateway_id=drain.gateway, number=7, votes=(booth.vote(),))
    drain.runs(7)
    drain.runs(6)
    recording: list[asyncio.Task[RecordedVotes]] = []

    def end_both(_: object) -> None:
        drain.runs(7, status="completed")
        drain.runs(6, status="terminated")

    def record_it(*details: object) -> None:
        if not recording and details[0] in {f"batch {drain.name(6)}", f"batch {drain.name(7)}"}:
            recording.append(asyncio.create_task(booth.ledger.record(batch, INSIDE)))
            recording[0].add_done_callback(end_both)

    drained = await drain.run(record_it)
    assert list((await recording[0]).outcomes) == [Outcome.RECORDED]
    assert [found.row for found in drained.differences] == [f"batch {drain.name(6)}"]


async def test_a_lost_batch_of_an_unknown_gateway_is_named(drain: Drain) -> None:
    drain.runs(2)

    def end_it(*details: object) -> None:
        drain.runs(2, status="terminated")

    drained = await drain.run(end_it)
    assert [found.row for found in drained.differences] == [f"batch {drain.name(2)}"]


async def test_a_gateway_that_was_written_down_by_a_clock_that_was_ahead_is_asked_for(drain: Drain) -> None:
    await drain.register(at=END + timedelta(minutes=59))
    drain.runs(1)
    waited = []

    def end_it(*details: object) -> None:
        if details == (f"batch {drain.name(1)}",):
            waited.append(details)
            drain.runs(1, status="terminated")

    assert [found.row for found in (await drain.run(end_it)).differences] == [f"batch {drain.name(1)}"]
    assert len(waited) == 1


async def test_a_gateway_from_after_the_end_holds_up_nothing(drain: Drain) -> None:
    await drain.register(at=END + timedelta(seconds=10))
    drain.runs(1, END + timedelta(seconds=11))
    assert (await drain.run()).differences == ()


@pytest.mark.parametrize("started_at", [START - timedelta(seconds=1), END, END + timedelta(seconds=1)])
async def test_a_batch_from_outside_the_window_holds_up_nothing(drain: Drain, started_at: datetime) -> None:
    await drain.register()
    drain.runs(1, started_at)
    drain.runs(2, started_at, status="terminated")
    assert (await drain.run()).differences == ()
