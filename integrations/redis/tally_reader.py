"""Reads what the public and staff may know of one cell's tally, in one round trip."""

from datetime import UTC, datetime

from redis.asyncio import Redis

from domain.tally import NOTHING_YET, CellTotals, CellView
from integrations.redis.connection import redis_failures
from integrations.redis.tally_keys import TallyKeys, parse_totals
from integrations.redis.tally_strangers import readable


class TallyReader:
    """One cell's totals. Calls raise DomainError `tally_unavailable`."""

    def __init__(self, redis: Redis, cell: str) -> None:
        self._redis = redis
        self._keys = TallyKeys.of(cell)

    async def view(self, survey_id: str, *, exact: bool, installed_epoch: int) -> CellView:
        """Return a survey's totals and the cell's watermark.

        `exact` reads every vote; otherwise the copy that moves by the survey's minimum step. `installed_epoch` is
        the ledger's word on which rebuild was installed: with 0 an absent state means that nobody voted yet, with
        more that Redis lost it, and then, as for totals of an earlier epoch, `totals` is None.
        """
        key = self._keys.totals(survey_id) if exact else self._keys.shown(survey_id)
        with redis_failures():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hgetall(key)
                pipe.hgetall(self._keys.watermarks)
                pairs, watermarks = await pipe.execute()
        with readable():
            watermark = _oldest(watermarks)
            if not pairs:
                return CellView(NOTHING_YET if installed_epoch == 0 else None, watermark, current=installed_epoch == 0)
            marks, counts = parse_totals(pairs)
            epoch = int(marks["epoch"])
            if epoch < installed_epoch:
                return CellView(None, watermark, current=False)
            catching_up = any(mark.startswith("replay:") for mark in marks)
            return CellView(CellTotals(epoch, int(marks["seq"]), counts, catching_up), watermark)


def _oldest(watermarks: dict[bytes, bytes]) -> datetime | None:
    partitions = int(watermarks.get(b"partitions", 0))
    known = [int(watermarks.get(str(partition).encode(), 0)) for partition in range(partitions)]
    if not known or min(known) == 0:
        return None
    return datetime.fromtimestamp(min(known) / 1000, UTC)
