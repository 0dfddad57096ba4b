"""How the certification of each survey stands, and the end of its keys, in the catalogue."""

import asyncpg

from domain.audit import AuditEntry, AuditKind
from domain.contracts.certification import (
    CertificationStage,
    CertificationState,
    DestroySurveyKeysInput,
    SignedCertificate,
)
from domain.errors import DomainError, ErrorCode
from integrations.postgres.audit_entries import append
from integrations.postgres.failures import unavailable_as
from integrations.postgres.staff_actions import note_action

RETENTION_ACTOR = CERTIFICATION_ACTOR = "process:run-survey"  # nobody asks for the end of a retention: it comes

_NOTE = """
INSERT INTO catalogue.certification AS before (survey_id, revision, stage, state) VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT ON CONSTRAINT pk_certification
DO UPDATE SET revision = excluded.revision, stage = excluded.stage, state = excluded.state, updated_at = now()
WHERE before.revision < excluded.revision RETURNING survey_id
"""
# Locked, so that of two who bring the certificate at once the second sees that it is there.
_IS_CERTIFIED = """
SELECT state -> 'certificate' <> 'null'::jsonb FROM catalogue.certification WHERE survey_id = $1 FOR UPDATE
"""
_STATE = "SELECT state FROM catalogue.certification WHERE survey_id = $1"
_DESTROY_KEYS = """
UPDATE catalogue.survey SET wrapped_ballot_key = '', wrapped_eligibility_key = '', keys_destroyed_at = $2
WHERE survey_id = $1 AND keys_destroyed_at IS NULL AND EXISTS (
    SELECT FROM catalogue.certification WHERE certification.survey_id = survey.survey_id
    AND (state -> 'certificate' ->> 'retained_until')::timestamptz <= $2
) RETURNING survey_id
"""
_ARE_DESTROYED = "SELECT keys_destroyed_at IS NOT NULL FROM catalogue.survey WHERE survey_id = $1"


class PostgresCertifications:
    """Implements `CertificationCatalogue`; made for the role `comitia_closing`.

    Any that serves the catalogue can read `state`.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def note(self, state: CertificationState, actor: str = "") -> None:
        """Keep how a certification stands; an older revision changes nothing. An actor's request is a staff action."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                was_certified = await connection.fetchval(_IS_CERTIFIED, state.survey_id)
                noted = await connection.fetchval(
                    _NOTE, state.survey_id, state.revision, state.stage.value, state.model_dump_json()
                )
                if noted is not None and actor:
                    await note_action(connection, actor, "certify", state.survey_id)
                if noted is not None and state.stage is CertificationStage.RECOUNTING:
                    await append(connection, _opened(state))
                if noted is not None and state.certificate is not None and not was_certified:
                    await append(connection, _certified(state.certificate))

    async def state(self, survey_id: str) -> CertificationState | None:
        """Return how a certification stands, or None where the survey has not ended."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            found = await self._pool.fetchval(_STATE, survey_id)
        return None if found is None else CertificationState.model_validate_json(found)

    async def destroy_keys(self, request: DestroySurveyKeysInput) -> None:
        """Take the wrapped keys of a survey out of the catalogue, with a staff action; safe to repeat.

        Raises:
            DomainError: `survey_not_certified` before its certificate, or before its retention has ended.
        """
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchval(_DESTROY_KEYS, request.survey_id, request.at) is not None:
                    await note_action(connection, RETENTION_ACTOR, "destroy_keys", request.survey_id)
                    return
                if await connection.fetchval(_ARE_DESTROYED, request.survey_id):
                    return
        raise DomainError(ErrorCode.SURVEY_NOT_CERTIFIED, "not certified, or still to be kept")


def _opened(state: CertificationState) -> AuditEntry:
    facts = {"attempt": state.attempt}
    return AuditEntry(AuditKind.SURVEY_BALLOTS_OPENED, CERTIFICATION_ACTOR, state.survey_id, facts=facts)


def _certified(certificate: SignedCertificate) -> AuditEntry:
    return AuditEntry(
        AuditKind.SURVEY_CERTIFIED, CERTIFICATION_ACTOR, certificate.survey_id, after=certificate.stored.sha256
    )
