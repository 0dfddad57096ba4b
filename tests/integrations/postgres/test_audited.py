"""What changes in identity, and the end of a survey, leaves its entry: once, in the transaction, naming no voter."""

import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from domain.accounts import KeyedHash, LookupKind
from domain.audit import AuditKind as K
from domain.certificates import canonical_json
from domain.contracts.certification import (
    CertificationStage,
    CertificationState,
    DestroySurveyKeysInput,
    SignedCertificate,
)
from domain.contracts.exports import StoredObject
from domain.contracts.login import EndLoginInput, LoginDecision, LoginOutcome, StepUpFactor
from domain.credentials import CredentialKind
from domain.errors import DomainError, ErrorCode
from domain.ids import (
    new_client_id,
    new_deletion_id,
    new_person_id,
    new_recovery_id,
    new_registration_id,
    new_staff_id,
    new_survey_id,
    new_voter_id,
)
from domain.key_ports import KeyEvent
from domain.recovery import recovery_token
from domain.registrations import RegistrationStage, StageNote
from domain.tokens import Role
from integrations.postgres.account_ends import PostgresAccountEnds
from integrations.postgres.account_recoveries import PostgresAccountRecoveries
from integrations.postgres.api_clients import ApiClients
from integrations.postgres.catalogue import PostgresCatalogue
from integrations.postgres.certifications import PostgresCertifications
from integrations.postgres.credentials import PostgresCredentials
from integrations.postgres.logins import PostgresLogins
from integrations.postgres.pool import open_pool
from integrations.postgres.registrations import PostgresRegistrations
from integrations.postgres.roles import CLOSING, ROLLS, SURVEYS
from integrations.postgres.rolls import PostgresRolls
from integrations.postgres.staff_accounts import PostgresStaffAccounts
from integrations.postgres.wrapped_keys import PostgresCatalogueKeys
from tests.conftest import OwnerPool, SettingsFor
from tests.integrations.postgres.account_rows import make_account, open_session
from tests.integrations.postgres.test_catalogue import keys, opened
from tests.integrations.postgres.test_logins import login

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def certificate_of(survey: str) -> tuple[CertificationState, CertificationState]:
    """Return how a certification stands before its certificate, and with it."""
    certificate = SignedCertificate(
        survey_id=survey,
        certificate_id="c_x",
        key_id="certificate/2027-01-01/1",
        certified_at=NOW,
        retained_until=NOW,
        stored=StoredObject(name="x", size_bytes=1, sha256=bytes(range(32))),
    )
    state = CertificationState(survey_id=survey, stage=CertificationStage.CERTIFIED, revision=2)
    return state, state.model_copy(update={"revision": 3, "certificate": certificate})


def recounting(survey: str) -> CertificationState:
    """Return how a certification stands when its ballots are about to be opened, before any certificate."""
    return CertificationState(survey_id=survey, stage=CertificationStage.RECOUNTING, revision=1, attempt=1)


