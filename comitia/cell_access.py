"""What commands that work in the identities of cells have in common: settings, connections, and who gives them."""

import getpass
import os
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from comitia.stack.state import read_state
from integrations.postgres.pool import Pool, open_pool
from integrations.postgres.roles import IDENTITY
from integrations.settings import Environment, Settings

DataFolder = Annotated[Path, typer.Option("--data", envvar="COMITIA_DATA", help="The folder of the running stack.")]
STACK_FOLDER = Path(".comitia")


def identity_settings(folder: Path) -> Settings:
    """The settings of the stack in `folder`, or the environment's where there is none; production is always said so."""
    state = None if os.environ.get("COMITIA_ENVIRONMENT") == Environment.PRODUCTION else read_state(folder)
    return state.settings_for(IDENTITY) if state is not None else Settings()


@asynccontextmanager
async def identity_pools(settings: Settings, cells: Iterable[str]) -> AsyncIterator[dict[str, Pool]]:
    """Open cells as identity.

    Raises:
        LookupError: there is no such cell.
    """
    async with AsyncExitStack() as opened:
        pools = {}
        for cell in cells:
            if cell not in settings.cells:
                raise LookupError(f"no cell {cell}; there are {', '.join(sorted(settings.cells)) or 'none'}")
            pools[cell] = await open_pool(settings.cells[cell].database, settings, IDENTITY, size=2)
            opened.push_async_callback(pools[cell].close)
        yield pools


def operator() -> str:
    """Return who gives the command, as changes and audit entries name it: the account of the machine."""
    account = re.sub(r"[^A-Za-z0-9_.@-]", "-", getpass.getuser()) or "unknown"
    return f"comitia:{account}"[:64]
