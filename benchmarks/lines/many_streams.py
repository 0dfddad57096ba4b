"""Ten thousand event streams on one process, one update a second: when each has it, and what a stream costs."""

import asyncio
import secrets
import time
from urllib.parse import urlsplit

from benchmarks.ground import CELL, Ground
from benchmarks.load.spec import percentile
from benchmarks.processes import memory_bytes
from benchmarks.products import services
from benchmarks.report import Goal, Line, check_equal, line
from benchmarks.run import Run
from benchmarks.voters import CHOICE, REGIONS
from benchmarks.watching import delays_ms, watching
from domain.contracts.voting import BatchSummary, RegionCounts
from integrations.kafka.summaries import SummaryProducer

_STREAMS = 10_000
_FEW = 1000
_UPDATE_EVERY_S = 1.0
_OPEN_WITHIN_S = 90.0
_LAST_S = 3.0  # for the last update to arrive


async def measure(run: Run) -> list[Line]:
    """Announce one vote a second to the tally; every stream is to show it."""
    ground = run.ground
    survey = await ground.open_survey()
    updates = int(run.seconds)
    async with services(ground, ("workers-tally", "api-streams")) as supervisor:
        port = urlsplit(supervisor.url("streams")).port or 0
        path = f"/v1/surveys/{survey.id}/results/stream"
        pid = supervisor.pids["api-streams"]
        async with watching(port, path, _FEW, ground.folder / "first", limit_s=_OPEN_WITHIN_S):
            await asyncio.sleep(1)
            few = memory_bytes(pid)  # room that the start of the process left free is used up by now
        limit_s = _OPEN_WITHIN_S + updates * _UPDATE_EVERY_S
        async with watching(port, path, _STREAMS, ground.folder / "arrivals", limit_s=limit_s) as watched:
            announced = await _announce(ground, survey.id, updates)
            many = memory_bytes(pid)
    found = [delays_ms(announced, arrivals) for arrivals in watched.arrivals]
    delays = sorted(delay for delays, _ in found for delay in delays)
    seen = check_equal("deliveries", expected=updates * _STREAMS, seen=len(delays))
    check_equal("streams", opened=watched.result.opened, kept=_STREAMS - watched.result.lost)
    each = (many - few) / (_STREAMS - _FEW)
    memory = f"resident: {few / 2**20:.1f} MiB with {_FEW:,} streams, {many / 2**20:.1f} MiB with {_STREAMS:,}"
    p50, reader = percentile(delays, 0.5), watched.result.client_cpu
    detail = f"{seen}; p50 {p50:.0f} ms from the announcement; the reading process took {reader:.2f} cores"
    return [
        line("10,000 streams, delivery p99", percentile(delays, 0.99), "ms", Goal(at_most=1000), detail),
        line("10,000 streams, memory per stream", each / 1024, "KB", Goal(at_most=6), memory),
    ]


async def _announce(ground: Ground, survey_id: str, updates: int) -> list[float]:
    """Announce a batch of one vote every second; return when."""
    producer = SummaryProducer(ground.settings.cells[CELL].kafka, CELL, timeout_s=10)
    gateway_id, instants = secrets.token_bytes(16), []
    counts = (RegionCounts(region=REGIONS[0], ballots=1, options={CHOICE: 1}),)
    due = time.perf_counter()
    try:
        for number in range(1, updates + 1):
            due += _UPDATE_EVERY_S
            await asyncio.sleep(due - time.perf_counter())
            instants.append(time.perf_counter())
            summary = BatchSummary(cell=CELL, gateway_id=gateway_id, number=number, survey_id=survey_id, regions=counts)
            await producer.publish((summary,))
        await asyncio.sleep(_LAST_S)
    finally:
        await producer.close()
    return instants
