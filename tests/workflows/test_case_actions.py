"""What support has done to a case, as its processes take it: at which stages, how often, and what follows."""

from collections.abc import Callable
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from domain.contracts.accounts import RecoveryEnd
from domain.contracts.support import CaseAction, CaseActionTaken
from domain.errors import ErrorCode
from domain.mailing import MessageKind
from domain.registration import CODE_PAUSE
from domain.registrations import RegistrationStage
from domain.support_actions import ASKED_AGAIN_MAX, RESENDS_MAX, SupportAction
from tests.workflows.account_world import accounts, kept
from tests.workflows.registration_ports import WAITING, Mail, approved
from tests.workflows.registration_world import happens, registering


async def take(handle: WorkflowHandle[Any, Any], action: SupportAction, action_id: str = "sa_1") -> str:
    """Return the stage once an action is taken."""
    asked = CaseAction(action_id=action_id, action=action, actor="staff:u_eu_x", reason="stuck")
    taken: CaseActionTaken = await handle.execute_update(
        "take_action", asked, id=f"{action_id}-{action}", result_type=CaseActionTaken
    )
    return taken.stage


async def refused(handle: WorkflowHandle[Any, Any], action: SupportAction, action_id: str = "sa_no") -> str | None:
    """Return the code with which an action was refused."""
    with pytest.raises(WorkflowUpdateFailedError) as failure:
        await take(handle, action, action_id)
    assert isinstance(failure.value.cause, ApplicationError)
    return failure.value.cause.type


def codes(mail: Mail, count: int) -> Callable[[], bool]:
    return lambda: len(mail.of(MessageKind.PROVE_CONTACT)) == count


def sent(mail: Mail, action_id: str) -> Callable[[], bool]:
    return lambda: any(message.key.endswith(action_id) for message in mail.sent)


async def test_before_an_address_is_proved_codes_are_sent_again_and_a_registration_is_cancelled(
    skipping: WorkflowEnvironment,
) -> None:
    async with registering(skipping.client) as world:
        handle = await world.start()
        await happens(codes(world.mail, 1))
        assert await refused(handle, SupportAction.RESEND) == ErrorCode.RATE_LIMITED  # it was sent a moment ago
        for action in (SupportAction.LOOK_NOW, SupportAction.ASK_AGAIN):
            assert await refused(handle, action) == ErrorCode.CASE_STAGE
        for number in range(RESENDS_MAX):
            await skipping.sleep(CODE_PAUSE)
            assert await take(handle, SupportAction.RESEND, f"sa_{number}") == "contact_proof"
            await happens(codes(world.mail, number + 2))
        await skipping.sleep(CODE_PAUSE)
        assert await refused(handle, SupportAction.RESEND) == ErrorCode.CASE_STAGE
        assert await take(handle, SupportAction.ESCALATE) == "contact_proof"
        assert await take(handle, SupportAction.CANCEL) == "cancelled"
        assert (await handle.result()).stage is RegistrationStage.CANCELLED
    await world.replayed("cancelled-by-staff", cases=0)


async def test_at_the_provider_support_has_it_looked_and_asked_for_evidence_again(
    skipping: WorkflowEnvironment,
) -> None:
    async with registering(skipping.client) as world:
        world.script(WAITING)
        handle = await world.start()
        await world.proved()
        await happens(lambda: world.row.stage is RegistrationStage.PROOFING and world.provider.looks > 0)
        case = world.case()
        assert await refused(case, SupportAction.CANCEL) == ErrorCode.CASE_STAGE  # of the registration, not of a case
        assert await refused(handle, SupportAction.ESCALATE) == ErrorCode.CASE_STAGE  # and this the other way round
        looks = world.provider.looks
        assert await take(case, SupportAction.LOOK_NOW) == "proofing"
        await happens(lambda: world.provider.looks > looks)
        for number in range(ASKED_AGAIN_MAX):
            await skipping.sleep(3600)
            before, key = world.row, f"sa_{number}"
            assert await take(case, SupportAction.ASK_AGAIN, key) == "proofing"
            await happens(sent(world.mail, key))
            assert before.expires_at is not None
            assert world.row.expires_at is not None
            assert world.row.expires_at > before.expires_at
        assert await refused(case, SupportAction.ASK_AGAIN) == ErrorCode.CASE_STAGE
        reminders = len(world.mail.of(MessageKind.REMINDER))
        assert await take(case, SupportAction.RESEND, "sa_again") == "proofing"
        await happens(sent(world.mail, "sa_again"))
        assert len(world.mail.of(MessageKind.REMINDER)) == reminders + 1
        assert await take(case, SupportAction.ESCALATE) == "proofing"
        world.script(approved("P1"))
        assert await take(case, SupportAction.LOOK_NOW, "sa_last") == "proofing"
        assert (await handle.result()).stage is RegistrationStage.ACTIVE
    await world.replayed("acted-on")


async def test_a_case_is_cancelled_by_its_registration(skipping: WorkflowEnvironment) -> None:
    async with registering(skipping.client) as world:
        handle = await world.start()
        await world.proved()
        await happens(lambda: bool(world.row.reference))
        assert await take(handle, SupportAction.CANCEL) in {"cancelled", "proofing"}
        assert (await handle.result()).stage is RegistrationStage.CANCELLED
    await world.replayed()


async def test_a_deletion_asks_a_vendor_now_instead_of_after_its_pause(skipping: WorkflowEnvironment) -> None:
    async with accounts(skipping.client) as world:
        handle = await world.delete()
        await happens(lambda: bool(world.provider.erased))
        assert await refused(handle, SupportAction.CANCEL) == ErrorCode.CASE_STAGE
        assert await take(handle, SupportAction.ESCALATE) == "stopped"
        assert await take(handle, SupportAction.LOOK_NOW) == "stopped"
        await happens(lambda: len(world.provider.erased) > 1)  # time is not skipped meanwhile
        assert (await handle.result()).deletion_id == world.deletion_id
    await kept(handle, "delete-account-looked-now")


async def test_a_recovery_is_escalated_and_goes_on(client: Client) -> None:
    async with accounts(client) as world:
        await world.known()
        handle = await world.recover()
        await happens(lambda: "send_recovery_link" in world.steps)
        assert await refused(handle, SupportAction.LOOK_NOW) == ErrorCode.CASE_STAGE
        assert await take(handle, SupportAction.ESCALATE) == "sent"
        assert await take(handle, SupportAction.ESCALATE) == "sent"  # one id: the same update
        described = await handle.describe()
        (mark,) = [pair.value for pair in described.typed_search_attributes if pair.key.name == "Escalated"]
        assert mark is True
        world.links.used.add(world.request_id)
        await handle.signal("link_used")
        assert (await handle.result()).end is RecoveryEnd.RECOVERED
    history = await handle.fetch_history()
    taken = [event for event in history.events if event.HasField("workflow_execution_update_accepted_event_attributes")]
    assert len(taken) == 1
    await kept(handle, "recover-account-escalated")
