"""The same votes on production's Temporal, on a PostgreSQL of its own, and on the development server, in turns."""

from statistics import median

from benchmarks.ground import other_ground
from benchmarks.lines.workflow_per_vote import one_vote_each
from benchmarks.products import VoteLoad, VotesMeasured, cast_votes, services
from benchmarks.report import Line, line
from benchmarks.run import CLIENTS, Rounds, Run
from comitia.stack.topology import Topology

_SINGLE = VoteLoad(clients=64, expected=600.0)
_IN_FLIGHT = 16
_LONE_RATE = 10.0


async def measure(run: Run) -> list[Line]:
    """Measure workflows per second (a vote each), votes in batches, and a lone vote, on both."""
    async with other_ground(Topology(temporal_server=True)) as (ground, _):
        other = Run(ground, run.seconds, run.rounds, run.say)
        single = VoteLoad(_SINGLE.clients, run.seconds, expected=_SINGLE.expected)
        alone = one_vote_each(_IN_FLIGHT)
        workflows = await run.in_turns(lambda: other.votes(single, alone), lambda: run.votes(single, alone))
        batched = VoteLoad(CLIENTS, run.seconds)
        votes = await run.in_turns(lambda: other.votes(batched), lambda: run.votes(batched))
        lone = await run.in_turns(lambda: _lone(other), lambda: _lone(run))
    return [
        *_beside("workflows, production's Temporal", "workflows/s", workflows),
        *_beside("confirmed votes, production's Temporal", "votes/s", votes),
        line("latency of a lone vote, production's Temporal, p50", _p50(lone[0]), "ms", detail=lone[0].summary),
        line("latency of a lone vote, development server beside it, p50", _p50(lone[1]), "ms", detail=lone[1].summary),
    ]


def _beside(name: str, unit: str, measured: tuple[Rounds, Rounds]) -> list[Line]:
    ours, development = measured
    ratio = median(a.load.rate / b.load.rate for a, b in zip(ours.runs, development.runs, strict=True))
    detail = f"production {ours.summary}. development {development.summary}. {ours.typical.checked}"
    return [
        line(name, ours.rate, unit, detail=ours.summary),
        line(f"{name} against the development server", ratio, "x", detail=detail),
    ]


async def _lone(run: Run) -> VotesMeasured:
    async with services(run.ground) as supervisor:
        return await cast_votes(run.ground, supervisor, VoteLoad(1, run.seconds, rate=_LONE_RATE))


def _p50(rounds: Rounds) -> float:
    return median(run.load.latency_ms.p50 for run in rounds.runs)
