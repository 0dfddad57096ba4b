"""The voters of a demo: verified people in the directories of two cells, each with one ballot paper in hand."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum

from comitia.demo.glasgow import Ballot
from integrations.postgres import roles
from integrations.postgres.directory import Directory
from integrations.postgres.pool import open_pool
from integrations.settings import Settings

_CHUNK = 5000  # voters per transaction


class Habit(StrEnum):
    """What a voter does besides voting once."""

    NONE = "votes once"
    AGAIN = "sends the same request again after the answer"
    CUT_OFF = "loses the connection before the answer and sends the request again"
    DOUBLE_CLICK = "sends two requests at the same time"
    SECOND_THOUGHTS = "gets a new voting token and votes for something else"


_SHARES = {Habit.AGAIN: 0.02, Habit.CUT_OFF: 0.02, Habit.DOUBLE_CLICK: 0.02, Habit.SECOND_THOUGHTS: 0.01}


@dataclass(frozen=True, slots=True)
class Voter:
    """A verified voter, the paper to cast and how."""

    voter_id: str
    cell: str
    ballot: Ballot
    habit: Habit


async def create_voters(
    settings: Settings, ballots: Sequence[Ballot], seed: int, on_progress: Callable[[int], None]
) -> list[Voter]:
    """Create a voter for each ballot in the directory of one of the cells, in order; `on_progress` is told how many.

    The same seed spreads the same ballots over cells and habits in the same way.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    cells = tuple(sorted(settings.cells))
    homes = [chance.choice(cells) for _ in ballots]
    habits = [_habit(chance.random()) for _ in ballots]
    voter_ids = await _register(settings, homes, ballots, on_progress)
    return [
        Voter(voter_id, cell, ballot, habit)
        for voter_id, cell, ballot, habit in zip(voter_ids, homes, ballots, habits, strict=True)
    ]


async def _register(
    settings: Settings, homes: Sequence[str], ballots: Sequence[Ballot], on_progress: Callable[[int], None]
) -> list[str]:
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, (cell, ballot) in enumerate(zip(homes, ballots, strict=True)):
        places[cell, ballot.region].append(place)
    voter_ids = [""] * len(ballots)
    done = 0
    async with AsyncExitStack() as opened:
        directories = {}
        for cell in settings.cells:
            pool = await open_pool(settings.cells[cell].database, settings, roles.IDENTITY, size=2)
            opened.push_async_callback(pool.close)
            directories[cell] = Directory(pool, cell)
        for (cell, region), all_here in places.items():
            for some in _chunks(all_here):
                created = await directories[cell].create_voters(len(some), region)
                for place, voter_id in zip(some, created, strict=True):
                    voter_ids[place] = voter_id
                done += len(some)
                on_progress(done)
    return voter_ids


def _chunks(places: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(places), _CHUNK):
        yield places[start : start + _CHUNK]


def _habit(drawn: float) -> Habit:
    for habit, share in _SHARES.items():
        if drawn < share:
            return habit
        drawn -= share
    return Habit.NONE
