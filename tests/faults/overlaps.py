"""Faults that meet: each begins while those before it last, and they are healed in reverse."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from tests.faults.experiment import During, Fault
from tests.faults.stage import Stage


def together(*faults: Fault) -> Fault:
    """Several faults as one: it lasts as long as the longest, and voters may hear what any of them lets them hear."""

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        async with AsyncExitStack() as lasting:
            for fault in faults:
                await lasting.enter_async_context(fault.inject(stage))
            yield

    def impossible(stage: Stage) -> str:
        return next((reason for fault in faults if (reason := fault.impossible(stage))), "")

    return Fault(
        "+".join(fault.name for fault in faults),
        inject,
        seconds=max(fault.seconds for fault in faults),
        tolerated=frozenset().union(*(fault.tolerated for fault in faults)),
        impossible=impossible,
        habit=next((fault.habit for fault in faults if fault.habit), None),
        processes=frozenset().union(*(fault.processes for fault in faults)),
    )


def meeting(first: Fault, faults: Sequence[Fault], chance: random.Random) -> Fault:
    """Return a fault together with another one that it can meet, or alone where there is none.

    What is over at once comes first, and is so healed last: a process is started again when what it needs is back.
    """
    others = [fault for fault in faults if _can_meet(first, fault)]
    if not others or first.during is not During.VOTING:
        return first
    return together(*sorted((first, chance.choice(others)), key=lambda fault: fault.seconds))


def _can_meet(one: Fault, other: Fault) -> bool:
    return one.name != other.name and other.during is During.VOTING and not one.processes & other.processes
