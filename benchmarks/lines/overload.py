"""Three times the measured peak on a thousand connections: what is still confirmed, how soon the rest hears no."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from benchmarks.ground import CELL, Ground
from benchmarks.load.spec import percentile, write_requests
from benchmarks.load.surge import Answered, Stage, SurgeResult, SurgeSpec, read_records
from benchmarks.processes import PYTHON, ROOT, CpuWatch, memory_bytes
from benchmarks.products import VoteLoad, cast_votes, pids, recorded_votes, services, settled
from benchmarks.report import Goal, Line, check_equal, line
from benchmarks.run import Run
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


@dataclass(slots=True)
class _Memory:
    """Resident memory of one process while something goes on, in bytes."""

    before: int
    readings: list[int] = field(default_factory=list)

    @property
    def most(self) -> int:
        return max([self.before, *self.readings])


@dataclass(frozen=True, slots=True)
class _Surged:
    """One open-loop run: what the client counted, and every answer."""

    result: SurgeResult
    records: list[Answered]


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
    watch = CpuWatch(pids(ground, supervisor))
    async with _watched(supervisor.pids["api-votes"]) as memory:
        watch.start()
        surged, beside = await asyncio.gather(
            _surge(ground, supervisor, hot.id, stages, _CONNECTIONS, wanted=int(peak * (whole + 2 * _TIMES * 2))),
            _surge(ground, supervisor, cold.id, [Stage(_COLD_RATE, whole)], _COLD_CONNECTIONS, wanted=0),
        )
        cores = watch.cores()
    checked = await _check(ground, hot.id, surged.result)
    await _check(ground, cold.id, beside.result)
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
            Goal(at_most=200),
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


async def _surge(
    ground: Ground, supervisor: Supervisor, survey_id: str, stages: list[Stage], connections: int, *, wanted: int
) -> _Surged:
    polling = Polling(CELL, survey_id, supervisor.url("votes"))
    wanted = wanted or int(sum(2 * stage.rate * stage.seconds for stage in stages)) + connections
    requests, records = ground.folder / f"requests-{survey_id}", ground.folder / f"records-{survey_id}"
    spec = SurgeSpec(
        port=urlsplit(polling.url).port or 0,
        requests=str(requests),
        records=str(records),
        connections=connections,
        stages=stages,
    )
    try:
        await asyncio.to_thread(write_requests, requests, ground.voters.requests(polling, wanted))
        process = await asyncio.create_subprocess_exec(
            PYTHON, "-m", "benchmarks.load.surge", cwd=ROOT, stdin=-1, stdout=-1, stderr=-1
        )
        try:
            async with asyncio.timeout(sum(stage.seconds for stage in stages) + spec.drain_s + 60):
                out, errors = await process.communicate(msgspec.json.encode(spec))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode or errors:
            raise RuntimeError(f"the load client failed\n{errors.decode()}")
        found = await asyncio.to_thread(read_records, Path(spec.records))
    finally:
        requests.unlink(missing_ok=True)
    return _Surged(msgspec.json.decode(out, type=SurgeResult), found)


async def _check(ground: Ground, survey_id: str, result: SurgeResult) -> str:
    """Compare what voters were told with the ledger.

    Raises:
        CheckFailedError: they differ.
    """
    confirmed, accepted = result.counts.get("201", 0), result.counts.get("202", 0)
    check_equal("receipts", confirmed=confirmed, receipts=result.distinct_receipts)
    answers = sum(result.counts.get(status, 0) for status in ("201", "202", "503", "429", "504"))
    check_equal(f"answers {result.counts}", sent=result.sent, answered=answers)
    counts = await settled(lambda: recorded_votes(ground, survey_id), confirmed + accepted)
    return check_equal(f"survey {survey_id}", taken=confirmed + accepted, **counts)


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
