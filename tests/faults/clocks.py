"""Processes whose clock is an hour off, by libfaketime: the wall clock only, as a wrong clock is."""

import importlib.util
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.faults.experiment import Fault
from tests.faults.stage import Stage

_HOUR_S = 3600
_LASTS_S = 8.0
_DEBIAN = "/usr/lib/*/faketime/libfaketime.so.1"
# A process an hour off cannot tell a good token from an old one: it may refuse, never record wrongly.
_MAY_SAY = frozenset({"token_expired", "token_invalid", "step_up_required"})
SKEWED = ("api-votes", "api-eligibility", "workers-voting", "workers-tally", "workers-platform")


def library() -> Path | None:
    """Return libfaketime: the wheel's, Debian's, or None."""
    spec = importlib.util.find_spec("libfaketime")
    if spec is not None and spec.origin is not None:
        found = sorted((Path(spec.origin).parent / "vendor").rglob("libfaketime.so.1"))
        if found:
            return found[0]
    return next(iter(sorted(Path("/").glob(_DEBIAN.lstrip("/")))), None)


def skewed(process: str, seconds: int) -> Fault:
    """A process that was started with its clock so many seconds ahead, or behind."""

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        preloaded = library()
        assert preloaded is not None
        variables = {
            "LD_PRELOAD": str(preloaded),
            "FAKETIME": f"{seconds:+d}",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # what waits and measures goes on as it is
        }
        async with stage.changed([process], variables):
            yield

    def impossible(_: Stage) -> str:
        return "" if library() is not None else "libfaketime is not installed"

    side = "ahead" if seconds > 0 else "behind"
    return Fault(f"clock/{process}-{side}", inject, seconds=_LASTS_S, tolerated=_MAY_SAY, impossible=impossible)


def clocks() -> Iterator[Fault]:
    """Each process an hour ahead, and an hour behind."""
    for process in SKEWED:
        yield from (skewed(process, _HOUR_S), skewed(process, -_HOUR_S))
