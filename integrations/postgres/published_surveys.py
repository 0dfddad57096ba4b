"""Which surveys the catalogue has, as reconciliation needs it."""

import asyncpg

from domain.errors import ErrorCode
from integrations.postgres.failures import unavailable_as


class PublishedSurveys:
    """Reads ids and stages as role `comitia_reconciliation`. Calls raise DomainError `catalogue_unavailable`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def open(self) -> set[str]:
        """Return the surveys that are published and not finished."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            rows = await self._pool.fetch("SELECT survey_id FROM catalogue.survey WHERE stage = 'published'")
        return {row["survey_id"] for row in rows}

    async def stages(self) -> dict[str, str]:
        """Return the stage of every survey."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            rows = await self._pool.fetch("SELECT survey_id, stage FROM catalogue.survey")
        return {row["survey_id"]: row["stage"] for row in rows}
