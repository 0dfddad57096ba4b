"""What of one case is proved to a third party, as the tables have it: decisions, places in the log, archived runs."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from domain.cases import CaseAddress, CaseKind
from domain.certificates import instant
from domain.contracts.base import Contract
from domain.contracts.login import LoginSignals, LoginVerdict
from domain.contracts.registration import NoteStageInput
from domain.errors import ErrorCode
from domain.evidence_bundles import NOT_OF_THE_CASE, SHOWN_TO, judged_login
from domain.masking import masked
from integrations.postgres.failures import unavailable_as

_LOGIN: Final = """
SELECT attempt_id, method, provider, decision, score_permille, reasons, policy_version, signals::text AS signals,
    factors, outcome, factor, at, ended_at
FROM identity.login_attempt WHERE attempt_id = $1
"""
_REGISTRATION: Final = """
SELECT registration_id, revision, stage, reasons, staff_reasons, case_no, provider, reference, expires_at, created_at,
    updated_at
FROM identity.registration WHERE registration_id = $1
"""
_CASES: Final = """
SELECT case_no, provider, reference FROM identity.proofing_case WHERE registration_id = $1 ORDER BY case_no
"""
_DELETION: Final = """
SELECT stage, requested_at, completed_at, sessions_ended, cases_erased, devices_erased, credentials_removed
FROM identity.account_deletion WHERE deletion_id = $1
"""
_PLACES: Final = "SELECT leaf_index, kind FROM audit.places_of($1)"

Json = dict[str, Any]


class PostgresCaseEvidence:
    """Reads as the role `comitia_identity`. All calls raise DomainError `directory_unavailable`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def decision(self, address: CaseAddress) -> Json | None:
        """Return the record of what was decided in a case, as `SHOWN_TO` sees it; None where none is kept.

        Of a recovery there is none: its row is gone a day after its link, and its entry says what came of it.
        """
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            if address.kind is CaseKind.LOGIN:
                row = await self._pool.fetchrow(_LOGIN, address.case_id)
                return None if row is None else _login(row)
            if address.kind is CaseKind.REGISTRATION:
                row = await self._pool.fetchrow(_REGISTRATION, address.case_id)
                cases = await self._pool.fetch(_CASES, address.case_id)
                return None if row is None else _registration(row, cases)
            if address.kind is CaseKind.DELETION:
                row = await self._pool.fetchrow(_DELETION, address.case_id)
                return None if row is None else _deletion(row)
        return None

    async def places(self, case_id: str) -> list[int | None]:
        """Return where the entries of a case are in the cell's log, in order; None for each that has no place yet."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_PLACES, case_id)
        return [row["leaf_index"] for row in rows if row["kind"] not in NOT_OF_THE_CASE]


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


def _registration(row: Any, cases: Sequence[Any]) -> Json:
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in dict(row).items()}
    shown = _shown(NoteStageInput, {name: fields[name] for name in NoteStageInput.model_fields})
    return {
        "stage": shown["stage"],
        "reasons": shown["reasons"],
        "staffReasons": shown["staff_reasons"],
        "caseNo": shown["case_no"],
        "cases": [_at_provider(case) for case in cases],
        "beganAt": instant(row["created_at"]),
        "changedAt": instant(row["updated_at"]),
    }


def _at_provider(case: Any) -> Json:
    return {"caseNo": case["case_no"], "provider": case["provider"], "reference": case["reference"]}


def _shown(kind: type[Contract], fields: Mapping[str, Any]) -> Json:
    return masked(kind.model_validate(fields), SHOWN_TO)


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
