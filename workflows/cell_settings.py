"""Bringing every cell to what was asked for last, each by itself: one that is away holds up no other."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError

from workflows.policies import COMMIT

with workflow.unsafe.imports_passed_through():
    from domain.contracts.base import Contract

_Request = TypeVar("_Request", bound=Contract)


def _never() -> bool:
    return False


class CellSetting(Generic[_Request]):
    """One thing that a survey has in every cell, and may have otherwise later.

    A cell that is told something is told it until it has it, and then what was asked for meanwhile: never two things
    at once, so the last one stays. What was overtaken before a cell was told is not told there.
    """

    def __init__(self, cells: tuple[str, ...], activity: Callable[[Any, _Request], Awaitable[None]]) -> None:
        """`activity` takes the setting for one `cell`, a field of it, and is safe to repeat."""
        self._cells = cells
        self._activity = activity
        self._wanted: dict[str, _Request] = {}  # of the cells that have not got it yet
        self._refused: dict[str, ActivityError] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def is_settled(self) -> bool:
        """Whether every cell has what was asked for last."""
        return not self._wanted

    def ask(self, request: _Request) -> None:
        """Have every cell brought to this."""
        self._wanted = dict.fromkeys(self._cells, request)
        self.ask_again()

    def ask_again(self) -> None:
        """Go on in the cells that refused: what kept them from it may be repaired."""
        self._refused = {}
        for cell in self._wanted:
            if cell not in self._tasks or self._tasks[cell].done():
                self._tasks[cell] = asyncio.create_task(self._bring(cell))

    async def settled(self, within: timedelta | None = None, or_if: Callable[[], bool] = _never) -> None:
        """Return once every cell has what was asked for last; also after `within`, or as soon as `or_if` says so.

        Raises:
            ActivityError: a cell refuses it for good, having lost the survey, say.
        """
        if self.is_settled:
            return
        try:
            await workflow.wait_condition(lambda: self._is_done() or or_if(), timeout=within)
        except TimeoutError:
            return
        for refusal in self._refused.values():
            raise refusal

    def _is_done(self) -> bool:
        return self._wanted.keys() <= self._refused.keys()

    async def _bring(self, cell: str) -> None:
        while cell in self._wanted and cell not in self._refused:
            wanted, refusal = self._wanted[cell], None
            try:
                await workflow.execute_activity_method(
                    self._activity, wanted.model_copy(update={"cell": cell}), **COMMIT
                )
            except ActivityError as error:
                workflow.logger.error("cell_refused", extra={"cell": cell, "activity_type": error.activity_type})
                refusal = error
            if self._wanted[cell] != wanted:
                continue
            if refusal is None:
                del self._wanted[cell]
            else:
                self._refused[cell] = refusal
