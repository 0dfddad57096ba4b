"""Passes of reconciliation over the real Temporal: what is away, what is repaired, what stays open."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, Worker, WorkerDeploymentConfig

from activities.reconciliation import CellPorts, ReconciliationActivities
from domain.batch_bits import BatchBits, BatchKey
from domain.contracts.reconciliation import (
    CellChecked,
    Difference,
    DifferenceKind,
    ReconcileSurveyInput,
    ReconciliationReport,
)
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId, new_survey_id, reconcile_survey_workflow_id
from domain.ledger_rows import LedgerTransaction
from domain.ledger_sums import LedgerSums
from domain.reconciliation import EvidenceCheck
from domain.tally import BALLOTS, Counts
from domain.tally_comparison import FoldedTally, LedgerTotals
from integrations.telemetry.reconciliation_metrics import ReconciliationMetrics
from integrations.temporal.worker import sandbox
from tests.conftest import SettingsFor
from workflows.reconcile_survey import ReconcileSurveyWorkflow

CELLS = ("eu", "us")
HISTORIES = Path(__file__).parent.parent / "replay" / "histories"
RECORD = "COMITIA_RECORD_HISTORIES"  # set, the histories made here replace the stored ones
GATEWAY = "00" * 16


def bits(*numbers: int) -> BatchBits:
    found = BatchBits()
    for number in numbers:
        found.add(GATEWAY, number)
    return found


class Pass:
    """A pass over a ledger without a new row."""

    def __init__(self, cell: str, found: list[Difference]) -> None:
        self.cell = cell
        self.found = found
        self.is_installed = True
        self.sums = LedgerSums()
        self.uncompared = False
        self.missed = False

    async def transactions(self, *, everywhere: bool) -> AsyncIterator[list[LedgerTransaction]]:
        assert not everywhere
        none: tuple[list[LedgerTransaction], ...] = ()
        for chunk in none:
            yield chunk

    async def existing(self, batches: Collection[BatchId]) -> frozenset[BatchId]:
        return frozenset(batches)

    async def keep(self, sums: LedgerSums, differences: Sequence[Difference], *, uncompared: bool) -> CellChecked:
        assert not sums.counted
        assert not uncompared
        self.found += differences
        return CellChecked(cell=self.cell, batches=2)


class View:
    """Two batches of a ballot each."""

    totals = LedgerTotals(1, {("north", BALLOTS): 2, ("north", "1"): 2}, bits(1, 2))

    async def batches(self, keys: Collection[BatchKey]) -> dict[BatchKey, tuple[Counts, float]]:
        return {key: ({("north", BALLOTS): 1, ("north", "1"): 1}, 3600.0) for key in keys}


class Ledger:
    """A cell's ledger that is away for so many calls."""

    def __init__(self, cell: str) -> None:
        self.cell = cell
        self.away = 0
        self.found: list[Difference] = []
        self.repaired: list[Difference] = []
        self.kept: set[bytes] = set()

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE, "away")

    @asynccontextmanager
    async def open_pass(self, survey_id: str, *, complete: bool) -> AsyncIterator[Pass]:
        assert survey_id
        assert complete in {True, False}
        self._answer()
        yield Pass(self.cell, self.found)

    @asynccontextmanager
    async def open_totals(self, survey_id: str) -> AsyncIterator[View]:
        assert survey_id
        self._answer()
        yield View()

    async def holds(self, survey_id: str, nullifiers: Sequence[bytes]) -> list[bytes]:
        raise AssertionError

    async def count_participations(self, survey_id: str) -> int:
        assert survey_id
        self._answer()
        return len(self.kept)

    async def nullifiers(self, survey_id: str, first: bytes, end: bytes | None) -> set[bytes]:
        assert (survey_id, first, end) == (survey_id, b"", None)
        return self.kept

    async def keep_differences(
        self,
        survey_id: str,
        kinds: Collection[DifferenceKind],
        differences: Sequence[Difference],
        repaired: Sequence[Difference] = (),
        *,
        compared: bool = False,
    ) -> None:
        assert survey_id
        assert not compared or kinds == {DifferenceKind.NULLIFIER_IN_TWO_CELLS}
        self._answer()
        self.found = [found for found in self.found if found.kind not in kinds] + list(differences)
        self.repaired += repaired

    async def open_differences(self, survey_id: str) -> tuple[Difference, ...]:
        assert survey_id
        self._answer()
        return tuple(self.found)


