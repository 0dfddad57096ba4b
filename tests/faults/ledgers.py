"""Ledgers that record nothing for a while: what was accepted is then in Temporal alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.faults.experiment import Fault
from tests.faults.stage import DOOR, Stage

_ONE, _AWAY_S = "us", 2.0
_WORKER = "workers-voting"
_HELD_S = 5.0  # longer than an activity is tried locally, and than any limit that somebody may plant


@asynccontextmanager
async def held(stage: Stage) -> AsyncIterator[None]:
    """Keep every cell from recording votes of the survey that is voted in, and kill who waits for it before the end.

    What an attempt that was given up still holds would otherwise be recorded by it after all.
    """
    assert stage.survey is not None
    recording = [name for name in stage.processes if name.startswith(DOOR) or name == _WORKER]
    async with AsyncExitStack() as locks:
        for cell in stage.house.directories:
            await locks.enter_async_context(stage.house.locked_survey(stage.survey.survey_id, cell))
        yield
        await asyncio.gather(*(stage.processes[name].kill() for name in recording))
    for name in sorted(recording, reverse=True):  # the worker first, as ever
        await stage.start(name)


@asynccontextmanager
async def _away(stage: Stage) -> AsyncIterator[None]:
    async with stage.house.cell_cut_off(_ONE):
        yield


HELD_LEDGERS = Fault("hold/ledgers", held, seconds=_HELD_S, processes=frozenset({DOOR, f"{DOOR}-2", _WORKER}))
# The database of one cell refuses everybody, and ends every connection; the other cell's is on the same server.
CELL_AWAY = Fault(f"away/{_ONE}", _away, seconds=_AWAY_S)
