"""Every activity that promises audit entries is run against real databases, and leaves them."""

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
import pytest_asyncio
from temporalio.testing import ActivityEnvironment

from activities.closing import ClosingActivities
from activities.deletion import DeletionActivities
from activities.exports import ExportActivities
from activities.key_rotation import KeyRotationActivities
from activities.logins import LoginActivities
from activities.registration import RegistrationActivities
from activities.steering import SteeringActivities
from activities.surveys import SurveyActivities
from activities.unmasking import UnmaskingActivities
from activities.voting import VotingActivities
from comitia.stack.state import CATALOGUE
from domain.audit import AuditKind as K
from domain.contracts.accounts import DeletionStep
from domain.contracts.certification import CertificationState, DestroySurveyKeysInput, NoteCertificationInput
from domain.contracts.exports import CancelledExport, ExportFile, ExportRequest, StoredObject
from domain.contracts.keys import DestroyOldKeysInput, ReplaceKeyInput, RetireTokenKeysInput
from domain.contracts.login import EndLoginInput, LoginDecision, LoginOutcome, StepUpFactor
from domain.contracts.registration import NoteStageInput
from domain.contracts.support import UnmaskingNote
from domain.contracts.surveys import (
    CorrectSurveyInput,
    ExtendSurveyInput,
    FinishSurveyInput,
    OpenSurveyInput,
    SurveyIntake,
    SurveyReference,
)
from domain.contracts.voting import RecordVotesInput
from domain.ids import new_deletion_id, new_export_id, new_registration_id, new_voter_id
from domain.key_ports import KeyEvent
from domain.ports import DataKey
from domain.registrations import RegistrationStage
from domain.unmasking import UnmaskingStep
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import manage
from integrations.keys.wrapping import KeyNames
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.account_ends import PostgresAccountEnds
from integrations.postgres.catalogue import PostgresCatalogue
from integrations.postgres.catalogue_exports import PostgresExports
from integrations.postgres.certifications import PostgresCertifications
from integrations.postgres.logins import PostgresLogins
from integrations.postgres.registrations import PostgresRegistrations
from integrations.postgres.roles import CLOSING, SURVEYS, UNMASKING
from integrations.postgres.unmasking_entries import PostgresUnmaskingEntries
from integrations.postgres.wrapped_keys import PostgresCatalogueKeys
from tests.audited import ACTIVITIES, leaves, promised
from tests.conftest import OwnerPool, SettingsFor
from tests.integrations.postgres.account_rows import make_account
from tests.integrations.postgres.test_audited import certificate_of, entries, recounting
from tests.integrations.postgres.test_catalogue import ACTOR, drafted, freezing, keys, opened
from tests.integrations.postgres.test_entry_writers import connected
from tests.integrations.postgres.test_logins import login
from tests.voting_world import OpenBooth

NOW, LONG_AGO = datetime(2027, 1, 1, tzinfo=UTC), date(2026, 1, 1)
PROMISING = sorted(name for name in ACTIVITIES if promised(name))
UNUSED = cast("Any", None)  # a port that the step does not call