@dataclass
class Acts:
    """Does each thing twice, as whoever repeats a step does; returns the subject that its entry names."""

    identity: asyncpg.Pool
    staffing: asyncpg.Pool
    rolls: asyncpg.Pool
    surveys: asyncpg.Pool
    closing: asyncpg.Pool

    async def login_decided(self) -> str:
        made = login(LoginDecision.DENY)
        for _ in range(2):
            await PostgresLogins(self.identity).record(made)
        return made.request.attempt_id

    async def login_ended(self) -> str:
        logins, made = PostgresLogins(self.identity), login(LoginDecision.CHALLENGE, factors=(StepUpFactor.TOTP,))
        await logins.record(made)
        attempt = made.request.attempt_id
        for outcome in (LoginOutcome.STEPPED_UP, LoginOutcome.EXPIRED):
            await logins.end(
                EndLoginInput(attempt_id=attempt, voter_id=made.request.voter_id, outcome=outcome, counts=made.counts)
            )
        return attempt

    async def registration_ended(self) -> str:
        registrations, registration = PostgresRegistrations(self.identity), new_registration_id("eu")
        await registrations.begin(registration, new_voter_id("eu"), "DE", NOW)
        await registrations.note(StageNote(registration, 1, RegistrationStage.PROOFING))
        for _ in range(2):
            await registrations.note(StageNote(registration, 2, RegistrationStage.REJECTED, ("forgery",), case_no=1))
        return registration

    async def account_recovered(self) -> str:
        voter, recoveries = await make_account(self.identity), PostgresAccountRecoveries(self.identity)
        await open_session(self.identity, voter)
        request, token = new_recovery_id("eu"), recovery_token("eu", secrets.token_bytes(32))
        await recoveries.begin(request, voter, token, NOW)
        for _ in range(2):
            await recoveries.finish(token, b"hash")
        return request

    async def deletion(self) -> str:
        ends, deletion = PostgresAccountEnds(self.identity), new_deletion_id("eu")
        voter, registration = await make_account(self.identity), new_registration_id("eu")
        await PostgresCredentials(self.identity).put(voter, CredentialKind.PASSWORD, b"hash")
        registrations = PostgresRegistrations(self.identity)
        await registrations.begin(registration, voter, "DE", NOW)
        for case_no in (1, 2):
            note = StageNote(registration, case_no, RegistrationStage.PROOFING, (), case_no=case_no, provider="sumsub")
            await registrations.note(replace(note, reference=f"{registration}-{case_no}"))
            await registrations.note_erased(registration, case_no)
        for _ in range(2):
            await ends.request(deletion, voter)
            await ends.stop(deletion)
            await ends.close(deletion)
            await ends.complete(deletion, 0)
        await ends.request(new_deletion_id("eu"), voter)
        return deletion

    async def staff(self) -> str:
        accounts, staff = PostgresStaffAccounts(self.staffing), new_staff_id("eu")
        by = [KeyedHash("lookup/1", secrets.token_bytes(32))]
        for _ in range(2):
            await accounts.add(staff, {Role.SUPPORT, Role.COMPLIANCE}, LookupKind.MAIL, by, "comitia:tester")
        for _ in range(2):
            await accounts.disable(staff, "comitia:tester")
        return staff

    async def client(self) -> str:
        clients, client = ApiClients({"eu": self.staffing}), new_client_id()
        await clients.create("eu", client, "tests", [Role.ADMIN, Role.AUDITOR], 60, actor="comitia:tester")
        for _ in range(2):
            assert await clients.disable("eu", client, actor="comitia:tester")
        return client

    async def roll(self) -> str:
        survey, rolls, persons = new_survey_id(), PostgresRolls(self.rolls), [new_person_id() for _ in range(3)]
        for _ in range(2):
            await rolls.enrol_persons(survey, persons, "comitia:tester")
        return survey

    async def certified(self) -> str:
        survey = (await opened(PostgresCatalogue(self.surveys))).survey.id
        certifications = PostgresCertifications(self.closing)
        state, certified = certificate_of(survey)
        for _ in range(2):
            await certifications.note(recounting(survey))
        for _ in range(2):
            await certifications.note(state, "staff:u_x")
        for revision in (3, 3, 4):
            await certifications.note(certified.model_copy(update={"revision": revision}))
        with pytest.raises(DomainError) as refused:
            await certifications.destroy_keys(DestroySurveyKeysInput(survey_id=survey, at=NOW - timedelta(seconds=1)))
        assert refused.value.code is ErrorCode.SURVEY_NOT_CERTIFIED  # it is still to be kept
        for _ in range(2):
            await certifications.destroy_keys(DestroySurveyKeysInput(survey_id=survey, at=NOW + timedelta(days=1)))
        left = await self.surveys.fetchrow(
            "SELECT wrapped_ballot_key, wrapped_eligibility_key FROM catalogue.survey WHERE survey_id = $1", survey
        )
        assert left is not None
        assert set(left.values()) == {b""}
        return survey


@pytest_asyncio.fixture
async def acts(
    identity_pool: asyncpg.Pool, staffing_pool: asyncpg.Pool, settings_for: SettingsFor
) -> AsyncIterator[Acts]:
    settings = settings_for(SURVEYS, CLOSING, ROLLS)
    assert settings.catalogue is not None
    surveys = await open_pool(settings.catalogue, settings, SURVEYS, size=1)
    closing = await open_pool(settings.catalogue, settings, CLOSING, size=1)
    rolls = await open_pool(settings.cells["eu"].database, settings, ROLLS, size=1)
    yield Acts(identity_pool, staffing_pool, rolls, surveys, closing)
    for pool in (surveys, closing, rolls):
        await pool.close()


def told(actor: str, outcome: str = "done", **facts: str | int) -> dict[str, Any]:
    """Return what an entry has besides its subject and digests."""
    return {"actor": actor, "outcome": outcome, **({"facts": facts} if facts else {})}


async def entries(pool: asyncpg.Pool, subject: str) -> list[tuple[str, dict[str, Any]]]:
    rows = await pool.fetch(
        "SELECT kind, body FROM audit.entry WHERE body->>'subject' = $1 ORDER BY xid, kind", subject
    )
    return [(row["kind"], json.loads(row["body"])) for row in rows]


