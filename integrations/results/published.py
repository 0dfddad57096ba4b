"""Surveys as their cells have them, read from every cell and kept for a second."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from domain.errors import DomainError, ErrorCode
from domain.results import PublishedSurvey
from domain.tally import MergedTotals
from integrations.postgres.survey_copies import SurveyCopies, SurveyCopy

_FRESH_S = 0.8
_KEPT_MAX = 2000  # surveys; the least recently asked for go first
_KNOWN_CELL_TIMEOUT_S = 0.5  # then the cell is passed over, with what was last seen of it
_NEW_CELL_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class KnownSurvey:
    """A survey and, per cell that has it, the epoch that the cell's tally must have at least.

    `certified` are its totals for good, where any cell has them: no tally is asked then.
    """

    published: PublishedSurvey
    epochs: Mapping[str, int]
    certified: MergedTotals | None = None


@dataclass(slots=True)
class _Kept:
    copies: dict[str, SurveyCopy] = field(default_factory=dict)
    known: KnownSurvey | None = None
    read_at: float = -1.0


class PublishedSurveys:
    """Reads surveys from all cells; a cell that is away is remembered as it was.

    Of one that is away since before this process began nobody here knows its end: the survey may still take votes
    there, so until it answers nothing is shown that waits for the end. What time it is the cells say, whose ends these
    are; the clock of this process is asked for nothing that is shown or not.
    """

    def __init__(self, cells: Mapping[str, SurveyCopies]) -> None:
        self._cells = cells
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._reading: dict[str, asyncio.Task[KnownSurvey]] = {}

    async def get(self, survey_id: str) -> KnownSurvey:
        """Return a survey, at most a second old while its cells answer.

        Raises:
            DomainError: `survey_not_found` where no cell has it; `ledger_unavailable` where none that could answer does
                and it is not known from before.
        """
        kept = self._kept.get(survey_id)
        if kept is not None and kept.known is not None and time.monotonic() - kept.read_at < _FRESH_S:
            self._kept.move_to_end(survey_id)
            return kept.known
        task = self._reading.get(survey_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read(survey_id))
            self._reading[survey_id] = task
            task.add_done_callback(lambda done: self._done(survey_id, done))
        return await asyncio.shield(task)

    def _done(self, survey_id: str, task: asyncio.Task[KnownSurvey]) -> None:
        del self._reading[survey_id]
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody may be waiting any more

    async def _read(self, survey_id: str) -> KnownSurvey:
        kept = self._kept.get(survey_id) or _Kept()
        found = await asyncio.gather(
            *(self._read_cell(cell, survey_id, known=cell in kept.copies) for cell in self._cells)
        )
        silent, answered = set[str](), dict[str, datetime]()
        for cell, answer in zip(self._cells, found, strict=True):
            if isinstance(answer, DomainError):
                silent.add(cell)
            elif answer is None:
                kept.copies.pop(cell, None)
            else:
                kept.copies[cell] = answer
                answered[cell] = answer.asked_at
        if not kept.copies:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE if silent else ErrorCode.SURVEY_NOT_FOUND)
        kept.known = _merge(kept.copies, answered, is_whole=silent <= kept.copies.keys())
        kept.read_at = time.monotonic()
        self._kept[survey_id] = kept
        self._kept.move_to_end(survey_id)
        while len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        return kept.known

    async def _read_cell(self, cell: str, survey_id: str, *, known: bool) -> SurveyCopy | DomainError | None:
        try:
            async with asyncio.timeout(_KNOWN_CELL_TIMEOUT_S if known else _NEW_CELL_TIMEOUT_S):
                return await self._cells[cell].get(survey_id)
        except TimeoutError:
            return DomainError(ErrorCode.LEDGER_UNAVAILABLE, "late")
        except DomainError as error:
            return error


def _merge(copies: Mapping[str, SurveyCopy], answered: Mapping[str, datetime], *, is_whole: bool) -> KnownSurvey:
    """Take the newest definition; the survey is closed when its last cell is.

    `answered` are the clocks of the cells that said something now: of another one it is as late as the slowest of them
    says. `is_whole` is False where a cell is in no copy because it never answered. A certificate is of a survey that is
    sealed in every cell.
    """
    newest = max(copies.values(), key=lambda copy: copy.survey.version)
    certified = next((copy.certified for copy in copies.values() if copy.certified is not None), None)
    slowest = min(answered.values(), default=None)
    closed = all(_is_closed(copy, answered.get(cell, slowest)) for cell, copy in copies.items())
    return KnownSurvey(
        PublishedSurvey(newest.survey, certified is not None or (is_whole and closed)),
        {cell: copy.installed_epoch for cell, copy in copies.items()},
        certified,
    )


def _is_closed(copy: SurveyCopy, now: datetime | None) -> bool:
    return copy.finish_at is not None and copy.finish_at <= (now or copy.asked_at)