class NothingLive:
    """The keys of a catalogue in which nothing is wrapped; what becomes of keys is written down."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.note: Callable[[str, KeyEvent], Any] = PostgresCatalogueKeys(pool).note

    async def publishing(self) -> int:
        return 0

    async def live(self) -> AsyncIterator[Any]:
        none: tuple[Any, ...] = ()
        for each in none:
            yield each


class Keys:
    """Makes keys of surveys."""

    async def generate_data_key(self, purpose: str, context: str) -> DataKey:
        return DataKey(plaintext=bytes(32), wrapped=f"{purpose}/{context}".encode())


@dataclass
class Walk:
    """One method for each activity: makes what it needs, and runs it while somebody looks."""

    owner_pool: OwnerPool
    identity: asyncpg.Pool
    surveys: asyncpg.Pool
    closing: asyncpg.Pool
    unmasking: asyncpg.Pool
    booth_of: OpenBooth
    folder: Path

    async def see(self, activity: Any, request: Any, subject: str, *kinds: K, database: str = "eu") -> None:
        name: str = activity.__name__
        async with leaves(await self.owner_pool(database), name, *kinds, subject=subject):
            await ActivityEnvironment().run(activity, request)

    async def record_votes(self) -> None:
        booth = await self.booth_of()
        request = RecordVotesInput(batch=await booth.batch(booth.vote()), accepted_at=datetime.now(UTC))
        await self.see(VotingActivities(booth.ledger, UNUSED).record_votes, request, "", K.VOTES_RECORDED)

    async def record_login(self) -> None:
        made = login(LoginDecision.DENY)
        await self.see(self._logins().record_login, made, made.request.attempt_id)

    async def assess_login(self) -> None:
        made = login(LoginDecision.DENY).request
        await self.see(self._logins().assess_login, made, made.attempt_id)

    async def end_login(self) -> None:
        made = login(LoginDecision.CHALLENGE, factors=(StepUpFactor.TOTP,))
        await PostgresLogins(self.identity).record(made)
        attempt = made.request.attempt_id
        ended = EndLoginInput(
            attempt_id=attempt, voter_id=made.request.voter_id, outcome=LoginOutcome.EXPIRED, counts=made.counts
        )
        await self.see(self._logins().end_login, ended, attempt)

    async def note_stage(self) -> None:
        registrations, registration = PostgresRegistrations(self.identity), new_registration_id("eu")
        await registrations.begin(registration, new_voter_id("eu"), "DE", NOW)
        note = NoteStageInput(registration_id=registration, revision=1, stage=RegistrationStage.CANCELLED)
        activities = RegistrationActivities(registrations, UNUSED, UNUSED, UNUSED)
        await self.see(activities.note_stage, note, registration)

    async def certify_deletion(self) -> None:
        ends, deletion, voter = (
            PostgresAccountEnds(self.identity),
            new_deletion_id("eu"),
            await make_account(self.identity),
        )
        await ends.request(deletion, voter)
        await ends.stop(deletion)
        await ends.close(deletion)
        activities = DeletionActivities(ends, UNUSED, UNUSED, UNUSED, hashes=UNUSED, sightings=UNUSED, devices=None)
        step = DeletionStep(deletion_id=deletion, voter_id=voter)
        await self.see(activities.certify_deletion, step, deletion)

    async def note_unmasking(self) -> None:
        case = new_registration_id("eu")
        note = UnmaskingNote(
            key=secrets.token_hex(8),
            request_id=f"b_eu_{'a' * 26}",
            case_id=case,
            field="mail",
            step=UnmaskingStep.ASKED,
            actor=ACTOR,
            role="support",
            reason="wrong_contact",
        )
        activities = UnmaskingActivities(PostgresUnmaskingEntries(self.unmasking), UNUSED, "")
        await self.see(activities.note_unmasking, note, case)
        by = {"actor": ACTOR, "role": "support", "reason": "wrong_contact", "outcome": "asked", "subject": case}
        told = {**by, "facts": {"unmasking": note.request_id, "field": "mail"}}
        assert await entries(await self.owner_pool("eu"), case) == [(K.CASE_UNMASKING, told)]

    async def freeze_survey(self) -> None:
        survey = (await drafted(self._catalogue)).survey.id
        await self._see_survey(self._surveys().freeze_survey, freezing(survey), survey)

    async def finish_survey(self) -> None:
        survey = (await opened(self._catalogue)).survey.id
        end = FinishSurveyInput(survey_id=survey, start_at=NOW, finish_at=NOW, actor=ACTOR)
        await self._see_survey(self._surveys().finish_survey, end, survey)

    async def correct_survey(self) -> None:
        survey = (await opened(self._catalogue)).survey
        right = survey.model_copy(update={"title": "Luncheon", "version": survey.version + 1})
        request = CorrectSurveyInput(survey=right, actor=ACTOR, expected_version=survey.version)
        await self._see_survey(self._surveys().correct_survey, request, survey.id)

    async def note_intake(self) -> None:
        survey = (await opened(self._catalogue)).survey.id
        steering = SteeringActivities(self._catalogue, {})
        for paused, kind in ((True, K.SURVEY_PAUSED), (False, K.SURVEY_RESUMED)):
            request = SurveyIntake(survey_id=survey, paused=paused, actor=ACTOR)
            await self._see_survey(steering.note_intake, request, survey, kind)

    async def extend_survey(self) -> None:
        survey = (await drafted(self._catalogue, finish_at=NOW)).survey.id
        await self._catalogue.freeze(freezing(survey))
        await self._catalogue.keep_keys(keys(survey))
        await self._catalogue.open(OpenSurveyInput(survey_id=survey, start_at=NOW, finish_at=NOW))
        later = ExtendSurveyInput(survey_id=survey, actor=ACTOR, finish_at=NOW + timedelta(days=1))
        await self._see_survey(SteeringActivities(self._catalogue, {}).extend_survey, later, survey)

    async def provide_survey_keys(self) -> None:
        survey = (await drafted(self._catalogue)).survey.id
        await self._catalogue.freeze(freezing(survey))
        making: Any = Keys()
        activities = SurveyActivities(self._catalogue, making, {}, UNUSED)
        await self._see_survey(activities.provide_survey_keys, SurveyReference(survey_id=survey), survey)

    async def register_export(self) -> None:
        survey = (await opened(self._catalogue)).survey.id
        request = ExportRequest(survey_id=survey, export_id=new_export_id(), actor=ACTOR)
        activities = ExportActivities(UNUSED, PostgresExports(self.surveys), UNUSED, UNUSED)
        await self._see_survey(activities.register_export, request, survey)

    async def complete_export(self) -> None:
        survey = (await opened(self._catalogue)).survey.id
        request = ExportRequest(survey_id=survey, export_id=new_export_id(), actor=ACTOR)
        exports = PostgresExports(self.surveys)
        await exports.register(request)
        stored = StoredObject(name="exports/x.csv", size_bytes=1, sha256=bytes(32))
        file = ExportFile(survey_id=survey, export_id=request.export_id, stored=stored)
        activities = ExportActivities(UNUSED, exports, UNUSED, UNUSED)
        await self._see_survey(activities.complete_export, file, survey)

    async def cancel_export(self) -> None:
        survey = (await opened(self._catalogue)).survey.id
        request = ExportRequest(survey_id=survey, export_id=new_export_id(), actor=ACTOR)
        exports = PostgresExports(self.surveys)
        await exports.register(request)
        cancelled = CancelledExport(survey_id=survey, export_id=request.export_id, actor=ACTOR, role="admin")
        activities = ExportActivities(UNUSED, exports, UNUSED, FileObjectStore(self.folder))
        await self._see_survey(activities.cancel_export, cancelled, survey)

    async def note_certification(self) -> None:
        survey = (await opened(self._catalogue)).survey.id
        activities = ClosingActivities(PostgresCertifications(self.closing), {})
        asked, certified = certificate_of(survey)
        for state, actor, kind in (
            (recounting(survey), "", K.SURVEY_BALLOTS_OPENED),
            (asked, ACTOR, K.CERTIFICATION_ASKED),
            (certified, "", K.SURVEY_CERTIFIED),
        ):
            note = NoteCertificationInput(state=state, actor=actor)
            await self._see_survey(activities.note_certification, note, survey, kind)

    async def destroy_catalogue_keys(self) -> None:
        survey = (await opened(self._catalogue)).survey.id
        certifications = PostgresCertifications(self.closing)
        certified: CertificationState
        for certified in certificate_of(survey):
            await certifications.note(certified)
        request = DestroySurveyKeysInput(survey_id=survey, at=NOW + timedelta(days=1))
        await self._see_survey(ClosingActivities(certifications, {}).destroy_catalogue_keys, request, survey)

    async def replace_key(self) -> None:
        purpose, rotation, _ = self._rotation()
        made = f"{purpose}/{LONG_AGO}/1"
        await self._see_survey(rotation.replace_key, ReplaceKeyInput(purpose=purpose, newest=""), made)

    async def destroy_old_keys(self) -> None:
        purpose, rotation, kms = self._rotation()
        old, _ = (await kms.rotate(purpose)).key_id, await kms.rotate(purpose)
        request = DestroyOldKeysInput(purpose=purpose, cells=(), grace_days=0)
        await self._see_survey(rotation.destroy_old_keys, request, old)

    async def retire_token_keys(self) -> None:
        purpose, rotation, kms = self._rotation()
        old, _ = (await kms.rotate(purpose)).key_id, await kms.rotate(purpose)
        await self._see_survey(rotation.retire_token_keys, RetireTokenKeysInput(purpose=purpose, grace_days=0), old)

    async def _see_survey(self, activity: Any, request: Any, subject: str, *kinds: K) -> None:
        await self.see(activity, request, subject, *kinds, database=CATALOGUE)

    @property
    def _catalogue(self) -> PostgresCatalogue:
        return PostgresCatalogue(self.surveys)

    def _surveys(self) -> SurveyActivities:
        return SurveyActivities(self._catalogue, UNUSED, {}, UNUSED)

    def _logins(self) -> LoginActivities:
        unused = dict.fromkeys(("seals", "hashes"), UNUSED)
        return LoginActivities(PostgresLogins(self.identity), **unused, devices=None, challenges=None)

    def _rotation(self) -> tuple[str, KeyRotationActivities, FileKms]:
        purpose = f"kek/walk-{secrets.token_hex(4)}"
        kms = FileKms(self.folder, frozenset({manage(purpose)}), today=lambda: LONG_AGO)
        catalogue = cast("Any", NothingLive(self.surveys))
        return purpose, KeyRotationActivities(kms, KeyNames(), catalogue, {}, {}), kms


@pytest_asyncio.fixture
async def walk(
    owner_pool: OwnerPool,
    identity_pool: asyncpg.Pool,
    settings_for: SettingsFor,
    booth_of: OpenBooth,
    tmp_path: Path,
) -> AsyncIterator[Walk]:
    async with (
        connected(settings_for, CATALOGUE, SURVEYS) as surveys,
        connected(settings_for, CATALOGUE, CLOSING) as closing,
        connected(settings_for, "eu", UNMASKING) as unmasking,
    ):
        yield Walk(owner_pool, identity_pool, surveys, closing, unmasking, booth_of, tmp_path)


@pytest.mark.parametrize("name", PROMISING)
async def test_an_activity_leaves_what_it_promises(walk: Walk, name: str) -> None:
    await getattr(walk, name)()


async def test_what_leaves_nothing_is_noticed(walk: Walk, owner_pool: OwnerPool) -> None:
    pool, another = await owner_pool("eu"), new_registration_id("eu")
    with pytest.raises(AssertionError, match="note_unmasking left no case"):
        async with leaves(pool, "note_unmasking", subject=another, within_s=0.2):
            await walk.note_unmasking()
