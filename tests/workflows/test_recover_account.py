"""Requests for links: who gets one, what becomes of it, and workers that die at every step."""

import asyncio
import json
import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from domain.contracts.accounts import RecoveredAccount, RecoveryEnd
from domain.contracts.support import CaseAction
from domain.errors import ErrorCode
from domain.mailing import MessageKind
from domain.recovery import LINK_LIFETIME, cell_of_recovery_token, recovery_token_hash
from domain.support_actions import RESENDS_MAX, SupportAction
from tests.workflows.account_world import PAGE, AccountWorld, accounts, kept, killed_after
from tests.workflows.hooked import named_steps
from tests.workflows.registration_world import happens
from workflows.recover_account import RecoverAccountWorkflow


@pytest.fixture
def quick(skipping: WorkflowEnvironment) -> Client:
    """Where nothing waits for real pauses."""
    return skipping.client


def token_of(world: AccountWorld) -> str:
    (link,) = world.links_sent()
    page, _, token = link.partition("#")
    assert page == PAGE
    assert cell_of_recovery_token(token) == "eu"
    return token


async def test_an_address_of_nobody_gets_nothing(quick: Client) -> None:
    async with accounts(quick) as world:
        handle = await world.recover()
        assert (await handle.result()).end is RecoveryEnd.NOBODY
    assert not world.mail.sent
    assert world.steps == ["find_account"]
    await kept(handle, "recover-account-nobody")


async def test_who_logs_in_at_a_provider_is_sent_there(quick: Client) -> None:
    async with accounts(quick) as world:
        await world.known(at_provider=True)
        handle = await world.recover()
        assert (await handle.result()).end is RecoveryEnd.AT_PROVIDER
    assert [message.kind for message in world.mail.sent] == [MessageKind.RECOVERY_AT_PROVIDER]
    assert not world.links.kept
    await kept(handle, "recover-account-at-provider")


async def test_a_link_that_is_used_is_told_of_and_no_history_knows_it(client: Client) -> None:
    async with accounts(client) as world:
        await world.known()
        handle = await world.recover()
        await happens(lambda: "send_recovery_link" in world.steps)
        token = token_of(world)
        assert world.links.kept == {world.request_id: recovery_token_hash(token)}
        world.links.used.add(world.request_id)
        await handle.signal("link_used")
        assert (await handle.result()).end is RecoveryEnd.RECOVERED
    assert [message.kind for message in world.mail.sent] == [MessageKind.RECOVERY, MessageKind.RECOVERED]
    history = json.dumps((await handle.fetch_history()).to_json_dict())
    assert token not in history
    assert world.address not in history
    await kept(handle, "recover-account-recovered")


async def test_a_use_that_nobody_told_of_is_seen_in_the_end(quick: Client) -> None:
    async with accounts(quick) as world:
        await world.known()
        world.links.used.add(world.request_id)
        handle = await world.recover()
        assert (await handle.result()).end is RecoveryEnd.RECOVERED
    assert len(world.mail.of(MessageKind.RECOVERED)) == 1
    await kept(handle, "recover-account-untold")


async def test_a_link_that_nobody_uses_expires(quick: Client) -> None:
    async with accounts(quick) as world:
        await world.known()
        handle = await world.recover()
        assert (await handle.result()).end is RecoveryEnd.EXPIRED
        described = await handle.describe()
    assert described.close_time is not None
    assert LINK_LIFETIME < described.close_time - described.start_time < LINK_LIFETIME + timedelta(minutes=2)
    assert [message.kind for message in world.mail.sent] == [MessageKind.RECOVERY]
    await kept(handle, "recover-account-expired")


async def test_a_hint_without_a_use_recovers_nothing(quick: Client) -> None:
    async with accounts(quick) as world:
        await world.known()
        handle = await world.recover()
        await handle.signal("link_used")
        assert (await handle.result()).end is RecoveryEnd.EXPIRED
    assert not world.mail.of(MessageKind.RECOVERED)


@pytest.mark.parametrize(
    ("name", "failures"),
    [("mail-refused", [ErrorCode.MAIL_REFUSED]), ("mail-away", [ErrorCode.MAIL_UNAVAILABLE] * 1000)],
)
async def test_a_link_that_cannot_be_sent_in_time_is_given_up(
    quick: Client, name: str, failures: list[ErrorCode]
) -> None:
    async with accounts(quick) as world:
        await world.known()
        world.mail.failures = list(failures)
        handle = await world.recover()
        assert (await handle.result()).end is RecoveryEnd.NOT_SENT
    assert not world.mail.sent
    await kept(handle, f"recover-account-{name}")


