"""Every fault that `make faults` makes, by name."""

import random
from collections.abc import Iterator
from fnmatch import fnmatchcase

from comitia.stack.applications import APPLICATIONS
from tests.faults.between import between
from tests.faults.clocks import clocks
from tests.faults.closings import closings
from tests.faults.disks import full
from tests.faults.experiment import Fault, Place
from tests.faults.kills import EMPTY_REDIS, KILL_BEFORE_COMMIT, kill, pause
from tests.faults.ledgers import HELD_LEDGERS
from tests.faults.messages import REPEATED
from tests.faults.networks import everybody_from, networks, one_from_another
from tests.faults.overlaps import meeting, together
from tests.faults.voters import NOTHING, TWINS
from tests.faults.whole_stack import OWN_POSTGRES, SERVERS

_MEET_IN = 3  # one of so many faults at random meets another one


def usual() -> Iterator[Fault]:
    """What a run makes happen where it is not told otherwise, in this order: what has no time left is the end of it."""
    yield from (NOTHING, TWINS, REPEATED)
    processes = [application.name for application in APPLICATIONS]
    yield from (kill(name) for name in (*processes, *SERVERS))
    yield from (EMPTY_REDIS, KILL_BEFORE_COMMIT, HELD_LEDGERS)
    yield from closings(OWN_POSTGRES)
    yield from overlaps()
    yield from (full(server) for server in (OWN_POSTGRES, "kafka"))
    yield from networks()
    yield from between()
    yield from clocks(OWN_POSTGRES)
    yield from (pause(name) for name in (*SERVERS, *processes))


def overlaps() -> Iterator[Fault]:
    """Faults that meet, where each has what the other one needs."""
    cut, slow = (
        next(fault for fault in everybody_from("kafka") if fault.name.endswith(mode)) for mode in ("cut", "slow")
    )
    yield together(kill("temporal"), kill("postgres"))
    yield together(kill("workers-tally"), EMPTY_REDIS, cut)
    yield together(kill("workers-voting"), pause(OWN_POSTGRES))
    yield together(kill("api-votes"), slow, REPEATED)


def every() -> dict[str, Fault]:
    """Return all that there is, by name: the usual ones, and each process kept from each server alone."""
    return {fault.name: fault for fault in (*usual(), *one_from_another())}


def chosen(patterns: str) -> list[Fault]:
    """Return the faults whose names match one of the shell patterns, split by commas; the usual ones without any."""
    return [fault for name, fault in every().items() if _matches(name, patterns)] if patterns else list(usual())


def at_random(seed: int, patterns: str = "") -> Iterator[Fault]:
    """Return faults of the whole stack for ever, the same for the same seed; now and then two that overlap."""
    chance = random.Random(seed)
    found = [fault for name, fault in every().items() if not patterns or _matches(name, patterns)]
    faults = [fault for fault in found if fault.place is Place.WHOLE_STACK]
    while faults:
        fault = chance.choice(faults)
        yield meeting(fault, faults, chance) if chance.randrange(_MEET_IN) == 0 else fault


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns.split(","))
