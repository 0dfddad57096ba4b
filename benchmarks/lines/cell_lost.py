"""A whole cell lost in the middle of a load, and brought back: what the voters of the other one notice."""

import time

from benchmarks.ground import CELL, other_ground
from benchmarks.products import VoteLoad, cast_votes, services
from benchmarks.report import CheckFailedError, Goal, Line, line
from benchmarks.run import Run
from comitia.restore import restore
from comitia.stack.pair_restore import Target
from comitia.stack.topology import Topology

_RATE = 100.0
_TIMES, _MORE_MS = 1.5, 20.0  # of what it was before; a millisecond more or less at the tail is no loss


async def measure(run: Run) -> list[Line]:
    """Vote in one cell at a bounded rate, before and after the servers and data of the other one are taken away."""
    load = VoteLoad(64, run.seconds, rate=_RATE)
    async with other_ground(Topology(standby=True)) as (ground, servers), services(ground) as supervisor:
        before = await cast_votes(ground, supervisor, load)
        lost = next(
            watch.pair for name, watch in servers.pairs.items() if name in ground.settings.cells and name != CELL
        )
        for member in (lost.standby, lost.primary):
            member.cluster.rename(member.cluster.with_name(f"{member.name}-lost"))
            await member.process.kill()
        after = await cast_votes(ground, supervisor, load)
        began = time.perf_counter()
        report = await restore(lost, Target(), watched=True)
        restored_s = time.perf_counter() - began
    if not report.passed:
        raise CheckFailedError(str(report.findings))
    found, then = before.load.latency_ms, after.load.latency_ms
    return [
        line("latency in one cell before another is lost, p99", found.p99, "ms", detail=before.summary),
        line(
            "latency in one cell after another is lost, p99",
            then.p99,
            "ms",
            Goal(at_most=round(_TIMES * found.p99 + _MORE_MS)),
            after.summary,
        ),
        line(
            "votes without an answer there meanwhile", after.load.sent - after.load.answered, "votes", Goal(at_most=0)
        ),
        line("a destroyed cell restored and checked", restored_s, "s", detail=f"{len(report.findings)} checks passed"),
    ]
