"""Who the surveys of one cell are for, as admission reads them: kept for a second, keys unwrapped once."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import asyncpg

from domain.eligibility import Electorate
from domain.errors import ErrorCode
from domain.ports import KeyManagement
from integrations.postgres.failures import unavailable_as

FRESH_S = 1.0
_KEPT_MAX = 1000  # surveys; the least recently asked for go first
_MISSES_MAX = 10_000

_LOAD = """
SELECT regions, minimum_age, roll_required, wrapped_eligibility_key, start_at, finish_at
FROM identity.survey WHERE survey_id = $1
"""


class CachedElectorates:
    """Implements `Electorates`. A row is at most `FRESH_S` old; asking at once for the same row reads it once."""

    def __init__(self, pool: asyncpg.Pool, keys: KeyManagement, *, now: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._keys = keys
        self._now = now
        self._kept: OrderedDict[str, tuple[float, bytes, Electorate]] = OrderedDict()
        self._missing: dict[str, float] = {}
        self._loading: dict[str, asyncio.Task[Electorate | None]] = {}

    def fresh(self, survey_id: str) -> Electorate | None:
        """Return what is known and fresh, at once, or None: ask `get`."""
        kept = self._kept.get(survey_id)
        return kept[2] if kept is not None and self._now() - kept[0] < FRESH_S else None

    async def get(self, survey_id: str) -> Electorate | None:
        """Return an installed survey's electorate, or None where the cell has none of this id.

        Raises:
            DomainError: `directory_unavailable`, `key_unavailable` or `key_destroyed`.
        """
        found = self.fresh(survey_id)
        if found is not None:
            return found
        missed_at = self._missing.get(survey_id)
        if missed_at is not None and self._now() - missed_at < FRESH_S:
            return None
        task = self._loading.get(survey_id)
        if task is None:
            task = self._loading[survey_id] = asyncio.create_task(self._load(survey_id))
            task.add_done_callback(lambda done: self._loaded(survey_id, done))
        return await asyncio.shield(task)

    def _loaded(self, survey_id: str, task: asyncio.Task[Electorate | None]) -> None:
        del self._loading[survey_id]
        if not task.cancelled():
            task.exception()  # whoever asked gets it; when all have gone it is nobody's

    async def _load(self, survey_id: str) -> Electorate | None:
        asked_at = self._now()
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_LOAD, survey_id)
        if row is None or not row["wrapped_eligibility_key"]:
            self._kept.pop(survey_id, None)  # at the end of a retention the key goes, here too
            if len(self._missing) >= _MISSES_MAX:
                self._missing.clear()
            self._missing[survey_id] = asked_at
            return None
        self._missing.pop(survey_id, None)
        wrapped = row["wrapped_eligibility_key"]
        kept = self._kept.get(survey_id)
        key = kept[2].eligibility_key if kept is not None and kept[1] == wrapped else None
        electorate = Electorate(
            survey_id=survey_id,
            regions=frozenset(row["regions"]),
            minimum_age=row["minimum_age"],
            roll_required=row["roll_required"],
            start_at=row["start_at"],
            finish_at=row["finish_at"],
            eligibility_key=key if key is not None else await self._keys.unwrap(wrapped, survey_id),
        )
        self._kept[survey_id] = (asked_at, wrapped, electorate)
        self._kept.move_to_end(survey_id)
        while len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        return electorate
