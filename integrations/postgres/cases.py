"""The cases of one cell's voters, as the tables of identity have them; of votes there is nothing here."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import asyncpg

from domain.cases import Case, CaseAddress, CaseKind
from domain.errors import ErrorCode
from domain.ids import break_glass_workflow_id, unlock_account_workflow_id
from domain.support_actions import OF_THE_ACCOUNT
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
    asked_at AS began_at,
    CASE WHEN used_at IS NULL AND expires_at >= now() THEN asked_at ELSE coalesce(used_at, expires_at) END AS changed_at
FROM identity.recovery
"""
_DELETION = """
SELECT 'deletion' AS kind, deletion_id AS case_id, voter_id, stage, requested_at AS began_at,
    coalesce(completed_at, (
        SELECT max(change.changed_at) FROM identity.change
        WHERE subject = account_deletion.voter_id AND reason = 'deletion'
    ), requested_at) AS changed_at
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


_NAMED = "SELECT kind, request, has_run FROM audit.processes_of($1)"
_UNMASKING = "unmasking"


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

    async def processes_of(self, address: CaseAddress) -> Mapping[str, bool]:
        """Return the ids of the processes that the entries of a case name, and whether each has surely run.

        Raises:
            DomainError: `directory_unavailable`.
        """
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_NAMED, address.case_id)
        named = {_process_of(row["kind"], address.cell, row["request"]): row["has_run"] for row in rows}
        return {workflow_id: has_run for workflow_id, has_run in named.items() if workflow_id}

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


def _process_of(kind: str, cell: str, request: str) -> str:
    """Return the id of what runs by itself; whatever else was asked is taken by the process of the case."""
    if kind == _UNMASKING:
        return break_glass_workflow_id(cell, request)
    return unlock_account_workflow_id(cell, request) if kind in OF_THE_ACCOUNT else ""
