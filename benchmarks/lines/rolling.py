"""Every process replaced, one by one, at half of the measured peak: who fails although they come again once."""

import asyncio
import time

from benchmarks.ground import CELL, Ground
from benchmarks.load.spec import percentile
from benchmarks.load.surge import Stage
from benchmarks.products import VoteLoad, cast_votes, recorded_votes, services
from benchmarks.report import CheckFailedError, Goal, Line, line
from benchmarks.run import Run
from benchmarks.surging import check_surge, surge_votes
from benchmarks.voters import Polling
from comitia.stack.rolling import roll

_PEAK_CLIENTS, _PEAK_S = 256, 3.0
_CONNECTIONS = 128
_BEGINS_WITHIN_S, _LOOK_EVERY_S = 60.0, 0.2
_SECONDS_MOST = 45.0  # it ends with the last process that is replaced
_ONCE_OR_TWICE = frozenset({"1", "2"})


async def measure(run: Run) -> list[Line]:
    """Find the peak, then replace the voting worker, the tally and the process that takes votes at half of it.

    Raises:
        CheckFailedError: somebody was promised what the ledger does not have, or the load ended before the last process
            was replaced.
    """
    ground = run.ground
    async with services(ground) as supervisor:
        peak = await cast_votes(ground, supervisor, VoteLoad(_PEAK_CLIENTS, _PEAK_S, warmup_s=1.0))
        survey, rate = await ground.open_survey(), peak.load.rate / 2
        polling = Polling(CELL, survey.id, supervisor.url("votes"))
        ended = ground.folder / f"ended-{survey.id}"
        wanted = int(rate * _SECONDS_MOST) + _CONNECTIONS
        voting = asyncio.create_task(
            surge_votes(ground, polling, [Stage(rate, _SECONDS_MOST)], _CONNECTIONS, wanted=wanted, until=ended)
        )
        try:
            await _begun(ground, survey.id)
            began = time.perf_counter()
            await roll(supervisor)
            rolled = time.perf_counter()
            await asyncio.to_thread(ended.touch)
            surged = await voting
        finally:
            voting.cancel()
            ended.unlink(missing_ok=True)
        checked = await check_surge(ground.owner, survey.id, surged.result)
    result = surged.result
    if (late_s := rolled - result.started_at - _SECONDS_MOST) > 0:
        raise CheckFailedError(f"the load ended {late_s:.1f} s before the last process was replaced")
    failed = sum(voters for tries, voters in result.tries.items() if tries not in _ONCE_OR_TWICE)
    meanwhile = sorted(answer.latency_ms for answer in surged.due_between(began, rolled) if answer.good)
    detail = (
        f"{rate:,.0f}/s of a peak of {peak.load.rate:,.0f}/s; {len(supervisor.processes)} processes replaced in "
        f"{rolled - began:.1f} s; voters by tries {result.tries}, answers {result.counts}; {checked}"
    )
    return [
        line("rolling restart at half the peak, failures after one retry", failed, "voters", Goal(at_most=0), detail),
        line("rolling restart at half the peak, p99 meanwhile", percentile(meanwhile, 0.99), "ms"),
    ]


async def _begun(ground: Ground, survey_id: str) -> None:
    """Wait until votes are recorded: requests are signed before the first is sent."""
    async with asyncio.timeout(_BEGINS_WITHIN_S):
        while not (await recorded_votes(ground, survey_id))["participations"]:  # noqa: ASYNC110 - rows tell nobody
            await asyncio.sleep(_LOOK_EVERY_S)
