"""What counting a vote's token, device, address and network costs the process that takes it, and telling Redis."""

import gc
import secrets
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from api.http.limiting import CellLimits
from api.http.limits import Limits, RouteLimits
from api.votes.limits import voting_limits
from benchmarks.ground import CELL
from benchmarks.report import Goal, Line, check_equal, line
from benchmarks.run import Run
from domain.limits import VOTE_TOKEN, policies_with
from integrations.redis.connection import open_redis
from integrations.redis.limits import RedisBuckets
from integrations.telemetry.metrics import LimitMetrics

_VOTES = 20_000
_ROUNDS = 10
_TOLD = 5_000


class _Vote:
    """A request as limits see it."""

    __slots__ = ("client", "device", "limit_lines", "token")

    def __init__(self, client: str, device: str) -> None:
        self.client = client
        self.device = device
        self.limit_lines = b""
        self.token = secrets.token_bytes(32)


async def measure(run: Run) -> list[Line]:
    """Take votes of different people, each once, and tell what was taken twice; the best round of each counts."""
    redis = open_redis(run.ground.settings.cells[CELL].redis, connections=1)
    try:
        store = RedisBuckets(redis, f"bench{secrets.token_hex(4)}", "votes", secrets.token_bytes(32))
        limits = CellLimits(CELL, store, policies_with({}), LimitMetrics(CollectorRegistry()))
        route = voting_limits(Limits({CELL: limits}), CELL).cast
        shared = _per_vote_us(route, lambda _, number: _Vote(f"10.0.{number % 4}.1", ""))
        own = _per_vote_us(route, lambda _, number: _Vote(f"10.1.{number >> 8}.{number & 255}", secrets.token_hex(21)))
        fresh = _per_vote_us(route, lambda turn, n: _Vote(f"10.{turn + 2}.{n >> 8}.{n & 255}", secrets.token_hex(21)))
        told_us, checked = await _per_bucket_us(limits)
    finally:
        await redis.aclose()
    how = f"CPU of the process, best of {_ROUNDS} rounds of {_VOTES:,} votes, header lines made"
    return [
        line("limits of a vote, from an address of many", shared, "us", Goal(at_most=5), how),
        line("limits of a vote, device and address of its own", own, "us", Goal(at_most=10), how),
        line("limits of a vote, address never seen before", fresh, "us", Goal(at_most=20), how),
        line("telling Redis, per bucket taken from twice", told_us, "us", detail=f"CPU with its driver; {checked}"),
    ]


def _per_vote_us(route: RouteLimits, vote: Callable[[int, int], _Vote]) -> float:
    """Return the least CPU per vote; a vote that is refused raises."""
    spent = []
    for turn in range(_ROUNDS):
        votes = [vote(turn, number) for number in range(_VOTES)]
        gc.collect()
        began = time.thread_time()
        for one in votes:
            route.take(one, one.token, one.device)
        spent.append(time.thread_time() - began)
        said = sum(b'ratelimit: "vote-token";r=299;t=2\r\n' in one.limit_lines for one in votes)
        check_equal("votes that were told what is left", votes=len(votes), told=said)
    return min(spent) / _VOTES * 1e6


async def _per_bucket_us(limits: CellLimits) -> tuple[float, str]:
    """Return the CPU of telling, and what Redis knows afterwards: everything that was taken."""
    buckets = limits.buckets(VOTE_TOKEN)
    await limits.tell()  # what the rounds before left
    tokens = [secrets.token_bytes(32) for _ in range(_TOLD)]
    for token in (*tokens, *tokens):
        buckets.take(token, limits.now())
    owed = limits.owed()
    began = time.thread_time()
    await limits.tell()
    spent = time.thread_time() - began
    checked = check_equal("buckets", taken=_TOLD, owed=owed, told=owed - limits.owed())
    check_equal("whether Redis answered", alone=int(limits.is_alone), expected=0)
    return spent / _TOLD * 1e6, checked
