"""The primary of a cell killed in the middle of a load: how long, and whether an acknowledged vote was lost."""

from benchmarks.failing_over import vote_through
from benchmarks.ground import CELL, other_ground
from benchmarks.products import services
from benchmarks.report import Goal, Line, line
from benchmarks.run import Run
from comitia.stack.topology import Topology

_RATE = 100.0
_BEFORE_S = 5.0
_SECONDS = 30.0


async def measure(run: Run) -> list[Line]:
    """Vote at a bounded rate, kill the primary with `kill -9`, and look for everybody who was told 201 or 202."""
    async with other_ground(Topology(standby=True)) as (ground, servers), services(ground) as supervisor:
        pair = servers.pairs[CELL].pair
        found = await vote_through(
            ground, supervisor, pair.primary.process.kill, rate=_RATE, before_s=_BEFORE_S, seconds=_SECONDS
        )
        took_s = pair.take_overs[-1]
    run.say(f"  {found.summary}")
    detail = f"{_RATE:.0f} votes/s; {found.summary}; the standby's take-over itself {took_s:.1f} s"
    return [
        line("fail-over of a cell's database", found.until_confirmed_s, "s", Goal(at_most=60), detail),
        line("acknowledged votes lost by a fail-over", found.lost, "votes", Goal(at_most=0), found.checked),
    ]
