import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.end_to_end.house import House
from tests.faults.stage import Stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(house: House) -> AsyncIterator[Stage]:
    """The house, and voters with ballot papers."""
    with tempfile.TemporaryDirectory(prefix="comitia-notes-") as folder:
        yield await Stage.of(house, Path(folder), voters=600, seed=1)
