"""Unmaskings of one cell as durable executions: asked for, decided, and read while they say so."""

import asyncio
import secrets
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from domain.contracts.support import BreakGlassInput, DecideUnmasking, ReadUnmasking, UnmaskingState
from domain.errors import DomainError, ErrorCode
from domain.ids import break_glass_workflow_id
from integrations.temporal.registrations import IDENTITY_QUEUE
from integrations.temporal.starting import start_once
from integrations.temporal.updates import answered


class TemporalUnmaskings:
    """The unmaskings of one cell; the workflow is known here by name alone."""

    def __init__(self, client: Client, cell: str, *, queue: str = IDENTITY_QUEUE, patience_s: float = 5.0) -> None:
        """`patience_s` is how long a caller waits for an answer."""
        self._client = client
        self._cell = cell
        self._queue = queue
        self._patience_s = patience_s

    async def start(self, request: BreakGlassInput) -> None:
        """Return once it is durably asked for. Safe to repeat: one id, one execution.

        Raises:
            DomainError: `workflows_unavailable`; it may have started or not.
        """
        await start_once(
            self._client,
            "BreakGlass",
            request,
            workflow_id=break_glass_workflow_id(self._cell, request.request_id),
            queue=self._queue,
            patience_s=self._patience_s,
        )

    async def state(self, request_id: str) -> UnmaskingState:
        """Return where it stands.

        Raises:
            DomainError: `unmasking_not_found`, `workflows_unavailable`.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                state: UnmaskingState = await self._handle(request_id).query("state", result_type=UnmaskingState)
        except (RPCError, TimeoutError) as error:
            if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
                raise DomainError(ErrorCode.UNMASKING_NOT_FOUND) from error
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "no answer yet; asking again is safe") from error
        return state

    async def decide(self, request_id: str, decision: DecideUnmasking, key: str) -> UnmaskingState:
        """Return once a decision is taken and its entry written. Safe to repeat under one key.

        Raises:
            DomainError: `forbidden` for whoever asked, `unmasking_stage`, `workflows_unavailable`.
        """
        return await self._update(request_id, "decide", decision, f"decide-{key}")

    async def read(self, request_id: str, reader: ReadUnmasking) -> UnmaskingState:
        """Return once the entry of a reading is written: each call is one, and the field is shown after it alone.

        Raises:
            DomainError: `forbidden` for anybody but whoever asked, `unmasking_stage`, `workflows_unavailable`.
        """
        return await self._update(request_id, "read", reader, f"read-{secrets.token_hex(16)}")

    async def _update(self, request_id: str, name: str, request: Any, update_id: str) -> UnmaskingState:
        async with answered(self._patience_s, DomainError(ErrorCode.UNMASKING_STAGE, "it has ended")):
            state: UnmaskingState = await self._handle(request_id).execute_update(
                name, request, id=update_id, result_type=UnmaskingState
            )
        return state

    def _handle(self, request_id: str) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(break_glass_workflow_id(self._cell, request_id))
