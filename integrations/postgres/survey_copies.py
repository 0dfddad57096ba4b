"""A cell's copies of surveys as results need them: what is asked, the end, and the valid epoch of the tally."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg
from pydantic import TypeAdapter

from domain.contracts.surveys import Survey
from domain.contracts.voting import RegionCounts
from domain.recount import counts_of
from domain.tally import MergedTotals
from integrations.postgres.failures import ledger_failures
from integrations.postgres.replicas import Reads

_REGIONS = TypeAdapter(tuple[RegionCounts, ...])
_GET = """
SELECT definition, finish_at, clock_timestamp() AS asked_at, coalesce(epoch.installed, 0) AS installed,
    certificate_id, certified_at, regions
FROM voting.survey LEFT JOIN tally.epoch USING (survey_id) LEFT JOIN tally.certificate USING (survey_id)
WHERE survey_id = $1
"""


@dataclass(frozen=True, slots=True)
class SurveyCopy:
    """One cell's copy; `installed_epoch` is 0 until the tally has totals of it, `asked_at` is by the cell's clock.

    `certified` are the survey's totals over all cells, once it has a certificate.
    """

    survey: Survey
    finish_at: datetime | None
    asked_at: datetime
    installed_epoch: int
    certified: MergedTotals | None = None


class SurveyCopies:
    """Reads the copies of one cell."""

    def __init__(self, pool: Reads) -> None:
        self._pool = pool

    async def get(self, survey_id: str) -> SurveyCopy | None:
        """Return the cell's copy, or None. Raises DomainError `ledger_unavailable`."""
        with ledger_failures():
            row = await self._pool.fetchrow(_GET, survey_id)
        if row is None:
            return None
        survey = Survey.model_validate_json(row["definition"])
        return SurveyCopy(survey, row["finish_at"], row["asked_at"], row["installed"], _certified(row))


def _certified(row: asyncpg.Record) -> MergedTotals | None:
    if row["certificate_id"] is None:
        return None
    counts = counts_of(_REGIONS.validate_json(row["regions"]))
    return MergedTotals(
        positions={},
        counts=counts,
        as_of=row["certified_at"],
        regions=frozenset(region for region, _ in counts),
        certificate_id=row["certificate_id"],
    )
