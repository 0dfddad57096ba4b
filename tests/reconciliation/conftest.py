from collections.abc import AsyncIterator, Awaitable, Callable

import pytest_asyncio

from comitia.stack.state import StackState
from tests.reconciliation_world import World, open_world
from tests.workers.tally_cells import TallyCell, make_cells, tally_databases

__all__ = ["make_cells", "tally_databases"]


@pytest_asyncio.fixture(loop_scope="session")
async def world(servers: StackState, make_cells: Callable[[], Awaitable[list[TallyCell]]]) -> AsyncIterator[World]:
    """A survey in two cells, with their tallies folding."""
    cells = await make_cells()
    async with open_world(servers, cells) as opened, cells[0].folding(), cells[1].folding():
        yield opened
