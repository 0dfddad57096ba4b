"""The cases of one cell's voters, as the tables of identity have them; of votes there is nothing here."""

from collections.abc import Collection, Sequence
from datetime import datetime

import asyncpg

from domain.cases import Case, CaseAddress, CaseKind
from domain.errors import ErrorCode
from integrations.postgres.failures import unavailable_as

_REGISTRATION = """
SELECT 'registration' AS kind, registration_id AS case_id, voter_id, stage, created_at AS began_at,
    updated_at AS changed_at
FROM identity.registration
"""
_LOGIN = """
SELECT 'login' AS kind, attempt_id AS case_id, voter_id, coalesce(outcome, 'step_up') AS stage, at AS began_at,
    coalesce(ended_at, at) AS changed_at
FROM identity.login_attempt
"""
_RECOVERY = """
SELECT 'recovery' AS kind, request_id AS case_id, voter_id,
    CASE WHEN used_at IS NOT NULL THEN 'recovered' WHEN expires_at < now() THEN 'expired' ELSE 'sent' END AS stage,
    asked_at AS began_at, coalesce(used_at, least(expires_at, now())) AS changed_at
FROM identity.recovery
"""
_DELETION = """
SELECT 'deletion' AS kind, deletion_id AS case_id, voter_id, stage, requested_at AS began_at,
    coalesce(completed_at, requested_at) AS changed_at
FROM identity.account_deletion
"""
_IDENTIFIED_BY = {
    CaseKind.REGISTRATION: f"{_REGISTRATION} WHERE registration_id = ANY($1::text[])",
    CaseKind.LOGIN: f"{_LOGIN} WHERE attempt_id = ANY($1::text[])",
    CaseKind.RECOVERY: f"{_RECOVERY} WHERE request_id = ANY($1::text[])",
    CaseKind.DELETION: f"{_DELETION} WHERE deletion_id = ANY($1::text[])",
}
_OF_VOTER = f"""
SELECT * FROM (
    {_REGISTRATION} WHERE voter_id = $1
    UNION ALL {_LOGIN} WHERE voter_id = $1
    UNION ALL {_RECOVERY} WHERE voter_id = $1
    UNION ALL {_DELETION} WHERE voter_id = $1
) AS found
WHERE $2::timestamptz IS NULL OR (began_at, case_id) < ($2, $3)
ORDER BY began_at DESC, case_id DESC LIMIT $4
"""  # noqa: S608 - constants


class PostgresCases:
    """Reads as the role `comitia_identity`; every look-up is by an index."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def of_voter(self, voter_id: str, before: tuple[datetime, str] | None, limit: int) -> Sequence[Case]:
        """Return a voter's cases, newest first, behind a place of an earlier page.

        Raises:
            DomainError: `directory_unavailable`.
        """
        instant, case_id = before or (None, "")
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_OF_VOTER, voter_id, instant, case_id, limit)
        return [_case(row) for row in rows]

    async def at(self, address: CaseAddress) -> Case | None:
        """Return one case, or None. Raises DomainError `directory_unavailable`."""
        found = await self._identified(address.kind, [address.case_id])
        return found[0] if found else None

    async def every(self, addresses: Collection[CaseAddress]) -> Sequence[Case]:
        """Return the cases at these addresses that there are. Raises DomainError `directory_unavailable`."""
        found: list[Case] = []
        for kind in sorted({address.kind for address in addresses}):
            found += await self._identified(kind, [address.case_id for address in addresses if address.kind is kind])
        return found

    async def registrations(self, registration_ids: Collection[str]) -> Sequence[Case]:
        """Return the registrations of these ids that there are. Raises DomainError `directory_unavailable`."""
        return await self._identified(CaseKind.REGISTRATION, registration_ids)

    async def _identified(self, kind: CaseKind, case_ids: Collection[str]) -> Sequence[Case]:
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_IDENTIFIED_BY[kind], list(case_ids))
        return [_case(row) for row in rows]


def _case(row: asyncpg.Record) -> Case:
    return Case(
        kind=CaseKind(row["kind"]),
        case_id=row["case_id"],
        voter_id=row["voter_id"],
        stage=row["stage"],
        began_at=row["began_at"],
        changed_at=row["changed_at"],
    )
