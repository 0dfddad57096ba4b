"""What of one case is proved to a third party, as the tables have it: decisions, places in the log, archived runs."""

import json
from datetime import datetime
from typing import Any, Final

import asyncpg

from domain.cases import CaseAddress, CaseKind
from domain.certificates import instant
from domain.contracts.login import LoginSignals, LoginVerdict
from domain.errors import ErrorCode
from domain.evidence_bundles import NOT_OF_THE_CASE, SHOWN_TO, Json, SealedRecord, judged_login
from domain.masking import masked
from integrations.postgres.audit_entries import Connection
from integrations.postgres.failures import unavailable_as
from integrations.postgres.registration_records import registration_record

_LOGIN: Final = """
SELECT attempt_id, method, provider, decision, score_permille, reasons, policy_version, signals::text AS signals,
    factors, outcome, factor, at, ended_at
FROM identity.login_attempt WHERE attempt_id = $1
"""
_DELETION: Final = """
SELECT stage, requested_at, completed_at, sessions_ended, cases_erased, devices_erased, credentials_removed
FROM identity.account_deletion WHERE deletion_id = $1
"""
_PLACES: Final = "SELECT leaf_index, kind FROM audit.places_of($1)"


class PostgresCaseEvidence:
    """Reads as the role `comitia_identity`. All calls raise DomainError `directory_unavailable`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def sealed(self, address: CaseAddress) -> SealedRecord:
        """Return the record of what was decided in a case, and the places of its entries, both of one instant.

        Of a recovery there is no record: its row is gone a day after its link, and its entry says what came of it.
        """
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                rows = await connection.fetch(_PLACES, address.case_id)
                record = await _record(connection, address)
        return SealedRecord(record, [row["leaf_index"] for row in rows if row["kind"] not in NOT_OF_THE_CASE])


async def _record(connection: Connection, address: CaseAddress) -> Json | None:
    """Return a record as `SHOWN_TO` sees it; None where none is kept."""
    if address.kind is CaseKind.REGISTRATION:
        return await registration_record(connection, address.case_id)
    if address.kind is CaseKind.LOGIN:
        row = await connection.fetchrow(_LOGIN, address.case_id)
        return None if row is None else _login(row)
    if address.kind is CaseKind.DELETION:
        row = await connection.fetchrow(_DELETION, address.case_id)
        return None if row is None else _deletion(row)
    return None


def _login(row: Any) -> Json:
    kept = json.loads(row["signals"])  # as they were judged: a later release may know of more
    signals = _only(kept, masked(LoginSignals.model_validate_json(row["signals"]), SHOWN_TO))
    verdict = LoginVerdict(
        decision=row["decision"],
        score_permille=row["score_permille"],
        reasons=tuple(row["reasons"]),
        policy_version=row["policy_version"],
    )
    return {
        "judged": judged_login(row["attempt_id"], masked(verdict, SHOWN_TO), signals),
        "method": row["method"],
        "provider": row["provider"],
        "factors": list(row["factors"]),
        "outcome": row["outcome"],
        "factor": row["factor"],
        "at": instant(row["at"]),
        "endedAt": _moment(row["ended_at"]),
    }


def _deletion(row: Any) -> Json:
    return {
        "stage": row["stage"],
        "requestedAt": instant(row["requested_at"]),
        "completedAt": _moment(row["completed_at"]),
        "sessionsEnded": row["sessions_ended"],
        "casesErased": row["cases_erased"],
        "devicesErased": row["devices_erased"],
        "credentialsRemoved": row["credentials_removed"],
    }


def _only(kept: Any, permitted: Any) -> Any:
    """Return of what is kept what is permitted, with the values that are permitted, at every level."""
    if isinstance(kept, dict) and isinstance(permitted, dict):
        return {name: _only(value, permitted[name]) for name, value in kept.items() if name in permitted}
    if isinstance(kept, list) and isinstance(permitted, list):
        return [_only(one, other) for one, other in zip(kept, permitted, strict=True)]
    return permitted


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else instant(moment)
