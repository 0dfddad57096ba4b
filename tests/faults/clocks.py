"""Processes whose clock is an hour off, by libfaketime: the wall clock only, as a wrong clock is."""

import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.clocks import clock_variables, faketime
from tests.faults.closings import at_end
from tests.faults.experiment import During, Fault
from tests.faults.stage import Stage

_HOUR_S = 3600
_LASTS_S = 6.0
_UNTIL_CERTIFIED_S = 12.0
# A process an hour off cannot tell a good token from an old one: it may refuse, never record wrongly.
_MAY_SAY = frozenset({"token_expired", "token_invalid", "step_up_required"})
# Alone who judges tokens and windows; the others by what they do, since each start takes as long as a fault.
_GROUPS = {
    "api-votes": ("api-votes",),
    "api-eligibility": ("api-eligibility",),
    "workers-voting": ("workers-voting",),
    "showing": ("workers-tally", "api-results", "api-streams"),
    "steering": ("workers-platform", "api-surveys"),
}
_CERTIFYING = ("workers-reconciliation", "workers-certification")
# What no library can do here; said after every run.
NEVER = (
    "clock/temporal: its server is a static program that asks the kernel itself",
    "clock/kafka: its virtual machine does not come up under libfaketime",
)


def skewed(name: str, processes: Sequence[str], seconds: int) -> Fault:
    """Processes that were started with their clock so many seconds ahead, or behind."""

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        async with stage.changed(processes, clock_variables(_reachable(stage), seconds)):
            yield

    def impossible(_: Stage) -> str:
        return "" if faketime() is not None else "libfaketime is not installed"

    side = "ahead" if seconds > 0 else "behind"
    return Fault(
        f"clock/{name}-{side}",
        inject,
        seconds=_LASTS_S,
        tolerated=_MAY_SAY,
        impossible=impossible,
        processes=frozenset(processes),
    )


def clocks(own_postgres: str) -> Iterator[Fault]:
    """Every application an hour off, Redis and one cell's database; who certifies, while it does."""
    for seconds in (_HOUR_S, -_HOUR_S):
        yield from (skewed(name, processes, seconds) for name, processes in _GROUPS.items())
        yield at_end(skewed("certifying", _CERTIFYING, seconds), During.CERTIFYING)
        yield from (skewed(server, (server,), seconds) for server in (own_postgres, "redis"))
    # Not behind: its cell is sealed only once the end has passed there, too, which is in an hour
    own = at_end(skewed(own_postgres, (own_postgres,), _HOUR_S), During.BEFORE_CLOSING)
    yield replace(own, seconds=_UNTIL_CERTIFIED_S)


def _reachable(stage: Stage) -> Path:
    """Return a copy of the library that a server's account can read too."""
    preloaded = faketime()
    assert preloaded is not None
    copy = Path(stage.house.state.folder) / preloaded.name
    if not copy.exists():
        shutil.copyfile(preloaded, copy)
        copy.chmod(0o755)
    return copy
