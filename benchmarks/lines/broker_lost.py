"""One of three Kafka brokers killed in the middle of a load: votes go on, and results are right soon after."""

from benchmarks.failing_over import vote_through
from benchmarks.ground import other_ground
from benchmarks.products import services
from benchmarks.report import Goal, Line, line
from benchmarks.run import Run
from comitia.stack.topology import Topology

_RATE = 200.0
_BEFORE_S = 5.0
_SECONDS = 20.0


async def measure(run: Run) -> list[Line]:
    """Vote at a bounded rate, kill the broker that clients ask first, and never start it again."""
    async with other_ground(Topology(kafka_brokers=3)) as (ground, servers), services(ground) as supervisor:
        kill = servers.processes["kafka"].kill
        found = await vote_through(ground, supervisor, kill, rate=_RATE, before_s=_BEFORE_S, seconds=_SECONDS)
    run.say(f"  {found.summary}")
    detail = f"{_RATE:.0f} votes/s, two brokers left; {found.summary}"
    return [
        line("one of three brokers killed, votes confirmed", found.until_confirmed_s, "s", Goal(at_most=15), detail),
        line("one of three brokers killed, results right", found.until_right_s, "s", Goal(at_most=5), detail),
    ]
