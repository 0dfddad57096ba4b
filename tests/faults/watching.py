"""Looks at ledgers, results and stream all the time, so that it can be said when they were right again."""

import asyncio
import contextlib
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from comitia.demo.client import HttpClient, NoAnswerError
from comitia.demo.events import LiveResults
from comitia.demo.survey import PublishedElection
from tests.end_to_end.house import House
from tests.faults.notes import ACCEPTED, CONFIRMED, Notebook, Said

_LOOK_EVERY_S = 0.2
_LOOK_WITHIN_S = 1.0
_SHOWN_WITHIN_S = 1.0  # what is this old in the ledger has to be in the results
_IN_A_ROW = 3  # one good answer may be luck


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: ballots in the ledgers, in the results (-1: none were shown, or a cell was missing), on the stream."""

    at: float
    recorded: int
    shown: int
    streamed: int
    right: bool  # results and stream show at least what the ledgers had a second before


class Watch:
    """Watches one survey until `close`."""

    def __init__(self, house: House, survey: PublishedElection) -> None:
        self.samples: list[Sample] = []
        self._house, self._survey = house, survey
        self._results = HttpClient(house.supervisor.url("results"))
        self._live = LiveResults(house.supervisor.url("streams"), survey.survey_id)
        self._known: dict[str, int] = {}
        self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._live.run())]

    async def close(self) -> None:
        """Look no longer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._results.close()

    async def recorded(self) -> int:
        """Return how many participations the ledgers have; of one that does not answer, the last that is known."""
        await asyncio.gather(*(self._count(cell) for cell in self._house.directories))
        return sum(self._known.values())

    def right_since(self, instant: float) -> float | None:
        """Return how long after an instant results and stream showed what the ledgers have; None: not yet."""
        row: list[float] = []
        for sample in self.samples[bisect_left(self.samples, instant, key=lambda sample: sample.at) :]:
            row = [*row, sample.at] if sample.right else []
            if len(row) == _IN_A_ROW:
                return row[0] - instant
        return None

    def _sample(self, at: float, recorded: int, shown: int) -> Sample:
        before = bisect_right(self.samples, at - _SHOWN_WITHIN_S, key=lambda sample: sample.at)
        due = self.samples[before - 1].recorded if before else 0  # what is known of the ledgers never shrinks
        streamed = self._live.total
        return Sample(at, recorded, shown, streamed, min(shown, streamed) >= due)

    async def _look(self) -> None:
        while True:
            recorded, shown = await asyncio.gather(self.recorded(), self._shown())
            self.samples.append(self._sample(time.monotonic(), recorded, shown))
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _count(self, cell: str) -> None:
        with contextlib.suppress(Exception):  # whatever it is, the ledger cannot be read now
            async with asyncio.timeout(_LOOK_WITHIN_S):
                self._known[cell] = await self._house.owners[cell].fetchval(
                    "SELECT count(*) FROM voting.participation WHERE survey_id = $1", self._survey.survey_id
                )

    async def _shown(self) -> int:
        try:
            async with asyncio.timeout(_LOOK_WITHIN_S):
                answer = await self._results.request("GET", self._survey.results_path)
        except (NoAnswerError, TimeoutError):
            return -1
        if answer.status != 200:
            return -1
        document = answer.json()
        return -1 if document["missingCells"] else int(document["totalResponses"])


def confirmed_since(notebook: Notebook, doors: Sequence[str], cells: Sequence[str], instant: float) -> float | None:
    """Return how long after an instant votes were confirmed again by every process for every cell; None: not yet.

    That is the first of three confirmations in a row of votes that were sent after the instant, whether the vote was
    confirmed in its answer or was accepted first and its voter looked again.
    """
    first = bisect_left(notebook.said, instant, key=lambda one: one.heard)
    since = sorted((one for one in notebook.said[first:] if one.sent >= instant), key=lambda one: one.sent)
    latest = 0.0
    for door in doors:
        for cell in cells:
            row: list[float] = []
            for one in since:
                if (one.door, one.cell) != (door, cell):
                    continue
                if one.code == "already_voted":
                    continue  # says nothing about the way to the ledger
                heard = _confirmed_at(notebook, one)
                row = [*row, heard] if heard is not None else []
                if len(row) == _IN_A_ROW:
                    break
            else:
                return None
            latest = max(latest, row[0] - instant)
    return latest


def _confirmed_at(notebook: Notebook, said: Said) -> float | None:
    if said.status == CONFIRMED:
        return said.heard
    learnt = notebook.learnt.get(said.voter)
    return learnt.heard if said.status == ACCEPTED and learnt is not None and learnt.status == "confirmed" else None
