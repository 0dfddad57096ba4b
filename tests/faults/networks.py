"""Networks that are cut, slow, silent, or break in the middle of a message, between any process and any server."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from tests.faults.experiment import Fault
from tests.faults.proxies import MODES
from tests.faults.stage import Stage
from tests.faults.whole_stack import OWN_POSTGRES, SERVERS

DISTURBED_S = 6.0
_DATABASES = ("postgres", OWN_POSTGRES)
# Who talks to whom: what is not named here is never connected, which tests/faults/test_networks.py sees to.
PAIRS: dict[str, tuple[str, ...]] = {
    "api-votes": (*_DATABASES, "temporal", "kafka", "redis"),
    "api-votes-2": (*_DATABASES, "temporal", "kafka", "redis"),
    "api-eligibility": (*_DATABASES, "redis"),
    "api-surveys": ("postgres", "temporal", "redis"),
    "api-auth": (*_DATABASES, "temporal", "redis"),
    "api-webhooks": (*_DATABASES, "temporal", "redis"),
    "api-support": (*_DATABASES, "temporal", "redis"),
    "api-compliance": (*_DATABASES, "temporal", "redis"),
    "api-results": (*_DATABASES, "redis"),
    "api-streams": (*_DATABASES, "redis"),
    "workers-voting": (*_DATABASES, "temporal", "kafka"),
    "workers-platform": (*_DATABASES, "temporal", "kafka", "redis"),
    "workers-tally": (*_DATABASES, "kafka", "redis"),
    "workers-reconciliation": (*_DATABASES, "temporal", "kafka", "redis"),
    "workers-certification": (*_DATABASES, "temporal"),
    "workers-identity": (*_DATABASES, "temporal"),
    "workers-audit": (*_DATABASES, "temporal"),
}


def disturbed(name: str, ways: list[str], mode: str) -> Fault:
    """A fault of these ways."""

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        assert stage.proxies is not None
        await stage.proxies.disturb(ways, mode)
        try:
            yield
        finally:
            await stage.proxies.restore(ways, mode)

    return Fault(f"{name}/{mode}", inject, seconds=DISTURBED_S, impossible=_without_proxies)


def everybody_from(server: str) -> Iterator[Fault]:
    """Between a server and whoever talks to it."""
    ways = [f"{process}~{server}" for process, servers in PAIRS.items() if server in servers]
    yield from (disturbed(f"network/{server}", ways, mode) for mode in MODES)


def one_from_another() -> Iterator[Fault]:
    """Between each process and each server that it talks to."""
    for process, servers in PAIRS.items():
        for server in servers:
            yield from (disturbed(f"network/{process}~{server}", [f"{process}~{server}"], mode) for mode in MODES)


def networks() -> Iterator[Fault]:
    """Every server, disturbed for everybody."""
    for server in SERVERS:
        yield from everybody_from(server)


def _without_proxies(stage: Stage) -> str:
    return "" if stage.proxies is not None else "this stack has no proxies"
