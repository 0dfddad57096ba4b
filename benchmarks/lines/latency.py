"""How long a voter waits for the receipt: at half of the full rate, at full rate, and alone on a quiet system."""

from benchmarks.products import VoteLoad, cast_votes, services
from benchmarks.report import Goal, Line, line
from benchmarks.run import CLIENTS, Run

_LONE_RATE = 10.0  # a second between two would measure the machine's sleep
_LONE_CLIENTS = 1


async def measure(run: Run) -> list[Line]:
    """Pace the load at half of the measured rate; latency counts from when a request was due."""
    versus = await run.versus_plain()
    full = versus.ours.typical.load.latency_ms
    rate = versus.ours.rate / 2
    half = await run.votes(VoteLoad(CLIENTS, run.seconds, rate=rate))
    found = half.load.latency_ms
    async with services(run.ground) as supervisor:
        lone = await cast_votes(run.ground, supervisor, VoteLoad(_LONE_CLIENTS, run.seconds, rate=_LONE_RATE))
    alone = lone.load.latency_ms
    return [
        line("latency at half rate, p50", found.p50, "ms", detail=f"{rate:,.0f} votes/s"),
        line("latency at half rate, p99", found.p99, "ms", Goal(at_most=100), half.summary),
        line("latency at full rate, p50", full.p50, "ms", detail=versus.ours.summary),
        line("latency at full rate, p99", full.p99, "ms"),
        line("latency of a lone vote, p50", alone.p50, "ms", Goal(at_most=25), lone.summary),
        line("latency of a lone vote, p99", alone.p99, "ms"),
    ]
