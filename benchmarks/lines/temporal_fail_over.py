"""The primary of Temporal's store killed in the middle of a load: how long, and whether an accepted vote was lost."""

from benchmarks.failing_over import vote_through
from benchmarks.ground import other_ground
from benchmarks.products import services
from benchmarks.report import Goal, Line, line
from benchmarks.run import Run
from comitia.stack.topology import Topology

_RATE = 100.0
_BEFORE_S = 5.0
_SECONDS = 45.0


async def measure(run: Run) -> list[Line]:
    """Vote at a bounded rate, kill the primary with `kill -9`, and look for everybody who was told 201 or 202."""
    topology = Topology(temporal_server=True, temporal_standby=True)
    async with other_ground(topology) as (ground, servers), services(ground) as supervisor:
        pair = servers.pairs["temporal"].pair
        found = await vote_through(
            ground, supervisor, pair.primary.process.kill, rate=_RATE, before_s=_BEFORE_S, seconds=_SECONDS
        )
    run.say(f"  {found.summary}")
    detail = f"{_RATE:.0f} votes/s; {found.summary}; the standby's take-over itself {pair.take_overs[-1]:.1f} s"
    return [
        line("fail-over of Temporal's store", found.until_confirmed_s, "s", Goal(at_most=60), detail),
        line("acknowledged votes lost by it", found.lost, "votes", Goal(at_most=0), found.checked),
    ]
