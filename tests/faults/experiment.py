"""One fault under load: vote, break, heal, wait for quiet, and compare what was told with what is kept and shown.

Where it is asked for, the survey is then finished, and its certificate compared as well.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import Enum, auto

from comitia.demo.checking import read_results
from comitia.demo.client import HttpClient, NoAnswerError
from comitia.demo.glasgow import Totals
from comitia.demo.survey import PublishedElection, RefusedError
from comitia.demo.voters import Habit
from tests.faults.checking import Kept, Verdict, expected_papers, judge, read_kept
from tests.faults.crowd import Crowd, habits
from tests.faults.ending import Ended, compared_end, finish, over
from tests.faults.notes import Notebook, Notes
from tests.faults.stage import Stage
from tests.faults.watching import Watch, confirmed_since

_BEGIN_WITHIN_S = 60.0
_SOME_MORE_WITHIN_S = 30.0
_LOOK_EVERY_S, _WEIGH_EVERY_S = 0.1, 0.4
_NOT_FINISHED = Ended(None, ("it was not finished",))


class During(Enum):
    """What goes on when a fault strikes."""

    VOTING = auto()
    BEFORE_CLOSING = auto()  # it lasts already when staff ask for the survey's end, and people vote
    CLOSING = auto()  # staff have just asked for the survey's end, and people vote
    CERTIFYING = auto()  # the survey is closed, and its certificate is being made


class Place(Enum):
    """Which stack a fault is made in."""

    WHOLE_STACK = auto()
    SERVERS_APART = auto()  # where servers can be kept from each other


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong: `inject(stage)` makes it happen, and heals it at the end of the block.

    `seconds` it lasts; 0 is over at once, and the time to recover counts from its beginning. `tolerated` are codes
    that voters may hear meanwhile besides `overloaded` and its like. `impossible` says why it cannot be made here.
    `processes` are stopped or started by it, so that no other fault may do that meanwhile.
    """

    name: str
    inject: Callable[[Stage], AbstractAsyncContextManager[None]]
    seconds: float = 0.0
    tolerated: frozenset[str] = frozenset()
    impossible: Callable[[Stage], str] = lambda _: ""
    habit: Habit | None = None  # what every voter does, where that is not as the load says
    during: During = During.VOTING
    processes: frozenset[str] = frozenset()
    place: Place = Place.WHOLE_STACK


@dataclass(frozen=True, slots=True)
class Load:
    """How much is voted: votes per second, seconds before the fault and after recovery, `habits` vote oddly."""

    rate: float = 40.0
    at_once: int = 300  # voters who wait for an outcome; while there are so many, nobody else comes
    before_s: float = 2.0
    after_s: float = 1.5
    habits: float = 0.25
    recover_within_s: float = 60.0
    patience_s: float = 90.0


@dataclass(frozen=True, slots=True)
class Row:
    """What one fault came to; None where votes or results did not recover.

    Nothing is confirmed again in a survey that the fault met at its end: how long its certificate took says it all.
    """

    fault: str
    verdict: Verdict
    confirmed_again_s: float | None
    right_again_s: float | None
    statuses: dict[int, int]
    refused: int  # requests of people who had voted
    surprises: tuple[str, ...]
    revived: tuple[str, ...]
    ended: Ended | None = None  # None: it goes on
    during: During = During.VOTING

    @property
    def recovered(self) -> bool:
        """Whether votes and results came back, where they have to."""
        return self.during is not During.VOTING or None not in (self.confirmed_again_s, self.right_again_s)

    @property
    def holds(self) -> bool:
        """Whether what was promised was kept."""
        return (
            self.verdict.holds
            and self.verdict.acknowledged > 0
            and not self.surprises
            and self.recovered
            and (self.ended is None or not self.ended.problems)
        )


class Experiment:
    """A survey, its crowd and its watch; made anew for each fault."""

    def __init__(
        self, stage: Stage, survey: PublishedElection, notebook: Notebook, load: Load, *, closing: bool
    ) -> None:
        self._stage, self._survey, self._load, self._closing = stage, survey, load, closing
        self.notebook = notebook
        self.crowd = Crowd(
            stage.doors, survey, stage.house.access, notebook, patience_s=load.patience_s, closing=closing
        )
        self.watch = Watch(stage.house, survey)

    @property
    def votes_after(self) -> int:
        """How many more confirmed voters there are to be once all goes on."""
        return round(self._load.rate * self._load.after_s / 2)

    async def close(self) -> None:
        """End what still runs."""
        await self.crowd.close()
        await self.watch.close()

    async def confirmed(self, votes: int, within_s: float) -> bool:
        """Wait for so many confirmed voters; False where the time is over first."""
        return await _until(lambda: self.crowd.confirmed >= votes, within_s)

    async def recovered(self, since: float, healed: float) -> tuple[float | None, float | None]:
        """Wait until votes are confirmed and results right again; return how long each took."""
        doors, cells = list(self._stage.doors.votes), sorted(self._stage.house.directories)
        found: tuple[float | None, float | None] = (None, None)

        def both() -> bool:
            nonlocal found
            found = (
                confirmed_since(self.notebook, doors, cells, since),
                self.watch.right_since(healed),
            )
            return None not in found

        await _until(both, self._load.recover_within_s, every_s=_WEIGH_EVERY_S)
        return found

    async def quiet(self) -> None:
        """Wait until everybody has an outcome, and results and stream show what the ledgers have."""
        await self.crowd.leave()
        deadline = time.monotonic() + self._load.recover_within_s
        while time.monotonic() < deadline:
            recorded = await self.watch.recorded()
            last = self.watch.samples[-1]
            if recorded == last.recorded == last.shown == last.streamed:
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    async def compared(self) -> tuple[Verdict, Notes, Kept]:
        """Compare notes, ledgers and results."""
        notes = Notes.read(self.notebook.path)
        house = self._stage.house
        owners = {cell: house.owners[cell] for cell in house.directories}
        kept = await read_kept(owners, self._stage.keys, self._survey)
        regions = sorted({one.region for one in notes.asked.values()})
        verdict = judge(notes, kept, await self._results(regions), self._survey, closing=self._closing)
        return verdict, notes, kept

    async def _results(self, regions: list[str]) -> Totals:
        results = HttpClient(self._stage.house.supervisor.url("results"))
        try:
            return await read_results(results, self._survey, regions)
        except (NoAnswerError, RefusedError):
            return Totals()  # shown nothing: the comparison says so
        finally:
            results.close()


