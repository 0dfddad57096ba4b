"""What commands that work in the identities of cells have in common: connections, and who gives them."""

import getpass
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from domain.audit import AuditEntry
from integrations.postgres.pool import Pool, open_pool
from integrations.postgres.roles import IDENTITY
from integrations.postgres.staff_entries import PostgresStaffEntries
from integrations.settings import Settings


@asynccontextmanager
async def identity_pools(
    settings: Settings, cells: Iterable[str], role: str = IDENTITY
) -> AsyncIterator[dict[str, Pool]]:
    """Open cells as identity, or as another role that works there.

    Raises:
        LookupError: there is no such cell.
    """
    async with AsyncExitStack() as opened:
        pools = {}
        for cell in cells:
            if cell not in settings.cells:
                raise LookupError(f"no cell {cell}; there are {', '.join(sorted(settings.cells)) or 'none'}")
            pools[cell] = await open_pool(settings.cells[cell].database, settings, role, size=2)
            opened.push_async_callback(pools[cell].close)
        yield pools


async def note_command(settings: Settings, cells: Iterable[str], entry_of: Callable[[str], AuditEntry]) -> None:
    """Return once each cell has the entry of what a command is about to do there.

    Raises:
        LookupError: there is no such cell, or no password of `comitia_identity`.
        DomainError: `directory_unavailable`.
    """
    async with identity_pools(settings, cells) as pools:
        for cell, pool in pools.items():
            entry = entry_of(cell)
            await PostgresStaffEntries(pool).note(entry.subject, entry)


def operator() -> str:
    """Return who gives the command, as changes and audit entries name it: the account of the machine."""
    account = re.sub(r"[^A-Za-z0-9_.@-]", "-", getpass.getuser()) or "unknown"
    return f"comitia:{account}"[:64]
