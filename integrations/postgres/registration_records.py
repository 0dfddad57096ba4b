"""What was decided of a registration, as its entry seals it and a bundle shows it."""

from collections.abc import Sequence
from typing import Any, Final

from domain.certificates import instant
from domain.contracts.registration import NoteStageInput
from domain.evidence_bundles import SHOWN_TO, Json
from domain.masking import masked
from integrations.postgres.audit_entries import Connection

_REGISTRATION: Final = """
SELECT registration_id, revision, stage, reasons, staff_reasons, case_no, provider, reference, expires_at,
    policy_version, created_at, updated_at
FROM identity.registration WHERE registration_id = $1
"""
_CASES: Final = """
SELECT case_no, provider, reference FROM identity.proofing_case WHERE registration_id = $1 ORDER BY case_no
"""


async def registration_record(connection: Connection, registration_id: str) -> Json | None:
    """Return the record of a registration, as `SHOWN_TO` sees it; None where there is none."""
    row = await connection.fetchrow(_REGISTRATION, registration_id)
    cases = await connection.fetch(_CASES, registration_id)
    return None if row is None else _record(row, cases)


def _record(row: Any, cases: Sequence[Any]) -> Json:
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in dict(row).items()}
    noted = NoteStageInput.model_validate({name: fields[name] for name in NoteStageInput.model_fields})
    shown = masked(noted, SHOWN_TO)
    return {
        "stage": shown["stage"],
        "reasons": shown["reasons"],
        "staffReasons": shown["staff_reasons"],
        "caseNo": shown["case_no"],
        **({"policyVersion": shown["policy_version"]} if shown["policy_version"] else {}),
        "cases": [_at_provider(case) for case in cases],
        "beganAt": instant(row["created_at"]),
        "changedAt": instant(row["updated_at"]),
    }


def _at_provider(case: Any) -> Json:
    return {"caseNo": case["case_no"], "provider": case["provider"], "reference": case["reference"]}
