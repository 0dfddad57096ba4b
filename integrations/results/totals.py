"""One survey's totals over all cells, as exact as the reader may see them."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

from domain.errors import DomainError, ErrorCode
from domain.results import PublishedSurvey
from domain.tally import MISSING, CellView, MergedTotals, merge_cells
from integrations.postgres.survey_copies import SurveyCopies
from integrations.redis.tally_reader import TallyReader
from integrations.results.published import KnownSurvey, PublishedSurveys

_SEEN_MAX = 2000  # surveys times two ways to read them, per cell
_SEEN_CELL_TIMEOUT_S = 0.5  # then it stands still
_NEW_CELL_TIMEOUT_S = 2.0


class SurveyResults:
    """Merged totals; also the port `ResultsReader`, for exports.

    What a cell's tally said last is kept, so that a cell that cannot be read, or is being rebuilt, stands still
    instead of falling back. A rebuild that has not caught up yet counts as not there yet.
    """

    def __init__(
        self, surveys: PublishedSurveys, copies: Mapping[str, SurveyCopies], tallies: Mapping[str, TallyReader]
    ):
        self._surveys = surveys
        self._copies = copies
        self._tallies = tallies
        self._seen: OrderedDict[tuple[str, str, bool], CellView] = OrderedDict()

    async def published(self, survey_id: str) -> PublishedSurvey:
        """Return a survey as its cells have it. Raises DomainError as `PublishedSurveys.get`."""
        return (await self._surveys.get(survey_id)).published

    async def totals(self, survey_id: str) -> MergedTotals:
        """Return every vote that is folded, for staff and exports.

        Raises:
            DomainError: `survey_not_found`, `ledger_unavailable`; `tally_unavailable` where nothing is known.
        """
        return await self._merged(await self._surveys.get(survey_id), exact=True)

    async def public_totals(self, survey_id: str) -> MergedTotals:
        """Return what everyone may see: while the survey is open, the totals that move by its minimum step.

        Raises as `totals`. Whether they may be seen at all is the caller's to check.
        """
        known = await self._surveys.get(survey_id)
        survey = known.published.survey
        exact = survey.minimum_step <= 1 or known.published.is_closed
        return await self._merged(known, exact=exact)

    async def _merged(self, known: KnownSurvey, *, exact: bool) -> MergedTotals:
        if known.certified is not None:
            return known.certified
        cells = list(known.epochs)
        views = await asyncio.gather(*(self._view(cell, known, exact=exact) for cell in cells))
        merged = merge_cells(dict(zip(cells, views, strict=True)))
        if merged is None:
            raise DomainError(ErrorCode.TALLY_UNAVAILABLE)
        return merged

    async def _view(self, cell: str, known: KnownSurvey, *, exact: bool) -> CellView:
        survey_id = known.published.survey.id
        key = (cell, survey_id, exact)
        seen = self._seen.get(key)
        limit_s = _NEW_CELL_TIMEOUT_S if seen is None else _SEEN_CELL_TIMEOUT_S
        view = await self._read(cell, survey_id, known.epochs[cell], exact=exact, limit_s=limit_s)
        if view.totals is None:
            return replace(seen, current=False) if seen is not None else MISSING
        if view.totals.catching_up and seen is not None:
            return seen
        if seen is not None and seen.watermark is not None:
            view = replace(view, watermark=max(view.watermark or seen.watermark, seen.watermark))
        self._seen[key] = view
        self._seen.move_to_end(key)
        while len(self._seen) > _SEEN_MAX * len(self._tallies):
            self._seen.popitem(last=False)
        return view

    async def _read(self, cell: str, survey_id: str, epoch: int, *, exact: bool, limit_s: float) -> CellView:
        try:
            async with asyncio.timeout(limit_s):
                view = await self._tallies[cell].view(survey_id, exact=exact, installed_epoch=epoch)
                if view.totals is None or view.totals.epoch > 0:
                    return view
                # Nobody voted yet, or since we asked the ledger totals were installed, or even lost: ask it again
                copy = await self._copies[cell].get(survey_id)
                if copy is None or copy.installed_epoch == 0:
                    return view
                return await self._tallies[cell].view(survey_id, exact=exact, installed_epoch=copy.installed_epoch)
        except (DomainError, TimeoutError):
            return MISSING
