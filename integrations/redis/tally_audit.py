"""Reads all that one cell's tally has of a survey at one instant: totals, and every batch that is in them."""

from redis.asyncio import Redis

from domain.batch_bits import BatchBits
from domain.errors import DomainError, ErrorCode
from domain.tally_comparison import FoldedTally
from integrations.redis.connection import redis_failures
from integrations.redis.tally_keys import TallyKeys, parse_totals
from integrations.redis.tally_strangers import is_strange

_TRIES = 20


class RedisTallyAudit:
    """Implements `TallyAudit` for one cell."""

    def __init__(self, redis: Redis, cell: str) -> None:
        self._redis = redis
        self._keys = TallyKeys.of(cell)

    async def read(self, survey_id: str) -> FoldedTally | None:
        """Return totals and folded batches, or None where there are no totals, or something that is none.

        Which bitmaps there are has to be known before all is read in one transaction: where that changes meanwhile (a
        new gateway, a rebuild), it is read again.

        Raises:
            DomainError: `tally_unavailable`, also where it changed at every try.
        """
        try:
            return await self._read(survey_id)
        except (KeyError, ValueError):
            return None
        except DomainError as error:
            if error.__cause__ is not None and is_strange(error.__cause__):
                return None
            raise

    async def _read(self, survey_id: str) -> FoldedTally | None:
        totals = self._keys.totals(survey_id)
        with redis_failures():
            for _ in range(_TRIES):
                found = await self._redis.hget(totals, "@epoch")
                if found is None:
                    return None
                epoch = int(found)
                index = self._keys.chunks(survey_id, epoch)
                names = sorted(map(bytes, await self._redis.smembers(index)))  # type: ignore[arg-type]
                async with self._redis.pipeline(transaction=True) as pipe:
                    pipe.hgetall(totals)
                    pipe.smembers(index)
                    for name in names:
                        pipe.get(name)
                    pairs, names_now, *bitmaps = await pipe.execute()
                if pairs.get(b"@epoch") == found and sorted(names_now) == names and None not in bitmaps:
                    counts = parse_totals(pairs)[1]
                    places = (_place(name.decode("ascii")) for name in names)
                    return FoldedTally(epoch, counts, BatchBits(dict(zip(places, bitmaps, strict=True))))
        raise DomainError(ErrorCode.TALLY_UNAVAILABLE, "the tally changed at every reading")


def _place(name: str) -> tuple[str, int]:
    """Return gateway and chunk of a bitmap by its name."""
    gateway, chunk = name.rsplit(":", 2)[1:]
    return gateway, int(chunk)
