"""Processes whose clock is an hour off, by libfaketime: the wall clock only, as a wrong clock is."""

import importlib.util
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.faults.closings import at_end
from tests.faults.experiment import During, Fault
from tests.faults.stage import Stage

_HOUR_S = 3600
_LASTS_S = 6.0
_DEBIAN = "/usr/lib/*/faketime/libfaketime.so.1"
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
NEVER = "clock/temporal: its server is a static program that asks the kernel itself"


def library() -> Path | None:
    """Return libfaketime: the wheel's, Debian's, or None."""
    spec = importlib.util.find_spec("libfaketime")
    if spec is not None and spec.origin is not None:
        found = sorted((Path(spec.origin).parent / "vendor").rglob("libfaketime.so.1"))
        if found:
            return found[0]
    return next(iter(sorted(Path("/").glob(_DEBIAN.lstrip("/")))), None)


def skewed(name: str, processes: Sequence[str], seconds: int) -> Fault:
    """Processes that were started with their clock so many seconds ahead, or behind."""

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        variables = {
            "LD_PRELOAD": str(_reachable(stage)),
            "FAKETIME": f"{seconds:+d}",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # what waits and measures goes on as it is
        }
        async with stage.changed(processes, variables):
            yield

    def impossible(_: Stage) -> str:
        return "" if library() is not None else "libfaketime is not installed"

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
    """Every application an hour ahead and behind, and one cell's database; who certifies, while it does."""
    for seconds in (_HOUR_S, -_HOUR_S):
        yield from (skewed(name, processes, seconds) for name, processes in _GROUPS.items())
        yield at_end(skewed("certifying", _CERTIFYING, seconds), During.CERTIFYING)
        yield skewed(own_postgres, (own_postgres,), seconds)


def _reachable(stage: Stage) -> Path:
    """Return a copy of the library that a server's account can read too."""
    preloaded = library()
    assert preloaded is not None
    copy = Path(stage.house.state.folder) / preloaded.name
    if not copy.exists():
        shutil.copyfile(preloaded, copy)
        copy.chmod(0o755)
    return copy
