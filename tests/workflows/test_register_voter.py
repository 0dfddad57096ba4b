"""Days of waiting, on the server that skips time."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from domain.accounts import LookupKind, claiming_cell
from domain.eligibility import VoterStatus
from domain.errors import ErrorCode
from domain.mailing import MessageKind
from domain.proofing import Document, ProofingFinding, ProofingState
from domain.registration import CODE_TRIES_MAX, CODES_MAX
from domain.registrations import RegistrationStage
from domain.tokens import Assurance
from tests.workflows.registration_ports import CELLS, IN_REVIEW, REJECTED, RETRY, WAITING, Held, approved, found
from tests.workflows.registration_world import Registering, happens, registering, replayed
from workflows.register_voter import RegisterVoterWorkflow


@pytest.fixture
def client(skipping: WorkflowEnvironment) -> Client:
    return skipping.client


async def test_a_person_becomes_an_active_voter(client: Client) -> None:
    async with registering(client) as world:
        world.script(WAITING, IN_REVIEW, approved("P1"))
        handle = await world.start()
        await world.proved()
        ended = await handle.result()
    assert (ended.stage, ended.case_no, ended.policy_version) == (RegistrationStage.ACTIVE, 1, 1)
    account = world.account
    assert account is not None
    assert (account.status, account.assurance, account.age_class) == (VoterStatus.ACTIVE, Assurance.SUBSTANTIAL, 18)
    assert {held.person_id for held in world.claimed} == {account.person_id}
    assert all(held.settled and held.holder == world.voter_id for held in world.claimed)
    assert len(world.claimed) == 2
    found_by = await world.hashes.every(LookupKind.MAIL, world.address)
    assert set(world.directory.lookups) == {(LookupKind.MAIL, each.key_id, each.digest) for each in found_by}
    assert len(world.mail.of(MessageKind.WELCOME)) == 1
    assert world.row.stage is RegistrationStage.ACTIVE
    assert world.row.reference == world.provider.opened[0].join(["ref-", ""])
    await world.replayed("active")


async def refused(awaited: Awaitable[Any]) -> str | None:
    """Return the code with which an update was refused."""
    with pytest.raises(WorkflowUpdateFailedError) as failure:
        await awaited
    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    return cause.type


def nothing_is_left(world: Registering) -> None:
    """Assert that a registration which led to no account has left neither personal data nor a claim."""
    assert world.voter_id in world.directory.destroyed
    assert world.voter_id not in world.directory.data
    assert not [held for held in world.claimed if held.holder == world.voter_id]
    assert world.voter_id not in world.directory.lookups.values()
    assert world.account is None or world.account.status is VoterStatus.CLOSED


async def sent_codes(world: Registering, number: int) -> None:
    """Wait until so many codes were sent."""
    await happens(lambda: world.counted["send_contact_code"] == number)


async def rejected(world: Registering, case_no: int) -> None:
    """Wait until this case was rejected."""
    await happens(lambda: (world.row.stage, world.row.case_no) == (RegistrationStage.REJECTED, case_no))


async def test_who_never_types_the_code_is_reminded_once_and_given_up_after_three_days(client: Client) -> None:
    async with registering(client) as world:
        handle = await world.start()
        ended = await handle.result()
        lasted = (await handle.describe()).close_time - (await handle.describe()).start_time  # type: ignore[operator]
    assert (ended.stage, ended.reasons) == (RegistrationStage.EXPIRED, ("not_finished",))
    assert timedelta(days=3) <= lasted < timedelta(days=3, hours=1)
    assert len(world.mail.of(MessageKind.PROVE_CONTACT)) == 1
    assert len(world.mail.of(MessageKind.REMINDER)) == 1
    assert world.account is None
    nothing_is_left(world)
    await world.replayed("contact-expired", cases=0)


async def test_a_code_is_good_for_five_tries_and_four_codes_are_sent(
    client: Client, skipping: WorkflowEnvironment
) -> None:
    async with registering(client) as world:
        handle = await world.start()
        for sent in range(1, CODES_MAX + 1):
            await sent_codes(world, sent)
            for _ in range(CODE_TRIES_MAX):
                assert await refused(world.prove("00000000")) == ErrorCode.CODE_WRONG
            if sent == 1:
                right = await refused(world.prove())  # too late, even with the right one
                assert right == ErrorCode.CODE_WRONG
                assert await refused(handle.execute_update(RegisterVoterWorkflow.resend_code)) == ErrorCode.RATE_LIMITED
            if sent < CODES_MAX:
                await skipping.sleep(timedelta(seconds=31))
                await handle.execute_update(RegisterVoterWorkflow.resend_code)
        ended = await handle.result()
    assert (ended.stage, ended.reasons) == (RegistrationStage.REFUSED, ("codes_used_up",))
    codes = [message.code for message in world.mail.of(MessageKind.PROVE_CONTACT)]
    assert len(set(codes)) == CODES_MAX
    assert all(len(code) == 8 and code.isdigit() for code in codes)
    nothing_is_left(world)
    await world.replayed("codes-used-up", cases=0)


async def test_no_fifth_code_is_sent_however_long_somebody_waits(client: Client, skipping: WorkflowEnvironment) -> None:
    async with registering(client) as world:
        handle = await world.start()
        for sent in range(1, CODES_MAX + 1):
            await sent_codes(world, sent)
            await skipping.sleep(timedelta(minutes=5))
            resent = handle.execute_update(RegisterVoterWorkflow.resend_code)
            if sent < CODES_MAX:
                await resent
        assert await refused(resent) == ErrorCode.REGISTRATION_STAGE
        await world.proved()  # the last one is good
        await handle.execute_update(RegisterVoterWorkflow.cancel)
        await handle.result()
    assert world.counted["send_contact_code"] == CODES_MAX


async def test_a_code_is_good_twice_and_a_later_code_makes_it_worthless(
    client: Client, skipping: WorkflowEnvironment
) -> None:
    async with registering(client) as world:
        handle = await world.start()
        await happens(lambda: world.counted["send_contact_code"] == 1)
        first = world.mail.sent[-1].code
        await skipping.sleep(timedelta(seconds=31))
        await handle.execute_update(RegisterVoterWorkflow.resend_code)
        await happens(lambda: world.counted["send_contact_code"] == 2)
        await asyncio.sleep(0.1)
        assert await refused(world.prove(first)) == ErrorCode.CODE_WRONG
        await world.proved()
        assert (await world.prove()).stage is not RegistrationStage.CONTACT_PROOF
        assert await refused(world.prove(first)) == ErrorCode.REGISTRATION_STAGE
        await handle.execute_update(RegisterVoterWorkflow.cancel)
        ended = await handle.result()
    assert (ended.stage, ended.reasons) == (RegistrationStage.CANCELLED, ("cancelled",))
    nothing_is_left(world)
    await world.replayed("cancelled")


async def test_an_address_that_takes_no_mail_ends_it_and_mail_that_is_down_does_not(client: Client) -> None:
    async with registering(client) as world:
        world.mail.failures = [ErrorCode.MAIL_UNAVAILABLE] * 3 + [ErrorCode.MAIL_REFUSED]
        ended = await (await world.start()).result()
    assert (ended.stage, ended.reasons) == (RegistrationStage.REFUSED, ("mail_refused",))
    nothing_is_left(world)
    await world.replayed("mail-refused", cases=0)


async def test_an_address_with_an_account_is_told_so_by_mail_proof_alone(client: Client) -> None:
    async with registering(client) as world:
        other = await world.hashes.every(LookupKind.MAIL, world.address)
        await world.directory.open("v_other", "DE", {LookupKind.MAIL: other})
        handle = await world.start()
        await world.prove()
        ended = await handle.result()
    assert (ended.stage, ended.reasons) == (RegistrationStage.REFUSED, ("mail_in_use",))
    assert world.account is None
    assert set(world.directory.lookups.values()) == {"v_other"}
    assert world.voter_id in world.directory.destroyed
    await world.replayed("mail-in-use", cases=0)


async def test_who_hands_nothing_in_is_reminded_and_given_up_after_a_fortnight(client: Client) -> None:
    async with registering(client) as world:
        world.script(WAITING)
        handle = await world.start()
        await world.proved()
        ended = await handle.result()
    assert (ended.stage, ended.reasons) == (RegistrationStage.EXPIRED, ("not_finished",))
    assert len(world.mail.of(MessageKind.REMINDER)) == 3
    assert world.provider.looks < 14 * 4 + 15  # pauses grow
    assert world.provider.erased
    assert world.rows.erased == [(world.registration_id, 1)]
    nothing_is_left(world)
    await world.replayed("expired")


async def test_a_retry_shows_its_reasons_and_leads_on(client: Client) -> None:
    async with registering(client) as world:
        world.script(WAITING, IN_REVIEW, RETRY, replace(RETRY, attempt=1), WAITING, IN_REVIEW, approved("P1"))
        handle = await world.start()
        await world.proved()
        ended = await handle.result()
    assert ended.stage is RegistrationStage.ACTIVE
    assert world.provider.retries == 1  # told once, however often it was read
    (told,) = world.mail.of(MessageKind.PROOFING_RETRY)
    assert told.advice == "Take it in better light"
    assert world.rows.stages == [
        RegistrationStage.CONTACT_PROOF,
        RegistrationStage.PROOFING,
        RegistrationStage.PROOFING,
        RegistrationStage.REVIEW,
        RegistrationStage.RETRY,
        RegistrationStage.REVIEW,
        RegistrationStage.ACTIVATION,
        RegistrationStage.ACTIVE,
    ]
    await world.replayed("retried")


async def test_attempts_are_used_up(client: Client) -> None:
    async with registering(client) as world:
        world.script(*(replace(RETRY, attempt=number) for number in range(1, 9)))
        handle = await world.start()
        await world.proved()
        ended = await handle.result()  # nobody appeals
    assert (ended.stage, ended.reasons[0]) == (RegistrationStage.REJECTED, "attempts_used_up")
    assert world.provider.retries == 4
    nothing_is_left(world)
    await world.replayed("attempts-used-up")


@pytest.mark.parametrize(
    ("name", "finding", "stage", "reason"),
    [
        ("rejected", REJECTED, RegistrationStage.REJECTED, "forgery"),
        ("under-age", approved("P1", born_on=date(2020, 1, 1)), RegistrationStage.REFUSED, "under_age"),
        (
            "duplicate-face",
            approved("P1", same_face=True, risk_labels=("selfie:samefacewithdifferentdata",)),
            RegistrationStage.REFUSED,
            "duplicate_face",
        ),
        (
            "rejected-duplicate",
            found(ProofingState.REJECTED, same_face=True, reasons=("duplicate",)),
            RegistrationStage.REFUSED,
            "duplicate_face",
        ),
        ("gone", found(ProofingState.GONE), RegistrationStage.REJECTED, "case_gone"),
    ],
)
async def test_a_no_is_shown_with_its_reason_and_leaves_nothing(
    client: Client, name: str, finding: ProofingFinding, stage: RegistrationStage, reason: str
) -> None:
    async with registering(client) as world:
        world.script(finding)
        handle = await world.start()
        await world.proved()
        ended = await handle.result()
    assert (ended.stage, ended.reasons) == (stage, (reason,))
    assert world.row.reasons == (reason,)
    assert set(finding.risk_labels) <= set(world.row.staff_reasons)
    assert len(world.mail.of(MessageKind.PROOFING_REJECTED)) == 1
    assert not world.claimed
    nothing_is_left(world)
    await world.replayed(name)


async def test_an_appeal_is_a_new_case_which_replaces_the_first_at_the_provider(client: Client) -> None:
    async with registering(client) as world:
        world.script(REJECTED)
        world.script(IN_REVIEW, approved("P1"), case_no=2)
        handle = await world.start()
        await world.proved()
        await happens(lambda: world.row.stage is RegistrationStage.REJECTED)
        assert world.row.expires_at is not None
        state = await handle.execute_update(RegisterVoterWorkflow.appeal)
        assert state.case_no == 2
        ended = await handle.result()
    assert (ended.stage, ended.case_no) == (RegistrationStage.ACTIVE, 2)
    assert world.provider.erased == [f"ref-{world.registration_id}-1"]
    assert world.provider.opened == [f"{world.registration_id}-1", f"{world.registration_id}-2"]
    await world.replayed("appealed", cases=2)


async def test_two_appeals_are_all(client: Client) -> None:
    async with registering(client) as world:
        for number in (1, 2, 3):
            world.script(REJECTED, case_no=number)
        handle = await world.start()
        await world.proved()
        for number in (1, 2):
            await rejected(world, number)
            await handle.execute_update(RegisterVoterWorkflow.appeal)
        ended = await handle.result()
    assert (ended.stage, ended.case_no) == (RegistrationStage.REJECTED, 3)
    nothing_is_left(world)
    await world.replayed("appealed-twice", cases=3)


@pytest.mark.parametrize("failing", [ErrorCode.PROOFING_UNAVAILABLE, ErrorCode.PROOFING_REFUSED])
async def test_a_provider_that_fails_is_waited_for_and_nobody_is_refused(client: Client, failing: ErrorCode) -> None:
    async with registering(client) as world:
        world.provider.failures = [failing] * 15
        world.script(*[failing] * 8, IN_REVIEW, *[failing] * 8, approved("P1"))
        handle = await world.start()
        await world.proved()
        ended = await handle.result()
    assert ended.stage is RegistrationStage.ACTIVE
    await world.replayed("provider-away" if failing is ErrorCode.PROOFING_UNAVAILABLE else "provider-refuses")


async def test_an_approval_that_names_nobody_is_none(client: Client) -> None:
    async with registering(client) as world:
        world.script(found(ProofingState.APPROVED), approved("P1"))
        handle = await world.start()
        await world.proved()
        ended = await handle.result()
    assert ended.stage is RegistrationStage.ACTIVE
    assert RegistrationStage.REVIEW in world.rows.stages
    await world.replayed("approved-late")


async def test_an_approval_that_is_taken_back_later_suspends_the_voter(client: Client) -> None:
    async with registering(client) as world:
        world.script(approved("P1"), approved("P1"), REJECTED)
        handle = await world.start()
        await world.proved()
        assert (await handle.result()).stage is RegistrationStage.ACTIVE
        first = await (await world.recheck()).result()  # a hint at nothing
        assert first.decision == "approved"
        assert world.row.stage is RegistrationStage.ACTIVE
        await replayed(world.case(), "verify-identity-local-rechecked")
        second = await (await world.recheck()).result()
        assert second.decision == "rejected"
    assert world.account is not None
    assert world.account.status is VoterStatus.SUSPENDED
    assert (world.row.stage, world.row.reasons) == (RegistrationStage.REJECTED, ("reversed", "forgery"))
    assert all(held.holder == world.voter_id for held in world.claimed)  # nobody else becomes this person meanwhile
    await replayed(world.case(), "verify-identity-local-reversed")


async def test_what_was_claimed_is_released_in_reverse_where_the_account_cannot_be_made(client: Client) -> None:
    async with registering(client) as world:
        world.script(approved("P1"))
        hashes = await world.hashes.document(Document("DEU", "passport", "P1"))
        cells = [claiming_cell(each.digest, CELLS) for each in hashes]
        world.claims[cells[-1]].held[hashes[-1].digest] = Held("p_other", "eu", "v_eu_other")
        handle = await world.start()
        await world.proved()
        ended = await handle.result()
    assert (ended.stage, ended.reasons) == (RegistrationStage.REFUSED, ("already_registered",))
    assert [held.holder for held in world.claimed] == ["v_eu_other"]
    assert world.counted["release_document"] == 2
    nothing_is_left(world)
    await world.replayed("already-registered")


async def test_a_person_at_home_elsewhere_is_told_where(client: Client) -> None:
    async with registering(client) as world:
        world.script(approved("P1"))
        for each in await world.hashes.document(Document("DEU", "passport", "P1")):
            held = Held("p_before", "us", None, settled=True)
            world.claims[claiming_cell(each.digest, CELLS)].held[each.digest] = held
        handle = await world.start()
        await world.proved()
        ended = await handle.result()
    assert (ended.stage, ended.reasons) == (RegistrationStage.REFUSED, ("registered_elsewhere", "home_cell:us"))
    assert {held.person_id for held in world.claimed} == {"p_before"}
    await world.replayed("registered-elsewhere")


async def test_who_deleted_the_account_and_comes_again_is_the_same_person(client: Client) -> None:
    async with registering(client) as world:
        world.script(approved("P1"))
        oldest = (await world.hashes.document(Document("DEU", "passport", "P1")))[0]
        held = Held("p_before", "eu", None, settled=True)
        world.claims[claiming_cell(oldest.digest, CELLS)].held[oldest.digest] = held
        handle = await world.start()
        await world.proved()
        await handle.result()
    assert world.account is not None
    assert world.account.person_id == "p_before"
    assert {held.person_id for held in world.claimed} == {"p_before"}  # under the newer version of the key as well
    await world.replayed("same-person")


async def test_claims_that_contradict_each_other_refuse_for_staff_to_look(client: Client) -> None:
    async with registering(client) as world:
        world.script(approved("P1"))
        for number, each in enumerate(await world.hashes.document(Document("DEU", "passport", "P1"))):
            held = Held(f"p_{number}", "eu", None, settled=True)
            world.claims[claiming_cell(each.digest, CELLS)].held[each.digest] = held
        handle = await world.start()
        await world.proved()
        ended = await handle.result()
    assert (ended.stage, ended.reasons) == (RegistrationStage.REFUSED, ("claim_contradicted",))
    assert {held.holder for held in world.claimed} == {None}
    await world.replayed("claim-contradicted")
