"""Deletions: what goes, in which order, what is waited for, and workers that die at every step."""

import asyncio
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from domain.account_ends import DeletionStage
from domain.contracts.accounts import DeletedAccount
from domain.eligibility import VoterStatus
from domain.errors import ErrorCode
from domain.mailing import MessageKind
from domain.registrations import RegistrationStage
from tests.workflows.account_world import PERSON, AccountWorld, accounts, kept, killed_after
from tests.workflows.hooked import named_steps
from tests.workflows.registration_world import happens
from workflows.delete_account import DeleteAccountWorkflow

STEPS = [
    "stop_account",
    "end_registration",
    "list_cases",
    "erase_case",
    "note_erased",
    "erase_devices",
    "end_account",
    "release_claims",
    "release_claims",
    "send_message",
    "destroy_personal_data",
    "certify_deletion",
]


def nothing_is_left(world: AccountWorld, done: DeletedAccount) -> None:
    """Assert that the account is gone, and that its person is still named."""
    assert world.ends.stages == [DeletionStage.STOPPED, DeletionStage.CLOSED, DeletionStage.COMPLETED]
    assert world.account.status is VoterStatus.CLOSED
    assert world.voter_id in world.directory.destroyed
    assert world.voter_id not in world.directory.data
    assert {(held.holder, held.person_id) for held in world.held} == {(None, PERSON)}
    assert world.provider.erased
    assert world.rows.erased[0] == (world.rows.registration_id, 1)
    assert set(world.devices.erased) == {"own"}  # the other one is somebody else's too
    (told,) = world.mail.of(MessageKind.DELETED)
    assert told.to == world.address
    assert done.deletion_id == world.deletion_id
    assert (done.sessions_ended, done.credentials_removed, done.devices_erased, done.cases_erased) == (2, 3, 1, 1)
    assert done.completed_at == world.ends.row.completed_at


@pytest.fixture
def quick(skipping: WorkflowEnvironment) -> Client:
    """Where nothing waits for real pauses."""
    return skipping.client


async def test_an_account_ends_in_order_and_its_person_is_still_named(quick: Client) -> None:
    async with accounts(quick) as world:
        world.provider.confirms_when_asked = 1
        handle = await world.delete()
        done = await handle.result()
    assert world.steps == STEPS
    nothing_is_left(world, done)
    await kept(handle, "delete-account-deleted")


@pytest.mark.parametrize("failing", [ErrorCode.PROOFING_UNAVAILABLE, ErrorCode.PROOFING_REFUSED])
async def test_vendors_that_are_away_or_refuse_are_waited_for(quick: Client, failing: ErrorCode) -> None:
    async with accounts(quick) as world:
        world.provider.confirms_when_asked = 3
        world.provider.erase_failures = [failing] * 8
        world.devices.failures = [ErrorCode.DEVICES_UNAVAILABLE] * 8 + [ErrorCode.DEVICES_MISCONFIGURED] * 2
        handle = await world.delete()
        done = await handle.result()
    nothing_is_left(world, done)
    assert len(world.provider.erased) == 3
    await kept(handle, f"delete-account-vendor-{'away' if failing is ErrorCode.PROOFING_UNAVAILABLE else 'refuses'}")


async def test_a_cell_that_is_away_is_waited_for_and_nothing_is_certified_meanwhile(quick: Client) -> None:
    async with accounts(quick) as world:
        world.provider.confirms_when_asked = 1
        for cell in world.claims.values():
            cell.is_away = True
        handle = await world.delete()
        await happens(lambda: sum(cell.asked for cell in world.claims.values()) >= 2)
        assert world.ends.row.stage is DeletionStage.CLOSED
        assert world.voter_id not in world.directory.destroyed
        for cell in world.claims.values():
            cell.is_away = False
        done = await handle.result()
    nothing_is_left(world, done)
    await kept(handle, "delete-account-cell-away")


async def test_a_registration_that_goes_on_is_ended_first(quick: Client) -> None:
    async with accounts(quick) as world:
        world.provider.confirms_when_asked = 1
        registration = world.rows.registration_id
        world.rows.open()
        world.processes.lasts = 2
        handle = await world.delete()
        done = await handle.result()
    assert world.rows.rows[registration].stage is RegistrationStage.CANCELLED
    assert world.steps.count("end_registration") == 2
    nothing_is_left(world, done)
    await kept(handle, "delete-account-registration-open")


async def test_a_person_who_cannot_be_written_to_is_deleted_all_the_same(quick: Client) -> None:
    async with accounts(quick) as world:
        world.provider.confirms_when_asked = 1
        world.mail.failures = [ErrorCode.MAIL_REFUSED]
        handle = await world.delete()
        await handle.result()
    assert world.ends.row.stage is DeletionStage.COMPLETED
    assert not world.mail.sent
    await kept(handle, "delete-account-mail-refused")


async def test_a_deletion_begun_again_after_the_key_is_gone_certifies_what_was_erased_before(client: Client) -> None:
    async with accounts(client) as world:
        world.provider.confirms_when_asked = 1
        begun: list[Any] = []

        async def cut_off(name: str) -> None:
            if name == "destroy_personal_data" and len(begun) == 1:
                await begun[0].terminate("by an operator")

        world.after = cut_off
        begun.append(await world.delete())
        with pytest.raises(WorkflowFailureError):
            await begun[0].result()
        begun.append(await world.delete())
        done = await begun[1].result()
    assert world.steps.count("erase_devices") == 2
    nothing_is_left(world, done)


async def test_a_worker_that_dies_after_any_step_changes_nothing(client: Client) -> None:
    async def prepare(world: AccountWorld) -> None:
        world.provider.confirms_when_asked = 1
        await world.claim()

    async def live(world: AccountWorld) -> None:
        done = await (await world.delete()).result()
        nothing_is_left(world, done)

    async with asyncio.timeout(60):
        lived = await asyncio.gather(*(killed_after(client, step, live, prepare) for step in range(1, len(STEPS) + 1)))
    assert [died_after for _, died_after in lived] == STEPS
    assert set(STEPS) == named_steps(DeleteAccountWorkflow)