class Tally:
    """A tally that has folded both batches, or lost something; a rebuild puts it right."""

    def __init__(self) -> None:
        self.folded: FoldedTally | None = FoldedTally(1, View.totals.counts, bits(1, 2))
        self.broker_away = 0
        self.rebuilds = 0

    async def read(self, survey_id: str) -> FoldedTally | None:
        assert survey_id
        return self.folded

    async def rebuild(self, survey_id: str, reason: str) -> int:
        assert (survey_id, reason) == (survey_id, "reconciliation")
        if self.broker_away:
            self.broker_away -= 1
            raise DomainError(ErrorCode.BROKER_UNAVAILABLE, "away")
        self.rebuilds += 1
        self.folded = FoldedTally(2, View.totals.counts, bits(1, 2))
        return 2


class Evidence:
    async def check_for(self, cell: str) -> EvidenceCheck:
        assert cell
        return lambda *_: True


class World:
    def __init__(self, client: Client) -> None:
        self.client = client
        self.survey_id = new_survey_id()
        self.ledgers = {cell: Ledger(cell) for cell in CELLS}
        self.tallies = {cell: Tally() for cell in CELLS}
        self.queue = f"reconciliation-{secrets.token_hex(4)}"
        self.last = ""

    def worker(self, executor: ThreadPoolExecutor) -> Worker:
        cells = {cell: CellPorts(self.ledgers[cell], self.tallies[cell], self.tallies[cell]) for cell in CELLS}
        watch = ReconciliationMetrics(CollectorRegistry())
        return Worker(
            self.client,
            task_queue=self.queue,
            workflows=[ReconcileSurveyWorkflow],
            activities=ReconciliationActivities(cells, Evidence(), watch, executor).all(),
            workflow_runner=sandbox(),
            max_cached_workflows=0,
            deployment_config=WorkerDeploymentConfig(
                WorkerDeploymentVersion("tests", "1"), use_worker_versioning=False
            ),
        )

    async def reconcile(self, name: str = "", **fields: Any) -> ReconciliationReport:
        """Return the report of a pass that replays; keep its history where that was asked for."""
        self.last = reconcile_survey_workflow_id(self.survey_id, secrets.token_hex(4))
        handle = await self.client.start_workflow(
            ReconcileSurveyWorkflow.run,
            ReconcileSurveyInput(survey_id=self.survey_id, cells=CELLS, **fields),
            id=self.last,
            task_queue=self.queue,
        )
        report = await handle.result()
        history = await handle.fetch_history()
        replayer = Replayer(
            workflows=[ReconcileSurveyWorkflow], data_converter=pydantic_data_converter, workflow_runner=sandbox()
        )
        await replayer.replay_workflow(history)
        if name and os.environ.get(RECORD):
            events = _without_traces(json.loads(history.to_json()))
            (HISTORIES / f"{name}.json").write_text(json.dumps(events, indent=1, sort_keys=True) + "\n")
        return report


def _without_traces(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_traces(item) for name, item in value.items() if name != "stackTrace"}
    return [_without_traces(item) for item in value] if isinstance(value, list) else value


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(settings_for: SettingsFor) -> Client:
    address = settings_for().platform_temporal
    assert address is not None
    return await Client.connect(
        f"{address.host}:{address.port}",
        namespace=address.namespace,
        data_converter=pydantic_data_converter,
        identity="tests",
    )


