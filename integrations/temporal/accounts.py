"""Recovery and deletion of one cell's accounts as durable executions: begun, and told that a link was used."""

import asyncio
from typing import Any, Final

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from domain.contracts.accounts import DeleteAccountInput, RecoverAccountInput
from domain.ids import delete_account_workflow_id, recover_account_workflow_id
from integrations.temporal.registrations import IDENTITY_QUEUE
from integrations.temporal.starting import start_once

_LINK_USED: Final = "link_used"

log = structlog.get_logger(__name__)


class TemporalAccounts:
    """What is done to the accounts of one cell; workflows are known here by name alone."""

    def __init__(self, client: Client, cell: str, *, queue: str = IDENTITY_QUEUE, patience_s: float = 5.0) -> None:
        """`patience_s` is how long a caller waits."""
        self._client = client
        self._cell = cell
        self._queue = queue
        self._patience_s = patience_s

    async def recover(self, request: RecoverAccountInput) -> None:
        """Return once a request for a link is durably on its way. Safe to repeat: one id, one execution.

        Raises:
            DomainError: `workflows_unavailable`; it may have started or not.
        """
        await self._start("RecoverAccount", request, recover_account_workflow_id(self._cell, request.request_id))

    async def link_used(self, request_id: str) -> None:
        """Tell that a link was used; who cannot be told looks for himself in the end."""
        handle = self._client.get_workflow_handle(recover_account_workflow_id(self._cell, request_id))
        try:
            async with asyncio.timeout(self._patience_s):
                await handle.signal(_LINK_USED)
        except (RPCError, TimeoutError) as error:
            log.warning("recovery_not_told", cell=self._cell, error=type(error).__name__)

    async def delete(self, request: DeleteAccountInput) -> None:
        """Return once a deletion is durably on its way. Safe to repeat; one that failed is begun again.

        Raises:
            DomainError: `workflows_unavailable`; it may have started or not.
        """
        await self._start("DeleteAccount", request, delete_account_workflow_id(self._cell, request.deletion_id))

    async def _start(self, workflow: str, request: Any, workflow_id: str) -> None:
        await start_once(
            self._client,
            workflow,
            request,
            workflow_id=workflow_id,
            queue=self._queue,
            patience_s=self._patience_s,
            failed_again=True,
        )
