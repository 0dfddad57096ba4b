"""Every fault that `make faults` makes, by name."""

import random
from collections.abc import Iterator
from fnmatch import fnmatchcase

from comitia.stack.applications import APPLICATIONS
from tests.faults.clocks import clocks
from tests.faults.disks import full
from tests.faults.experiment import Fault
from tests.faults.kills import EMPTY_REDIS, KILL_BEFORE_COMMIT, kill, pause
from tests.faults.messages import REPEATED
from tests.faults.networks import networks, one_from_another
from tests.faults.voters import NOTHING, TWINS
from tests.faults.whole_stack import OWN_POSTGRES, SERVERS


def usual() -> Iterator[Fault]:
    """What a run makes happen where it is not told otherwise, in this order."""
    yield from (NOTHING, TWINS)
    processes = [application.name for application in APPLICATIONS]
    yield from (kill(name) for name in (*processes, *SERVERS))
    yield from (EMPTY_REDIS, KILL_BEFORE_COMMIT)
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