@pytest_asyncio.fixture(loop_scope="session")
async def world(client: Client) -> AsyncIterator[World]:
    opened = World(client)
    with ThreadPoolExecutor(1) as executor:
        async with asyncio.timeout(60), opened.worker(executor):
            yield opened


@pytest.mark.parametrize("complete", [False, True])
async def test_cells_that_agree(world: World, *, complete: bool) -> None:
    report = await world.reconcile(f"reconcile-survey-{'complete' if complete else 'agrees'}", complete=complete)
    assert report.agrees
    assert report.complete == complete
    assert report.repaired == ()
    assert report.checked == tuple(
        CellChecked(
            cell=cell,
            batches=2,
            tallied=2,
            announced=2,
            compared_with=() if complete else tuple(other for other in CELLS if other != cell),
        )
        for cell in CELLS
    )
    assert report.began_at is not None
    assert report.finished_at is not None
    assert report.finished_at >= report.began_at


async def test_a_tally_that_lost_a_batch_is_repaired_and_said_to_be(world: World) -> None:
    world.tallies["us"].folded = FoldedTally(1, {("north", BALLOTS): 1, ("north", "1"): 1}, bits(1))
    report = await world.reconcile("reconcile-survey-repaired", tally_grace_s=0.0)
    assert report.agrees
    assert [(found.kind, found.cell, found.batch) for found in report.repaired] == [
        (DifferenceKind.TALLY_BEHIND, "us", f"{GATEWAY}-2")
    ]
    assert world.ledgers["us"].repaired == list(report.repaired)
    assert (world.tallies["eu"].rebuilds, world.tallies["us"].rebuilds) == (0, 1)


async def test_a_tally_that_cannot_be_repaired_now_stays_open_until_it_is_right(world: World) -> None:
    tally = world.tallies["eu"]
    tally.folded, tally.broker_away = FoldedTally(1, {("north", BALLOTS): 3}, bits(1, 2)), 3
    report = await world.reconcile("reconcile-survey-unrepaired")
    assert not report.agrees
    assert {found.kind for found in report.differences} == {DifferenceKind.TALLY_TOTALS_DIFFER}
    assert report.unreached == ("eu/tally",)
    assert report.repaired == ()
    tally.folded = FoldedTally(1, View.totals.counts, bits(1, 2))  # it came right by itself
    later = await world.reconcile("reconcile-survey-cleared")
    assert later.agrees
    assert later.repaired == ()
    assert tally.rebuilds == 0


async def test_an_incremental_pass_does_without_a_cell_that_is_away_and_says_so(world: World) -> None:
    world.ledgers["us"].away = 100
    report = await world.reconcile("reconcile-survey-cell-away")
    assert report.unreached == ("us/differences", "us/ledger", "us/tally")
    assert [checked.cell for checked in report.checked] == ["eu"]
    assert not report.agrees


async def test_a_complete_pass_waits_for_a_cell_that_is_away(world: World) -> None:
    world.ledgers["us"].away = 4
    report = await world.reconcile("reconcile-survey-waited", complete=True)
    assert report.agrees
    assert world.ledgers["us"].away == 0


async def test_one_nullifier_in_two_cells_is_open_in_both(world: World) -> None:
    for ledger in world.ledgers.values():
        ledger.kept = {secrets.token_bytes(32), bytes(32)}
    report = await world.reconcile("reconcile-survey-twice", complete=True)
    assert [(found.kind, found.cell, found.other_cell) for found in report.differences] == [
        (DifferenceKind.NULLIFIER_IN_TWO_CELLS, "eu", "us"),
        (DifferenceKind.NULLIFIER_IN_TWO_CELLS, "us", "eu"),
    ]
    assert {found.participation for found in report.differences} == {
        "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
    }
    for ledger in world.ledgers.values():
        ledger.kept = set()
    assert (await world.reconcile(complete=True)).agrees
