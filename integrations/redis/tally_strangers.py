"""What stands in the tally's places in Redis and is not the tally's: another program's, or somebody's by hand.

Redis is a cache here, so whatever cannot be read is taken away and made again from the ledger. Otherwise one such key
would hold up every survey of its cell, for as long as nobody looks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from domain.errors import DomainError, ErrorCode
from integrations.redis.connection import redis_failures
from integrations.redis.tally_keys import TallyKeys, parse_totals

_AT_ONCE: Final = 100  # hashes that are read in one round trip
# How the server begins to say that a script met such a value; of its own state it says something else first
_STRANGE: Final = ("WRONGTYPE ", "hash value is not an integer", "user_script:")

Pairs = Mapping[bytes, bytes]


def is_strange(error: BaseException) -> bool:
    """Tell whether a script failed by what it found, and not by the state of the server: full, loading, read-only."""
    return type(error) is ResponseError and str(error).startswith(_STRANGE)


@contextmanager
def readable() -> Iterator[None]:
    """Raise DomainError `tally_unavailable` where what was read is not of the tally's form."""
    try:
        yield
    except (KeyError, ValueError) as error:
        raise DomainError(ErrorCode.TALLY_UNAVAILABLE, "not of the tally's form") from error


async def clear_strange(redis: Redis, keys: TallyKeys, survey_ids: Sequence[str]) -> list[str]:
    """Remove keys of a cell and of these surveys that are not of the tally's form; return their names.

    Raises:
        DomainError: `tally_unavailable`.
    """
    hashes = {keys.offsets: _are_numbers, keys.watermarks: _are_watermarks}
    for survey_id in survey_ids:
        hashes[keys.totals(survey_id)] = hashes[keys.shown(survey_id)] = _are_totals
    with redis_failures():
        strange = await _of_other_types(redis, {**dict.fromkeys(hashes, b"hash"), keys.installs: b"string"})
        names = [name for name in hashes if name not in strange]
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            async with redis.pipeline(transaction=False) as pipe:
                for name in some:
                    pipe.hgetall(name)
                found = await pipe.execute()
            strange += [
                name for name, pairs in zip(some, found, strict=True) if pairs and not _holds(hashes[name], pairs)
            ]
        if strange:
            await redis.unlink(*strange)
    return strange


async def _of_other_types(redis: Redis, expected: Mapping[str, bytes]) -> list[str]:
    async with redis.pipeline(transaction=False) as pipe:
        for name in expected:
            pipe.type(name)
        found = await pipe.execute()
    return [name for name, kind in zip(expected, found, strict=True) if kind not in {expected[name], b"none"}]


def _holds(check: Callable[[Pairs], None], pairs: Pairs) -> bool:
    try:
        if pairs:
            check(pairs)
    except (KeyError, ValueError):
        return False
    return True


def _are_totals(pairs: Pairs) -> None:
    marks, _ = parse_totals(dict(pairs))
    for name in ("epoch", "seq", "ballots"):
        int(marks.pop(name))
    for value in marks.values():
        int(value)


def _are_numbers(pairs: Pairs) -> None:
    for name, value in pairs.items():
        int(name), int(value)


def _are_watermarks(pairs: Pairs) -> None:
    _are_numbers({name: value for name, value in pairs.items() if name != b"partitions"})
    int(pairs.get(b"partitions", b"0"))
