"""What keeps somebody out is lifted once, whatever is away, and a refusal is no fault."""

import asyncio
import secrets
from datetime import timedelta

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from activities.unlocking import UnlockingActivities
from domain.contracts.support import CaseActionTaken, UnlockAccountInput
from domain.errors import DomainError, ErrorCode
from domain.ids import derived_id, new_attempt_id, new_voter_id, unlock_account_workflow_id
from tests.workflows.hooked import Hook, hooked_worker, live_with_a_death, named_steps
from tests.workflows.registration_world import replayed
from workflows.unlock_account import UnlockAccountWorkflow


class World:
    """An account's locks, which raise `failures` first."""

    def __init__(self, client: Client, *failures: ErrorCode) -> None:
        self.client = client
        self.queue = f"unlocking-{secrets.token_hex(4)}"
        self.steps: list[str] = []
        self.after: Hook | None = None
        self.failures = list(failures)
        self.done: set[tuple[str, str, str]] = set()

    async def unlock(self, voter_id: str, action_id: str) -> None:
        self._do("unlocked", voter_id, action_id)

    async def reinstate(self, voter_id: str, action_id: str) -> None:
        self._do("reinstated", voter_id, action_id)

    def _do(self, what: str, voter_id: str, action_id: str) -> None:
        if self.failures:
            raise DomainError(self.failures.pop(0))
        self.done.add((what, voter_id, action_id))

    def worker(self) -> Worker:
        return hooked_worker(self, [UnlockAccountWorkflow], UnlockingActivities(self).all())

    async def start(self, *, reinstates: bool = False) -> WorkflowHandle[UnlockAccountWorkflow, CaseActionTaken]:
        request = UnlockAccountInput(
            action_id=derived_id("sa", secrets.token_hex(8)),
            cell="eu",
            case_id=new_attempt_id("eu"),
            voter_id=new_voter_id("eu"),
            reinstates=reinstates,
            actor="staff:u_eu_x",
            reason="voter_asked",
        )
        return await self.client.start_workflow(
            UnlockAccountWorkflow.run,
            request,
            id=unlock_account_workflow_id("eu", request.action_id),
            task_queue=self.queue,
            task_timeout=timedelta(seconds=3),
        )


@pytest.mark.parametrize("wanted", ["unlocked", "reinstated"])
async def test_an_outage_is_waited_out(client: Client, wanted: str) -> None:
    world = World(client, ErrorCode.DIRECTORY_UNAVAILABLE)
    async with asyncio.timeout(60), world.worker():
        handle = await world.start(reinstates=wanted == "reinstated")
        await handle.result()
    ((what, _, action_id),) = world.done
    assert (what, handle.id) == (wanted, f"unlock-account/eu/{action_id}")
    await replayed(handle, f"unlock-account-{what}")


async def test_a_refusal_is_one_of_the_catalogue(client: Client) -> None:
    world = World(client, ErrorCode.CASE_STAGE)
    async with asyncio.timeout(60), world.worker():
        handle = await world.start()
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == ErrorCode.CASE_STAGE
    await replayed(handle, "unlock-account-refused")


async def test_a_worker_that_dies_with_it_leaves_it_done_once(client: Client) -> None:
    world = World(client)
    handle = await world.start()
    async with asyncio.timeout(60):
        died_after = await live_with_a_death(world, 1, handle.result())
    assert {died_after} == named_steps(UnlockAccountWorkflow)
    assert len(world.done) == 1
