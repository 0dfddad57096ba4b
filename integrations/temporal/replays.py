"""Replays of one cell as durable executions, in the queue that the process that may open every history serves."""

from typing import Final

from temporalio.client import Client

from domain.contracts.replays import ReplayInput
from domain.contracts.work import CancelWork
from domain.errors import DomainError, ErrorCode
from domain.ids import replay_executions_workflow_id
from integrations.temporal.starting import start_once
from integrations.temporal.updates import CANCELLING, answered

REPLAY_DEPLOYMENT: Final = "compliance"
REPLAY_QUEUE: Final = "replay"


class TemporalReplays:
    """The replays of one cell; the workflow is known here by name alone."""

    def __init__(self, client: Client, cell: str, *, queue: str = REPLAY_QUEUE, patience_s: float = 5.0) -> None:
        """`patience_s` is how long a caller waits for an answer."""
        self._client = client
        self._cell = cell
        self._queue = queue
        self._patience_s = patience_s

    async def start(self, request: ReplayInput) -> None:
        """Return once it is durably on its way. Safe to repeat: one id, one execution.

        Raises:
            DomainError: `workflows_unavailable`; it may have started or not.
        """
        await start_once(
            self._client,
            "ReplayExecutions",
            request,
            workflow_id=replay_executions_workflow_id(self._cell, request.replay_id),
            queue=self._queue,
            patience_s=self._patience_s,
        )

    async def cancel(self, replay_id: str, request: CancelWork) -> None:
        """Return once it has ended by being cancelled, and that is noted. Safe to repeat: it is cancelled once.

        Raises:
            DomainError: `work_ended` where it had ended before, or nobody knows of it; `workflows_unavailable`.
        """
        handle = self._client.get_workflow_handle(replay_executions_workflow_id(self._cell, replay_id))
        async with answered(self._patience_s, DomainError(ErrorCode.WORK_ENDED)):
            await handle.execute_update("cancel", request, id=CANCELLING)
