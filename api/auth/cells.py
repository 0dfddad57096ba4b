"""Opens what the service `auth` needs of each cell; a cell that is down keeps only its own people waiting."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from domain.errors import DomainError, ErrorCode
from integrations.postgres.pool import NotDurableError, Pool, open_pool
from integrations.postgres.roles import IDENTITY
from integrations.reaching import any_answers, reach_cells
from integrations.settings import Settings
from integrations.telemetry.metrics import DatabaseMetrics

POOL_SIZE = 8


@dataclass(frozen=True, slots=True)
class AuthCell:
    """What the service needs of one cell."""

    name: str
    pool: Pool


class AuthCells:
    """The cells of this process that have been reached."""

    def __init__(self, settings: Settings, *, database: DatabaseMetrics) -> None:
        self._settings = settings
        self._database = database
        self._open: dict[str, AuthCell] = {}

    def of(self, cell: str | None) -> AuthCell:
        """Return an open cell, by the name that an id or a token carries.

        Raises:
            DomainError: `wrong_cell` where this process does not serve it, `cell_unavailable` where it is down.
        """
        found = self._open.get(cell or "")
        if found is None:
            raise DomainError(
                ErrorCode.CELL_UNAVAILABLE if cell in self._settings.cells else ErrorCode.WRONG_CELL, "the cell"
            )
        return found

    async def open(self, lifetime: AsyncExitStack) -> None:
        """Open every cell that can be reached; the others follow when they can.

        Raises:
            NotDurableError: a database would acknowledge what a crash can undo.
        """
        await reach_cells(self._settings.cells, self._open_cell, lifetime, final=(NotDurableError,))

    async def ready(self) -> bool:
        """Tell whether people of some cell can be served now."""
        return await any_answers(partial(cell.pool.fetchval, "SELECT true", timeout=1) for cell in self._open.values())

    async def _open_cell(self, name: str, stack: AsyncExitStack) -> None:
        pool = await open_pool(self._settings.cells[name].database, self._settings, IDENTITY, size=POOL_SIZE)
        stack.push_async_callback(pool.close)
        self._database.watch_pool(name, pool.get_size, pool.get_idle_size)
        self._open[name] = AuthCell(name, pool)
