"""Comparisons of recorded decisions with another policy, as durable executions of one cell."""

import asyncio

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from domain.contracts.rejudging import RejudgeInput, RejudgementState
from domain.contracts.work import CancelWork
from domain.errors import DomainError, ErrorCode
from domain.ids import rejudge_decisions_workflow_id
from integrations.temporal.registrations import IDENTITY_QUEUE
from integrations.temporal.starting import start_once
from integrations.temporal.updates import CANCELLING, answered


class TemporalRejudgements:
    """The comparisons of one cell; the workflow is known here by name alone."""

    def __init__(self, client: Client, cell: str, *, queue: str = IDENTITY_QUEUE, patience_s: float = 5.0) -> None:
        """`patience_s` is how long a caller waits for an answer."""
        self._client = client
        self._cell = cell
        self._queue = queue
        self._patience_s = patience_s

    async def start(self, request: RejudgeInput) -> None:
        """Return once it is durably on its way. Safe to repeat: one id, one execution.

        Raises:
            DomainError: `workflows_unavailable`; it may have started or not.
        """
        await start_once(
            self._client,
            "RejudgeDecisions",
            request,
            workflow_id=rejudge_decisions_workflow_id(self._cell, request.rejudgement_id),
            queue=self._queue,
            patience_s=self._patience_s,
        )

    async def state(self, rejudgement_id: str) -> RejudgementState:
        """Return how far it is.

        Raises:
            DomainError: `not_found`, also once its history is past its retention; `workflows_unavailable`.
        """
        handle = self._client.get_workflow_handle(rejudge_decisions_workflow_id(self._cell, rejudgement_id))
        try:
            async with asyncio.timeout(self._patience_s):
                state: RejudgementState = await handle.query("state", result_type=RejudgementState)
        except (RPCError, TimeoutError) as error:
            if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
                raise DomainError(ErrorCode.NOT_FOUND, "no such rejudgement, or not any more") from error
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "no answer yet; asking again is safe") from error
        return state

    async def cancel(self, rejudgement_id: str, request: CancelWork) -> RejudgementState:
        """Return how far it was when it was cancelled. Safe to repeat: it is cancelled once.

        Raises:
            DomainError: `work_ended` where all of it was judged before; `workflows_unavailable`.
        """
        handle = self._client.get_workflow_handle(rejudge_decisions_workflow_id(self._cell, rejudgement_id))
        try:
            async with answered(self._patience_s, DomainError(ErrorCode.WORK_ENDED)):
                state: RejudgementState = await handle.execute_update(
                    "cancel", request, id=CANCELLING, result_type=RejudgementState
                )
        except DomainError as error:
            if error.code is not ErrorCode.WORK_ENDED:
                raise
            state = await self.state(rejudgement_id)  # whoever asks again, once it has ended
            if not state.is_cancelled:
                raise
        return state
