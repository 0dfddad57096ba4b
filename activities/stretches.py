"""Goes through a period in stretches of time that are as long as some hundred things in it take."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

_FIRST, _SHORTEST, _LONGEST = timedelta(minutes=10), timedelta(seconds=1), timedelta(days=1)
_FEW: Final = 10  # where there is less than one in so many of what may be read at once, the next stretch is longer

T = TypeVar("T")
Between = Callable[[datetime, datetime, int | None], Awaitable[Sequence[T] | None]]


async def stretches(
    between: Between[T], since: datetime, until: datetime, most: int
) -> AsyncGenerator[tuple[datetime, Sequence[T]]]:
    """Return everything of a period, stretch by stretch: all before the instant beside it.

    `between` returns what is of at or after the one instant and before the other, or None where there is more than
    `most`; of the shortest stretch it has to return all. Whoever stops may go on from the instant that was reached.
    """
    length = _FIRST
    while since < until:
        length = min(length, until - since)
        found = await between(since, since + length, most if length > _SHORTEST else None)
        if found is None:
            length = max(length / 2, _SHORTEST)
            continue
        since += length
        yield since, found
        if len(found) < most // _FEW:
            length = min(length * 2, _LONGEST)
