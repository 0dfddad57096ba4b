"""What voters do that must not count twice, with nothing broken at all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from comitia.demo.voters import Habit
from tests.faults.experiment import Fault
from tests.faults.stage import Stage

_LASTS_S = 4.0


@asynccontextmanager
async def _nothing(_: Stage) -> AsyncIterator[None]:
    yield


NOTHING = Fault("nothing", _nothing, seconds=_LASTS_S)
# Every voter sends two requests at the same moment, with two keys, to two processes where there are two.
TWINS = Fault("voters/twice-at-once", _nothing, seconds=_LASTS_S, habit=Habit.DOUBLE_CLICK)
# Every voter votes again after the answer, so never in the same batch.
AGAIN = Fault("voters/again", _nothing, seconds=_LASTS_S, habit=Habit.AGAIN)
