"""What support has done to a case, as updates of its processes; each is taken once, by the id of what was asked."""

import asyncio

from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from domain.contracts.support import CaseAction, CaseActionTaken, UnlockAccountInput
from domain.errors import DomainError, ErrorCode
from domain.ids import unlock_account_workflow_id
from integrations.temporal.registrations import IDENTITY_QUEUE
from integrations.temporal.starting import start_once
from integrations.temporal.updates import answered


class TemporalCaseActions:
    """The cases of one cell; workflows are known here by name alone."""

    def __init__(self, client: Client, *, queue: str = IDENTITY_QUEUE, patience_s: float = 5.0) -> None:
        """`patience_s` is how long a caller waits for an answer."""
        self._client = client
        self._queue = queue
        self._patience_s = patience_s

    async def take(self, workflow_id: str, action: CaseAction) -> CaseActionTaken:
        """Return once a process has taken an action. Safe to repeat: one action id, one update.

        Raises:
            DomainError: `case_stage`, also where the process has ended; `registration_stage`, `rate_limited`;
                `workflows_unavailable` where nobody answers.
        """
        handle = self._client.get_workflow_handle(workflow_id)
        async with answered(self._patience_s, DomainError(ErrorCode.CASE_STAGE, "its process has ended")):
            taken: CaseActionTaken = await handle.execute_update(
                "take_action", action, id=action.action_id, result_type=CaseActionTaken
            )
        return taken

    async def unlock(self, request: UnlockAccountInput) -> CaseActionTaken:
        """Return once an account is unlocked, or its suspension lifted. Safe to repeat: one action id, one execution.

        Raises:
            DomainError: `voter_not_found`, `case_stage`; `workflows_unavailable` where it is not done yet.
        """
        workflow_id = unlock_account_workflow_id(request.cell, request.action_id)
        await start_once(
            self._client,
            "UnlockAccount",
            request,
            workflow_id=workflow_id,
            queue=self._queue,
            patience_s=self._patience_s,
        )
        handle = self._client.get_workflow_handle(workflow_id, result_type=CaseActionTaken)
        try:
            async with asyncio.timeout(self._patience_s):
                taken: CaseActionTaken = await handle.result()
        except WorkflowFailureError as error:
            cause = error.cause
            if isinstance(cause, ApplicationError) and cause.type in set(ErrorCode):
                raise DomainError(ErrorCode(cause.type), cause.message) from error
            raise
        except (RPCError, TimeoutError) as error:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "no answer yet; asking again is safe") from error
        return taken