async def test_a_directory_that_is_away_for_a_while_holds_the_link_up(quick: Client) -> None:
    async with accounts(quick) as world:
        await world.known()
        world.links.failures = [ErrorCode.DIRECTORY_UNAVAILABLE] * 3
        handle = await world.recover()
        assert (await handle.result()).end is RecoveryEnd.EXPIRED
    assert len(world.links_sent()) == 1
    await kept(handle, "recover-account-directory-away")


USED = ("find_account", "send_recovery_link", "look_at_link", "send_message")
CANCELLED = ("find_account", "send_recovery_link", "cancel_recovery")


def test_every_step_of_a_recovery_is_in_a_walk() -> None:
    assert {*USED, *CANCELLED} == named_steps(RecoverAccountWorkflow)


async def test_a_worker_that_dies_after_any_step_changes_nothing(client: Client) -> None:
    async def live(world: AccountWorld) -> None:
        world.links.used.add(world.request_id)
        handle = await world.recover()
        await happens(lambda: bool(world.links_sent()))
        await handle.signal("link_used")
        assert (await handle.result()).end is RecoveryEnd.RECOVERED

    for world in await killed_after_each(client, USED, live):
        assert world.links.kept == {world.request_id: recovery_token_hash(token_of(world))}
        assert len(world.mail.of(MessageKind.RECOVERED)) == 1


async def test_a_worker_that_dies_after_any_step_leaves_a_cancelled_link_good_for_nothing(client: Client) -> None:
    async def live(world: AccountWorld) -> None:
        handle = await world.recover()
        await happens(lambda: bool(world.links_sent()))
        await sent(handle)
        await handle.execute_update(RecoverAccountWorkflow.take_action, asked(SupportAction.CANCEL))
        assert (await handle.result()).end is RecoveryEnd.CANCELLED

    for world in await killed_after_each(client, CANCELLED, live):
        assert world.links.cancelled == {world.request_id}
        assert not world.mail.of(MessageKind.RECOVERED)


async def killed_after_each(
    client: Client, steps: Sequence[str], live: Callable[[AccountWorld], Any]
) -> list[AccountWorld]:
    async with asyncio.timeout(60):
        lived = await asyncio.gather(
            *(killed_after(client, step, live, AccountWorld.known) for step in range(1, len(steps) + 1))
        )
    assert [died_after for _, died_after in lived] == list(steps)
    return [world for world, _ in lived]


def asked(action: SupportAction) -> CaseAction:
    return CaseAction(action_id=f"sa_{secrets.token_hex(8)}", action=action, actor="staff:u_x", reason="voter_asked")


async def sent(handle: WorkflowHandle[RecoverAccountWorkflow, RecoveredAccount]) -> None:
    """Wait until the process itself knows that the link is sent."""
    async with asyncio.timeout(30):
        while True:
            kinds = [event.event_type for event in (await handle.fetch_history()).events]
            if kinds.count(EventType.EVENT_TYPE_TIMER_STARTED) == 1:  # it waits for the link to be used
                return
            await asyncio.sleep(0.05)


async def test_support_has_a_link_sent_again_three_times_at_most_and_it_is_the_same_link(client: Client) -> None:
    async with accounts(client) as world:
        await world.known()
        handle = await world.recover()
        await sent(handle)
        for number in range(2, RESENDS_MAX + 2):
            await handle.execute_update(RecoverAccountWorkflow.take_action, asked(SupportAction.RESEND))
            await happens(lambda number=number: len(world.mail.of(MessageKind.RECOVERY)) == number)  # type: ignore[misc]
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(RecoverAccountWorkflow.take_action, asked(SupportAction.RESEND))
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == ErrorCode.CASE_STAGE
        world.links.used.add(world.request_id)
        await handle.signal("link_used")
        assert (await handle.result()).end is RecoveryEnd.RECOVERED
    assert len(set(world.links_sent())) == 1
    assert len({message.key for message in world.mail.of(MessageKind.RECOVERY)}) == RESENDS_MAX + 1
    await kept(handle, "recover-account-sent-again")


async def test_support_cancels_a_link_and_it_is_good_no_more(client: Client) -> None:
    async with accounts(client) as world:
        await world.known()
        handle = await world.recover()
        await sent(handle)
        await handle.execute_update(RecoverAccountWorkflow.take_action, asked(SupportAction.CANCEL))
        assert (await handle.result()).end is RecoveryEnd.CANCELLED
    assert world.links.cancelled == {world.request_id}
    await kept(handle, "recover-account-cancelled")


async def test_a_link_that_was_used_is_not_cancelled(client: Client) -> None:
    async with accounts(client) as world:
        await world.known()
        world.links.used.add(world.request_id)
        handle = await world.recover()
        await sent(handle)
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(RecoverAccountWorkflow.take_action, asked(SupportAction.CANCEL))
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == ErrorCode.CASE_STAGE
        assert (await handle.result()).end is RecoveryEnd.RECOVERED
