"""Registrations in a real cell: notes in any order, and every case that was ever opened."""

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg
import pytest

from domain.errors import DomainError, ErrorCode
from domain.evidence_bundles import digest_of, ended_registration
from domain.ids import new_registration_id, new_voter_id
from domain.registrations import ENDED, ProofingCase, RegistrationStage, StageNote
from integrations.postgres.registration_records import registration_record
from integrations.postgres.registrations import PostgresRegistrations
from tests.conftest import OwnerPool

SOON = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def registrations(identity_pool: asyncpg.Pool) -> PostgresRegistrations:
    return PostgresRegistrations(identity_pool)


async def begun(registrations: PostgresRegistrations) -> tuple[str, str]:
    registration, voter = new_registration_id("eu"), new_voter_id("eu")
    await registrations.begin(registration, voter, "DE", SOON)
    return registration, voter


def notes(registration: str) -> list[StageNote]:
    """Return what a process says, in order: a case, its rejection, an appeal that ends well."""
    at = partial(StageNote, registration, provider="letters")
    first = partial(at, case_no=1, reference=f"{registration}-first")
    second = partial(at, case_no=2, reference=f"{registration}-second", policy_version=7)
    return [
        first(1, RegistrationStage.PROOFING, expires_at=SOON),
        first(2, RegistrationStage.REJECTED, ("forgery",), ("screenshot", "forgery")),
        second(3, RegistrationStage.ACTIVE),
    ]


async def test_a_registration_begins_once(registrations: PostgresRegistrations) -> None:
    registration, voter = await begun(registrations)
    later = registrations.begin(registration, voter, "FR", SOON + timedelta(days=1))
    await asyncio.gather(later, registrations.begin(registration, voter, "DE", SOON))
    found = await registrations.get(registration)
    assert found is not None
    assert (found.voter_id, found.region, found.expires_at) == (voter, "DE", SOON)
    assert (found.stage, found.revision, found.reasons) == (RegistrationStage.CONTACT_PROOF, 0, ())
    assert await registrations.of_voter(voter) == found
    assert await registrations.get(new_registration_id("eu")) is None


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_notes_in_any_order_come_to_the_newest_and_lose_no_case(
    registrations: PostgresRegistrations, order: tuple[int, ...]
) -> None:
    registration, voter = await begun(registrations)
    said = notes(registration)
    for place in (*order, order[0]):
        await registrations.note(said[place])
    found = await registrations.get(registration)
    assert found is not None
    assert (found.revision, found.stage, found.reasons, found.staff_reasons) == (3, RegistrationStage.ACTIVE, (), ())
    assert (found.case_no, found.reference, found.expires_at) == (2, f"{registration}-second", None)
    assert [case.reference for case in await registrations.cases_of(voter)] == [said[0].reference, said[2].reference]


async def test_notes_at_once_come_to_the_newest(registrations: PostgresRegistrations) -> None:
    registration, _ = await begun(registrations)
    await asyncio.gather(*(registrations.note(note) for note in notes(registration) * 4))
    found = await registrations.get(registration)
    assert found is not None
    assert found.revision == 3


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_entry_of_an_end_has_the_digest_of_what_is_shown(
    identity_pool: asyncpg.Pool, registrations: PostgresRegistrations, owner_pool: OwnerPool, order: tuple[int, ...]
) -> None:
    """Also where a case is noted after it: the record shows one more then, and so another entry is written."""
    registration, _ = await begun(registrations)
    said = notes(registration)
    owner, found = await owner_pool("eu"), [said[place] for place in order]
    for note in [*found, *found]:
        await registrations.note(note)
        record = await registration_record(identity_pool, registration)
        assert record is not None
        assert record.get("policyVersion") == (7 if record["stage"] == "active" else None)
        entries = await owner.fetch(
            "SELECT body FROM audit.entry WHERE kind = 'registration.ended' AND body->>'subject' = $1 ORDER BY xid",
            registration,
        )
        if record["stage"] in ENDED:
            digest = digest_of(ended_registration(registration, record)).hex()
            assert json.loads(entries[-1]["body"])["after"] == digest


async def test_a_rejection_is_read_with_its_reasons(registrations: PostgresRegistrations) -> None:
    registration, _ = await begun(registrations)
    await registrations.note(notes(registration)[1])
    found = await registrations.get(registration)
    assert found is not None
    assert (found.reasons, found.staff_reasons) == (("forgery",), ("screenshot", "forgery"))


async def test_a_case_is_found_by_its_reference_and_noted_as_erased(registrations: PostgresRegistrations) -> None:
    registration, voter = await begun(registrations)
    for note in notes(registration):
        await registrations.note(note)
    reference = f"{registration}-second"
    case = ProofingCase(registration, 2, "letters", reference)
    assert await registrations.case_at("letters", reference) == case
    assert await registrations.case_at("sumsub", reference) is None
    for _ in range(2):
        await registrations.note_erased(registration, 2)
    assert [case.erased for case in await registrations.cases_of(voter)] == [False, True]


async def test_a_note_of_no_registration_is_refused(registrations: PostgresRegistrations) -> None:
    with pytest.raises(DomainError) as refused:
        await registrations.note(StageNote(new_registration_id("eu"), 1, RegistrationStage.EXPIRED))
    assert refused.value.code is ErrorCode.REGISTRATION_NOT_FOUND


async def test_registrations_without_a_process_are_found(
    registrations: PostgresRegistrations, owner_pool: OwnerPool
) -> None:
    (lost, _), (noted, _), (young, _) = [await begun(registrations) for _ in range(3)]
    await registrations.note(StageNote(noted, 1, RegistrationStage.CONTACT_PROOF))
    long_ago = "UPDATE identity.registration SET created_at = '2020-01-01' WHERE registration_id = ANY ($1)"
    await (await owner_pool("eu")).execute(long_ago, [lost, noted])
    found = await registrations.unstarted(datetime(2021, 1, 1, tzinfo=UTC), 100)
    ids = [registration.registration_id for registration in found]
    assert lost in ids
    assert not {noted, young} & set(ids)
    assert len(await registrations.unstarted(datetime(2021, 1, 1, tzinfo=UTC), 1)) == 1


async def test_registrations_that_are_away_say_so(closed_pool: asyncpg.Pool) -> None:
    registrations = PostgresRegistrations(closed_pool)
    for call in (
        registrations.begin("r", "v", "DE", SOON),
        registrations.get("r"),
        registrations.note(StageNote("r", 1, RegistrationStage.ACTIVE)),
        registrations.unstarted(SOON, 1),
        registrations.case_at("letters", "x"),
        registrations.cases_of("v"),
        registrations.note_erased("r", 1),
    ):
        with pytest.raises(DomainError) as away:
            await call
        assert away.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