JUDGE, TESTER = "process:assess-login", "comitia:tester"
PROVEN: dict[str, str | int] = {"policyVersion": 1, "method": "oidc", "provider": "sandbox"}
DIGESTED = {K.LOGIN_DECIDED, K.REGISTRATION_ENDED}
TOLD: dict[str, list[tuple[K, dict[str, Any]]]] = {
    "login_decided": [(K.LOGIN_DECIDED, told(JUDGE, "deny", **PROVEN, factors=""))],
    "login_ended": [
        (K.LOGIN_DECIDED, told(JUDGE, "challenge", **PROVEN, factors="totp")),
        (K.LOGIN_ENDED, told(JUDGE, "stepped_up", factor="")),
    ],
    "registration_ended": [(K.REGISTRATION_ENDED, told("process:register-voter", "rejected", caseNo=1))],
    "account_recovered": [(K.ACCOUNT_RECOVERED, told("process:recover-account", sessionsEnded=1))],
    "deletion": [
        (K.DELETION_ASKED, told("process:auth")),
        (K.ACCOUNT_DELETED, told("process:delete-account", casesErased=2, credentialsRemoved=1)),
    ],
    "staff": [(K.STAFF_ADDED, told(TESTER, "compliance,support")), (K.STAFF_DISABLED, told(TESTER))],
    "client": [(K.CLIENT_ADDED, told(TESTER, "admin,auditor")), (K.CLIENT_DISABLED, told(TESTER))],
    "roll": [(K.ROLL_ENROLLED, told(TESTER, persons=3))],
}


@pytest.mark.parametrize("act", TOLD)
async def test_every_change_leaves_its_entry_once(acts: Acts, owner_pool: OwnerPool, act: str) -> None:
    subject = await getattr(acts, act)()
    found = await entries(await owner_pool("eu"), subject)
    assert [(kind, {**body, "after": ""} if "after" in body else body) for kind, body in found] == [
        (kind, {**body, "subject": subject, **({"after": ""} if kind in DIGESTED else {})}) for kind, body in TOLD[act]
    ]


async def test_the_end_of_a_survey_leaves_its_entries_once(acts: Acts, owner_pool: OwnerPool) -> None:
    survey = await acts.certified()
    found = await entries(await owner_pool("catalogue"), survey)
    assert len(found) == 7  # and of its beginning
    assert [(kind, body) for kind, body in found[-4:]] == [
        (K.SURVEY_BALLOTS_OPENED, {**told("process:run-survey", attempt=1), "subject": survey}),
        (K.CERTIFICATION_ASKED, {**told("staff:u_x"), "role": "admin", "subject": survey}),
        (K.SURVEY_CERTIFIED, {**told("process:run-survey"), "subject": survey, "after": bytes(range(32)).hex()}),
        (K.SURVEY_KEYS_DESTROYED, {**told("process:run-survey"), "subject": survey}),
    ]


async def test_the_keys_of_a_survey_are_made_once(acts: Acts, owner_pool: OwnerPool) -> None:
    catalogue = PostgresCatalogue(acts.surveys)
    survey = (await opened(catalogue)).survey.id
    await catalogue.keep_keys(keys(survey))
    made = [body for kind, body in await entries(await owner_pool("catalogue"), survey) if kind == K.SURVEY_KEYS_MADE]
    assert made == [{**told("process:run-survey"), "subject": survey}]


async def test_a_key_that_a_command_destroys_is_in_the_name_of_whoever_gave_it(
    acts: Acts, owner_pool: OwnerPool
) -> None:
    store, key_id = PostgresCatalogueKeys(acts.surveys), f"kek/tests-{secrets.token_hex(4)}/2027-01-01/1"
    for actor in ("comitia:tester", ""):  # a repeat is the first one's
        await store.note(key_id, KeyEvent.DESTROYED, actor)
    assert [body["actor"] for _, body in await entries(await owner_pool("catalogue"), key_id)] == ["comitia:tester"]


async def test_what_becomes_of_a_key_leaves_its_entries_once(acts: Acts, owner_pool: OwnerPool) -> None:
    store, key_id = PostgresCatalogueKeys(acts.surveys), f"kek/tests-{secrets.token_hex(4)}/2027-01-01/1"
    for event in (KeyEvent.MADE, KeyEvent.MADE, KeyEvent.DESTROYED, KeyEvent.DESTROYED):
        await store.note(key_id, event)
    found = await entries(await owner_pool("catalogue"), key_id)
    assert [kind for kind, _ in found] == [K.KEY_MADE, K.KEY_DESTROYED]
    assert {body["actor"] for _, body in found} == {"process:rotate-keys"}


async def test_a_decision_commits_to_what_it_was_judged_by(acts: Acts, owner_pool: OwnerPool) -> None:
    pool = await owner_pool("eu")
    made = login(LoginDecision.DENY)
    await PostgresLogins(acts.identity).record(made)
    ((_, one),) = await entries(pool, made.request.attempt_id)
    verdict, signals = (each.model_dump(mode="json") for each in (made.verdict, made.signals))
    judged = {"attempt": made.request.attempt_id, "verdict": verdict, "signals": signals}
    assert one["after"] == sha256(canonical_json(judged)).hexdigest()


async def test_what_is_rolled_back_leaves_no_entry(acts: Acts, owner_pool: OwnerPool) -> None:
    deletion = new_deletion_id("eu")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await PostgresAccountEnds(acts.identity).request(deletion, new_voter_id("eu"))
    assert await entries(await owner_pool("eu"), deletion) == []
