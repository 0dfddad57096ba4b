"""What waiting for a standby and an archive costs: the same votes with and without them, in turns."""

from statistics import median

from benchmarks.ground import other_ground
from benchmarks.products import VoteLoad, VotesMeasured, cast_votes, services
from benchmarks.report import Line, line
from benchmarks.run import CLIENTS, Rounds, Run
from comitia.stack.topology import Topology

_LONE_RATE = 10.0


async def measure(run: Run) -> list[Line]:
    """Measure full rate, half of the lower one, and a lone vote, on both."""
    async with other_ground(Topology(standby=True)) as (ground, _):
        other = Run(ground, run.seconds, run.rounds, run.say)
        full_load = VoteLoad(CLIENTS, run.seconds)
        full = await run.in_turns(lambda: other.votes(full_load), lambda: run.votes(full_load))
        half_load = VoteLoad(CLIENTS, run.seconds, rate=min(rounds.rate for rounds in full) / 2)
        half = await run.in_turns(lambda: other.votes(half_load), lambda: run.votes(half_load))
        lone = await run.in_turns(lambda: _lone(other), lambda: _lone(run))
    share = median(a.load.rate / b.load.rate for a, b in zip(full[0].runs, full[1].runs, strict=True))
    return [
        line("confirmed votes with standby and archive", full[0].rate, "votes/s", detail=full[0].summary),
        line("confirmed votes with standby against without", share, "x", detail=full[1].summary),
        *_beside(f"at {half_load.rate:,.0f} votes/s, p50", half, "p50"),
        *_beside(f"at {half_load.rate:,.0f} votes/s, p99", half, "p99"),
        *_beside("of a lone vote, p50", lone, "p50"),
        *_beside("of a lone vote, p99", lone, "p99"),
    ]


def _beside(what: str, measured: tuple[Rounds, Rounds], percentile: str) -> list[Line]:
    waiting, alone = (median(getattr(run.load.latency_ms, percentile) for run in rounds.runs) for rounds in measured)
    detail = f"{waiting - alone:+.1f} ms; {measured[0].typical.checked}"
    return [
        line(f"latency {what}, with standby", waiting, "ms", detail=detail),
        line(f"latency {what}, without, beside it", alone, "ms"),
    ]


async def _lone(run: Run) -> VotesMeasured:
    async with services(run.ground) as supervisor:
        return await cast_votes(run.ground, supervisor, VoteLoad(1, run.seconds, rate=_LONE_RATE))
