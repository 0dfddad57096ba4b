"""Three times the peak in one cell: what the voters of the other cell, and those who read, notice of it."""

import asyncio

from benchmarks.ground import CELL
from benchmarks.load.spec import percentile
from benchmarks.load.surge import Stage
from benchmarks.products import SERVICES, VoteLoad, cast_votes, services
from benchmarks.report import Goal, Line, line
from benchmarks.run import Run
from benchmarks.surging import Surged, check_surge, surge_reads, surge_votes
from benchmarks.voters import Polling
from comitia.stack.state import CELLS
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import OWNER

_PEAK_CLIENTS, _PEAK_S = 256, 3.0
_TIMES, _CONNECTIONS = 3, 1000
_CALM_S, _HOT_S = 1.0, 6.0
_RATE, _QUIET_CONNECTIONS = 20.0, 40  # of votes in the other cell, and of reads
_SHARE_LEAST, _P99_MOST_MS = 0.99, 1000  # as for a quiet survey beside the hot one


async def measure(run: Run) -> list[Line]:
    """Find the peak, offer three times as much to one cell, and a little to the other one and to who shows results."""
    ground = run.ground
    other = next(cell for cell in CELLS if cell != CELL)
    async with services(ground, (*SERVICES, "api-results")) as supervisor:
        peak = await cast_votes(ground, supervisor, VoteLoad(_PEAK_CLIENTS, _PEAK_S, warmup_s=1.0))
        hot, quiet = await ground.open_survey(), await ground.open_survey(other)
        votes, shown = supervisor.url("votes"), supervisor.url("results")
        calm = [Stage(_RATE, _CALM_S + _HOT_S)]
        rate, together = peak.load.rate, asyncio.Barrier(3)
        surged, elsewhere, reads = await asyncio.gather(
            surge_votes(
                ground,
                Polling(CELL, hot.id, votes),
                [Stage(rate / 2, _CALM_S), Stage(_TIMES * rate, _HOT_S)],
                _CONNECTIONS,
                wanted=int(rate * (_CALM_S + _HOT_S + 2 * _TIMES * 2)),
                together=together,
            ),
            surge_votes(ground, Polling(other, quiet.id, votes), calm, _QUIET_CONNECTIONS, together=together),
            surge_reads(ground, shown, f"/v1/surveys/{hot.id}/results", calm, _QUIET_CONNECTIONS, together=together),
        )
        pool = await open_pool(ground.settings.cells[other].database, ground.settings, OWNER, size=1)
        try:
            checked = await check_surge(ground.owner, hot.id, surged.result)
            there = await check_surge(pool, quiet.id, elsewhere.result)
        finally:
            await pool.close()
    began = surged.result.started_at + _CALM_S
    span = began, began + _HOT_S
    offered = sum(1 for answer in surged.due_between(*span) if answer.sent < span[1]) / _HOT_S
    detail = (
        f"peak {rate:,.0f}/s; offered {offered:,.0f}/s in the other cell, answers {surged.result.counts}; {checked}"
    )
    return [
        line("offered in one cell, other one watched", offered / rate, "x of the peak", Goal(at_least=2), detail),
        *_lines("votes in another cell than the full one", elsewhere, span, there),
        *_lines("reads while a cell is full", reads, span, f"answers {reads.result.counts}"),
    ]


def _lines(name: str, load: Surged, span: tuple[float, float], detail: str) -> list[Line]:
    due = load.due_between(*span)
    good = sorted(answer.latency_ms for answer in due if answer.good)
    share = len(good) / max(1, len(due))
    said = f"{_RATE:.0f}/s: {len(good)} of {len(due)}, p50 {percentile(good, 0.5):.0f} ms; {detail}"
    return [
        line(f"{name}, share served at once", share, "share", Goal(at_least=_SHARE_LEAST), said),
        line(f"{name}, p99", percentile(good, 0.99), "ms", Goal(at_most=_P99_MOST_MS)),
    ]
