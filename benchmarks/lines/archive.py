"""How many histories a second are archived: read from Temporal, written in files, read back and noted."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from temporalio.api.history.v1 import History
from temporalio.testing import ActivityEnvironment

from activities.history_archive import HistoryArchiveActivities
from benchmarks.ground import CELL, Ground
from benchmarks.products import VoteLoad, cast_votes, services
from benchmarks.report import CheckFailedError, Goal, Line, check_equal, line
from benchmarks.run import Run
from comitia.replay import open_archive, open_histories
from domain.archive_ports import ArchiveCell
from domain.contracts.archive import ArchivePlan, HistoryPack, PlanArchiveInput
from integrations.keys.opening import open_keys
from integrations.objects.log_objects import open_log_objects
from integrations.platform import IN_FLIGHT
from integrations.postgres.archived_histories import PostgresArchive
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT
from integrations.temporal.client import connect
from integrations.temporal.closed_histories import TemporalClosedHistories
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.histories import Histories

_WANTED = 3000  # executions
_CAST_S = 60.0
_ALONE = {"COMITIA_VOTE_BATCH_MAX": "1", "COMITIA_VOTE_BATCHES_IN_FLIGHT": "16"}
_WITHIN_S = 60.0
_COMPARED = 200  # histories, with those of the server


class Silent:
    """Implements `ArchiveWatch` where nobody listens."""

    def looked(self, cell: str, complete_until: datetime | None, retention: timedelta) -> None:
        """Nobody listens."""

    def lengthened(self, cell: str, retention: timedelta, *, done: bool) -> None:
        """Nobody listens."""

    def noted(self, cell: str, archived: int, size_bytes: int) -> None:
        """Nobody listens."""

    def left_out(self, cell: str, workflow_id: str, run_id: str, why: str) -> None:
        """It ends the measurement."""
        raise CheckFailedError(f"{cell} {workflow_id} {run_id}: {why}")

    def contradicted(self, cell: str, detail: str) -> None:
        """It ends the measurement."""
        raise CheckFailedError(f"{cell}: {detail}")


async def measure(run: Run) -> list[Line]:
    """Cast votes one per workflow, then archive all of them with nothing else running."""
    ground, began = run.ground, datetime.now(UTC)
    async with services(ground, more=_ALONE) as supervisor:
        await cast_votes(ground, supervisor, VoteLoad(clients=16, seconds=_CAST_S, warmup_s=0.0, expected=300.0))
    settings = ground.state.settings_for(AUDIT)
    async with AsyncExitStack() as lifetime:
        pool = await open_pool(settings.cells[CELL].database, settings, AUDIT)
        lifetime.push_async_callback(pool.close)
        codec = EncryptionCodec(open_keys(settings), IN_FLIGHT)  # opens nothing
        closed = TemporalClosedHistories(await connect(settings.cells[CELL].temporal, codec), never=())
        archive = PostgresArchive(pool)
        await _listed(closed, began)
        archiving = HistoryArchiveActivities(
            {CELL: ArchiveCell(closed, archive)}, open_log_objects(settings), Silent(), settle=timedelta(0)
        )
        before = (await archive.counts()).archived
        began_at = time.perf_counter()
        packs = await _archive(archiving, began)
        seconds = time.perf_counter() - began_at
        executions = [each for pack in packs for each in pack.executions]
        compared = await _compare(ground, packs, lifetime)
        checked = check_equal("archive", closed=len(executions), noted=(await archive.counts()).archived - before)
    size = sum(each.size_bytes for each in executions)
    detail = f"{len(executions):,} of SubmitVotes, {size / 1e6:.1f} MB, {len(packs)} files; {compared}; {checked}"
    return [line("archived histories", len(executions) / seconds, "/s", Goal(at_least=500), detail)]


async def _listed(closed: TemporalClosedHistories, began: datetime) -> None:
    give_up_at = time.monotonic() + _WITHIN_S
    while True:
        if await closed.count(began, datetime.now(UTC)) >= _WANTED or time.monotonic() > give_up_at:
            return
        await asyncio.sleep(1)


async def _archive(archiving: HistoryArchiveActivities, after: datetime) -> list[HistoryPack]:
    """Do what the process does, step by step, files of one plan at once."""
    packs: list[HistoryPack] = []

    async def archive(planned: HistoryPack) -> None:
        written = await ActivityEnvironment().run(archiving.write_history_pack, planned)
        await ActivityEnvironment().run(archiving.note_history_pack, written)

    while True:
        plan: ArchivePlan = await ActivityEnvironment().run(
            archiving.plan_archive, PlanArchiveInput(cell=CELL, after=after)
        )
        await asyncio.gather(*(archive(planned) for planned in plan.packs))
        packs += plan.packs
        if plan.is_complete:
            after = plan.until
            if plan.is_last:
                return packs


async def _compare(ground: Ground, packs: Sequence[HistoryPack], lifetime: AsyncExitStack) -> str:
    settings = ground.state.settings_for(AUDIT)
    archived = await open_archive(settings, CELL, lifetime)
    server: Histories = await open_histories(settings, CELL)
    same, executions = 0, [each for pack in packs for each in pack.executions]
    step = max(1, len(executions) // _COMPARED)
    for each in executions[::step]:
        ours = await archived.read(each.workflow_id, each.run_id)
        theirs = await server.read(each.workflow_id, each.run_id)
        if ours is None or theirs is None:
            raise CheckFailedError(f"{each.workflow_id} is gone")
        same += History(events=ours.events) == History(events=theirs.events)
    return check_equal("histories", compared=len(executions[::step]), same=same)
