"""A process whose own code fails, as after a bad deployment, is shown with why, since when and how often it failed."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueRequest, RespondWorkflowTaskFailedRequest
from temporalio.client import Client

from api.support.bodies import StuckPage
from api.support.stuck import StuckDesk
from domain.ids import new_recovery_id, recover_account_workflow_id
from tests.api.auth.registration_town import CELLS, Town
from tests.api.support.support_world import Support, eventually, support_cells
from tests.integrations.postgres.account_rows import make_account

CODE = "non_deterministic_error"


@asynccontextmanager
async def failing_worker(client: Client, queue: str) -> AsyncIterator[None]:
    """Fail every task of a queue at once, as a worker does whose code does not fit the histories."""

    async def fail() -> None:
        service, identity = client.workflow_service, "a bad deployment"
        poll = PollWorkflowTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=queue), identity=identity
        )
        while True:
            task = await service.poll_workflow_task_queue(poll)
            if task.task_token:
                answer = RespondWorkflowTaskFailedRequest(
                    task_token=task.task_token,
                    cause=WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR,
                    identity=identity,
                    namespace=client.namespace,
                )
                await service.respond_workflow_task_failed(answer)

    failing = asyncio.create_task(fail())
    try:
        yield
    finally:
        failing.cancel()
        with suppress(asyncio.CancelledError):
            await failing


async def test_code_that_fails_again_and_again_is_pending_in_the_timeline_and_late(
    town: Town, support: Support
) -> None:
    cell, request = town.cells["eu"], new_recovery_id("eu")
    await cell.recoveries.begin(request, await make_account(cell.pool), f"rk_eu_{'e' * 43}", datetime.now(UTC))
    queue, workflow_id = f"bad-{secrets.token_hex(4)}", recover_account_workflow_id("eu", request)
    handle = await cell.temporal.start_workflow("RecoverAccount", id=workflow_id, task_queue=queue)
    try:
        async with failing_worker(cell.temporal, queue):

            async def late() -> Any:
                found = StuckPage.of(await StuckDesk(CELLS, support_cells(town), []).look(100))
                assert not found.missing_cells
                return [each for each in found.stuck if each.workflow == workflow_id]

            (stuck,) = await eventually(late)
        assert (stuck.case_id, stuck.process, stuck.stage, stuck.target_s) == (
            request,
            "RecoverAccount",
            "workflow_task",
            0,
        )
        (pending,) = (await support.found(f"cases/{request}"))["pending"]
        assert (pending["name"], pending["code"]) == ("workflow_task", CODE)
        assert pending["attempts"] > 3
        steps = (await support.found(f"cases/{request}/timeline"))["steps"]
        (failed,) = [step for step in steps if step["kind"] == "task"]
        assert (failed["name"], failed["state"], failed["code"]) == ("workflow_task", "failed", CODE)
        assert failed["attempts"] >= pending["attempts"]
        assert stuck.since == datetime.fromisoformat(failed["at"])
    finally:
        await handle.terminate()
