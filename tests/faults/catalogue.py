"""Every fault that `make faults` makes, by name."""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase

from comitia.demo.voters import Habit
from comitia.stack.applications import APPLICATIONS
from tests.faults.clocks import clocks
from tests.faults.disks import full
from tests.faults.experiment import Fault
from tests.faults.kills import EMPTY_REDIS, kill, pause
from tests.faults.messages import REPEATED
from tests.faults.networks import networks, one_from_another
from tests.faults.stage import Stage
from tests.faults.whole_stack import OWN_POSTGRES, SERVERS

_TWINS_S = 4.0


@asynccontextmanager
async def _nothing(_: Stage) -> AsyncIterator[None]:
    yield


# Every voter sends two requests at the same moment, with two keys, to two processes.
TWINS = Fault("voters/twice-at-once", _nothing, seconds=_TWINS_S, habit=Habit.DOUBLE_CLICK)
NOTHING = Fault("nothing", _nothing, seconds=_TWINS_S)


def usual() -> Iterator[Fault]:
    """What a run makes happen where it is not told otherwise, in this order."""
    yield from (NOTHING, TWINS)
    processes = [application.name for application in APPLICATIONS]
    yield from (kill(name) for name in (*processes, *SERVERS))
    yield EMPTY_REDIS
    yield from (pause(name) for name in (*processes, *SERVERS))
    yield from networks()
    yield from (full(server) for server in (OWN_POSTGRES, "kafka"))
    yield from clocks()
    yield REPEATED


def every() -> dict[str, Fault]:
    """Return all that there is, by name: the usual ones, and each process kept from each server alone."""
    return {fault.name: fault for fault in (*usual(), *one_from_another())}


def chosen(patterns: str) -> list[Fault]:
    """Return the faults whose names match one of the shell patterns, split by commas; the usual ones without any."""
    return [fault for name, fault in every().items() if _matches(name, patterns)] if patterns else list(usual())


def at_random(seed: int, patterns: str = "") -> Iterator[Fault]:
    """Return faults for ever, the same for the same seed."""
    chance = random.Random(seed)
    faults = [fault for name, fault in every().items() if not patterns or _matches(name, patterns)]
    while faults:
        yield chance.choice(faults)


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns.split(","))
