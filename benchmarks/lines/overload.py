"""Three times the measured peak on a thousand connections: what is still confirmed, how soon the rest hears no."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from benchmarks.ground import CELL
from benchmarks.load.spec import percentile
from benchmarks.load.surge import Answered, Stage
from benchmarks.processes import CpuWatch, memory_bytes
from benchmarks.products import VoteLoad, cast_votes, pids, services
from benchmarks.report import Goal, Line, line
from benchmarks.run import Run
from benchmarks.surging import check_surge, surge_votes
from benchmarks.voters import Polling
from comitia.stack.supervisor import Supervisor

_CONNECTIONS = 1000
_TIMES = 3
_PEAK_CLIENTS = (256, 500)
_PEAK_S = 8.0
_CALM_S = 4.0  # at half the peak, before
_AFTER_S = 8.0  # at half the peak, after
_COLD_RATE = 20.0
_COLD_CONNECTIONS = 40
_BUCKET_S = 0.25
_MEMORY_EVERY_S = 0.2
_MIB = 2**20
# What docs/load.md lets wait: 64 KiB read and 64 KiB unanswered on each connection are 125 MiB, and 4,000 votes of a
# sealed ballot and what is known of it, 8 KiB, are 31 MiB; a quarter more is the allocator's.
_GROWTH_MIB = 200


@dataclass(slots=True)
class _Memory:
    """Resident memory of one process while something goes on, in bytes."""

    before: int
    readings: list[int] = field(default_factory=list)

    @property
    def most(self) -> int:
        return max([self.before, *self.readings])


async def measure(run: Run) -> list[Line]:
    """Find the peak, then offer half of it, three times it, and half of it again, without a pause between."""
    async with services(run.ground) as supervisor:
        peak = 0.0
        for clients in _PEAK_CLIENTS:
            found = await cast_votes(run.ground, supervisor, VoteLoad(clients=clients, seconds=_PEAK_S))
            run.say(f"  peak: {found.summary}")
            peak = max(peak, found.load.rate)
        return await _overload(run, supervisor, peak)


async def _overload(run: Run, supervisor: Supervisor, peak: float) -> list[Line]:
    ground, seconds = run.ground, run.seconds
    stages = [Stage(peak / 2, _CALM_S), Stage(_TIMES * peak, seconds), Stage(peak / 2, _AFTER_S)]
    whole = sum(stage.seconds for stage in stages)
    hot, cold = await ground.open_survey(), await ground.open_survey()

    def votes_at(survey_id: str) -> Polling:
        return Polling(CELL, survey_id, supervisor.url("votes"))

    wanted, together = int(peak * (whole + 2 * _TIMES * 2)), asyncio.Barrier(2)
    watch = CpuWatch(pids(ground, supervisor))
    async with _watched(supervisor.pids["api-votes"]) as memory:
        watch.start()
        surged, beside = await asyncio.gather(
            surge_votes(ground, votes_at(hot.id), stages, _CONNECTIONS, wanted=wanted, together=together),
            surge_votes(ground, votes_at(cold.id), [Stage(_COLD_RATE, whole)], _COLD_CONNECTIONS, together=together),
        )
        cores = watch.cores()
    checked = await check_surge(ground.owner, hot.id, surged.result)
    await check_surge(ground.owner, cold.id, beside.result)
    began = surged.result.started_at + _CALM_S
    ended = began + seconds
    during = [answer for answer in surged.records if began <= answer.due < ended]
    good = [answer for answer in during if answer.good]
    refused = sorted(answer.latency_ms for answer in during if answer.refused)
    goodput = sum(1 for answer in surged.records if answer.good and began <= answer.done < ended) / seconds
    latency = sorted(answer.latency_ms for answer in good)
    normal = percentile(sorted(a.latency_ms for a in surged.records if a.good and a.due < began - 0.5), 0.99)
    cold_during = [answer for answer in beside.records if began <= answer.due < ended]
    cold_good = sorted(answer.latency_ms for answer in cold_during if answer.good)
    shares = ", ".join(f"{name} {used:.2f}" for name, used in sorted(cores.items()) if used >= 0.005)
    offered = sum(1 for answer in during if answer.sent < ended) / seconds
    detail = (
        f"peak {peak:,.0f}/s; offered {offered:,.0f}/s of {_TIMES * peak:,.0f}/s due on {_CONNECTIONS:,} connections; "
        f"{goodput:,.0f}/s confirmed, p50 {percentile(latency, 0.5):.0f} ms, p99 {percentile(latency, 0.99):.0f} ms; "
        f"answers {surged.result.counts}; sent late p99 {surged.result.sent_late_ms:.1f} ms, "
        f"unsent {surged.result.unsent:,}; cores: {shares}, client {surged.result.client_cpu:.2f}"
        + ("; the voters ran out" if surged.result.exhausted else "")
        + f"; {checked}"
    )
    growth = (memory.most - memory.before) / _MIB
    return [
        line("offered at three times the peak", offered / (_TIMES * peak), "x of what was due", Goal(at_least=0.95)),
        line("goodput at three times the peak", goodput / peak, "x of the peak", Goal(at_least=0.8), detail),
        line(
            "refusals at three times the peak, p99",
            percentile(refused, 0.99),
            "ms",
            Goal(at_most=100),
            f"{len(refused):,} refused, p50 {percentile(refused, 0.5):.1f} ms, from when each was due",
        ),
        line(
            "memory during overload, growth",
            growth,
            "MiB",
            Goal(at_most=_GROWTH_MIB),
            f"before {memory.before / _MIB:.0f} MiB, most {memory.most / _MIB:.0f} MiB, "
            f"at the end {memory.readings[-1] / _MIB:.0f} MiB",
        ),
        line(
            "latency normal after overload",
            _normal_after(surged.records, ended, 2 * normal),
            "s",
            Goal(at_most=5),
            f"normal: p99 {normal:.0f} ms at half the peak before; counted until p99 is within twice that",
        ),
        line(
            "cold survey during overload, p99",
            percentile(cold_good, 0.99),
            "ms",
            Goal(at_most=1000),
            f"{_COLD_RATE:.0f}/s beside the hot one: {len(cold_good)} of {len(cold_during)} confirmed at once",
        ),
        line(
            "cold survey during overload, confirmed",
            len(cold_good) / max(1, len(cold_during)),
            "share",
            Goal(at_least=0.99),
        ),
    ]


def _normal_after(records: list[Answered], ended: float, bound_ms: float) -> float:
    """Return the seconds from the end of the overload until every later bucket's p99 is within the bound."""
    buckets: dict[int, list[Answered]] = defaultdict(list)
    for answer in records:
        if answer.due >= ended:
            buckets[int((answer.due - ended) / _BUCKET_S)].append(answer)
    late = [
        number
        for number, answers in buckets.items()
        if not all(answer.good for answer in answers)
        or percentile(sorted(answer.latency_ms for answer in answers), 0.99) > bound_ms
    ]
    return (max(late) + 1) * _BUCKET_S if late else 0.0


@asynccontextmanager
async def _watched(pid: int) -> AsyncIterator[_Memory]:
    memory = _Memory(memory_bytes(pid))

    async def read() -> None:
        while True:
            memory.readings.append(memory_bytes(pid))
            await asyncio.sleep(_MEMORY_EVERY_S)

    task = asyncio.create_task(read())
    try:
        yield memory
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
