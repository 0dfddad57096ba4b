"""Opens what a process needs of each cell; a cell that is down keeps nobody waiting but its own voters."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import TypeVar

import structlog

from domain.errors import DomainError, ErrorCode
from integrations.postgres.failures import UNAVAILABLE

FIRST_WAIT_S = 5.0
_RETRY_S = 1.0
_AWAY = (*UNAVAILABLE, DomainError, RuntimeError)  # of which the last is what Temporal's client says

T = TypeVar("T")

log = structlog.get_logger()


async def reach_cells(
    cells: Iterable[str],
    open_cell: Callable[[str, AsyncExitStack], Awaitable[None]],
    lifetime: AsyncExitStack,
    *,
    final: tuple[type[Exception], ...] = (),
) -> None:
    """Open every cell, waiting `FIRST_WAIT_S` at most; those that are down are tried again until `lifetime` ends.

    `open_cell(cell, stack)` opens what it needs within `stack`, which ends with `lifetime`, or at once where the
    opening fails half-way. An error of a `final` type is raised: trying again would not help.
    """
    tasks = {asyncio.create_task(_reach(cell, open_cell, lifetime, final), name=f"reach-{cell}") for cell in cells}
    if not tasks:
        return
    done, waiting = await asyncio.wait(tasks, timeout=FIRST_WAIT_S)
    for task in waiting:
        lifetime.push_async_callback(_cancel, task)
    for task in done:
        task.result()


def reached(opened: Mapping[str, T], cells: Container[str | None], name: str | None) -> T:
    """Return what a process has opened of a cell, by the name that an id or a token carries.

    Raises:
        DomainError: `wrong_cell` where this process does not serve it, `cell_unavailable` where it is down.
    """
    found = opened.get(name or "")
    if found is None:
        raise DomainError(ErrorCode.CELL_UNAVAILABLE if name in cells else ErrorCode.WRONG_CELL, "the cell")
    return found


async def any_answers(checks: Iterable[Callable[[], Awaitable[object]]]) -> bool:
    """Tell whether any of these checks passes now: a process is ready while it can serve some cell.

    A check fails by returning something false, or by raising.
    """
    return any(await asyncio.gather(*(_passes(check) for check in checks)))


async def _passes(check: Callable[[], Awaitable[object]]) -> bool:
    try:
        return bool(await check())
    except Exception:  # noqa: BLE001 - whatever it is, this cell cannot be served now
        return False


async def _reach(
    cell: str,
    open_cell: Callable[[str, AsyncExitStack], Awaitable[None]],
    lifetime: AsyncExitStack,
    final: tuple[type[Exception], ...],
) -> None:
    failing = False
    while True:
        stack = AsyncExitStack()
        try:
            await open_cell(cell, stack)
        except final:
            await stack.aclose()
            raise
        except _AWAY as error:
            await stack.aclose()
            if not failing:
                log.warning("cell_unreachable", cell=cell, error=type(error).__name__)
            failing = True
            await asyncio.sleep(_RETRY_S)
        except BaseException:
            await stack.aclose()
            raise
        else:
            lifetime.push_async_callback(stack.aclose)
            log.info("cell_opened", cell=cell)
            return


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