async def run_experiment(stage: Stage, fault: Fault, *, seed: int, load: Load | None = None, ends: bool = False) -> Row:
    """Let one fault happen under load and say what it came to; `ends` has the survey finished and certified."""
    load = load or Load()
    chance = random.Random(f"{seed}/{fault.name}")
    survey = await stage.publish()
    voters = chance.sample(stage.voters, len(stage.voters))
    odd = [fault.habit] * len(voters) if fault.habit else habits(len(voters), load.habits, chance)
    voters = [replace(voter, habit=habit) for voter, habit in zip(voters, odd, strict=True)]
    at_end = fault.during is not During.VOTING
    with Notebook(stage.folder / f"{survey.survey_id}.notes") as notebook:
        experiment = Experiment(stage, survey, notebook, load, closing=at_end)
        stop = asyncio.Event()
        coming = asyncio.create_task(experiment.crowd.come(voters, load.rate, stop, at_once=load.at_once))
        try:
            if not await experiment.confirmed(round(load.rate * load.before_s / 2), _BEGIN_WITHIN_S):
                raise RuntimeError(f"{fault.name}: nothing was confirmed before the fault")
            strike = _strike_at_end if at_end else _strike
            struck = await strike(experiment, stage, survey, fault)
            stop.set()
            await coming
            end = await over(stage.house, survey) if struck.finished else None
            await experiment.quiet()
            verdict, notes, kept = await experiment.compared()
        finally:
            coming.cancel()
            await experiment.close()
    ended = None
    asked_at = struck.finished
    if ends and end is None:
        asked_at = time.monotonic()
        if await finish(stage.house, survey):
            end = await over(stage.house, survey)
        else:
            ended = _NOT_FINISHED
    if end is not None:
        papers, _ = expected_papers(notes, kept, survey)
        ended = await compared_end(stage.house, survey, end, papers, since=asked_at)
    strange = tuple(sorted({text for text in experiment.crowd.surprises if text.split()[-1] not in fault.tolerated}))
    return Row(
        fault.name,
        verdict,
        struck.confirmed_again_s,
        struck.right_again_s,
        notes.statuses(),
        notes.refused,
        strange,
        tuple(struck.revived),
        ended,
        fault.during,
    )


@dataclass(frozen=True, slots=True)
class _Struck:
    """When and how it was healed; `finished` is when the survey's end was asked for, 0 where it was not."""

    confirmed_again_s: float | None
    right_again_s: float | None
    revived: list[str]
    finished: float = 0.0


async def _strike(experiment: Experiment, stage: Stage, _: PublishedElection, fault: Fault) -> _Struck:
    """Let the fault happen while people vote, and wait until all goes on."""
    began = time.monotonic()
    await _happen(stage, fault)
    revived = await stage.revive()
    healed = time.monotonic()
    confirmed, right = await experiment.recovered(healed if fault.seconds else began, healed)
    if confirmed is not None:
        await experiment.confirmed(experiment.crowd.confirmed + experiment.votes_after, _SOME_MORE_WITHIN_S)
    return _Struck(confirmed, right, revived)


async def _strike_at_end(experiment: Experiment, stage: Stage, survey: PublishedElection, fault: Fault) -> _Struck:
    """Let the fault meet the end of the survey, asked for while people go on coming."""
    lasting = contextlib.AsyncExitStack()
    if fault.during is During.BEFORE_CLOSING:
        await lasting.enter_async_context(fault.inject(stage))
    asked_at = time.monotonic()
    finishing = asyncio.create_task(finish(stage.house, survey))
    try:
        if fault.during is During.CERTIFYING:
            await finishing
        if fault.during is During.BEFORE_CLOSING:
            async with lasting:
                await asyncio.sleep(fault.seconds)
        else:
            await _happen(stage, fault)
        revived = await stage.revive()
        if not await finishing:
            raise RuntimeError(f"{fault.name}: the survey was not finished after it was healed")
    finally:
        finishing.cancel()
    return _Struck(None, None, revived, asked_at)


async def _happen(stage: Stage, fault: Fault) -> None:
    async with fault.inject(stage):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(fault.seconds):
                await asyncio.Event().wait()


async def _until(holds: Callable[[], bool], within_s: float, *, every_s: float = _LOOK_EVERY_S) -> bool:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(every_s)
    return True
