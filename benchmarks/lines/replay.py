"""How many executions a second are read from Temporal, opened and replayed; every one decides the same."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from benchmarks.ground import CELL
from benchmarks.products import VoteLoad, cast_votes, services
from benchmarks.report import Goal, Line, check_equal, line
from benchmarks.run import Run
from comitia.replay import open_histories
from domain.replay import Execution, Verdict
from integrations.temporal.histories import Histories
from integrations.temporal.replay_pool import PAGE, ReplayPool
from workflows.registry import WORKFLOWS

_WANTED = 3000  # executions: seconds of work for every core
_CAST_S = 60.0
_ALONE = {"COMITIA_VOTE_BATCH_MAX": "1", "COMITIA_VOTE_BATCHES_IN_FLIGHT": "16"}
_WITHIN_S = 60.0


async def measure(run: Run) -> list[Line]:
    """Cast votes one per workflow, then replay all of them with nothing else running."""
    ground, began = run.ground, datetime.now(UTC)
    async with services(ground, more=_ALONE) as supervisor:
        await cast_votes(ground, supervisor, VoteLoad(clients=16, seconds=_CAST_S, warmup_s=0.0, expected=300.0))
    histories = await open_histories(ground.settings, CELL)
    executions = await _seen(histories, began)
    rate, whole_s = await _replay(histories, executions)
    detail = f"{len(executions):,} of SubmitVotes, all the same; {whole_s:.1f} s with the start of the processes"
    return [line("replayed executions", rate, "/s", Goal(at_least=300), detail)]


async def _seen(histories: Histories, began: datetime) -> list[Execution]:
    """Return the executions since then once visibility has enough of them."""
    since = (began - timedelta(seconds=1)).isoformat()
    query = f"StartTime >= '{since}' AND WorkflowType = 'SubmitVotes' AND ExecutionStatus = 'Completed'"
    give_up_at = time.monotonic() + _WITHIN_S
    while True:
        found = [execution async for execution in histories.find(query)]
        if len(found) >= _WANTED or time.monotonic() > give_up_at:
            return found
        await asyncio.sleep(1)


async def _replay(histories: Histories, executions: list[Execution]) -> tuple[float, float]:
    """Return executions per second once every process works, and the seconds of all of it."""

    async def each() -> AsyncIterator[Execution]:
        for execution in executions:
            yield execution

    came: list[float] = []
    same = 0
    with ReplayPool(WORKFLOWS) as pool:
        began = time.perf_counter()
        async with aclosing(pool.over(histories, each())) as verdicts:
            async for verdict in verdicts:
                came.append(time.perf_counter())
                same += verdict.verdict is Verdict.SAME
        first = PAGE * pool.processes
    check_equal("replay", executions=len(executions), verdicts=len(came), same=same)
    return (len(came) - first) / (came[-1] - came[first - 1]), came[-1] - began
