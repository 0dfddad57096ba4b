"""Registrations of one cell, steered by support: the updates and signals that there are, under ids of their own."""

import asyncio
import hashlib
from typing import Any, Final

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from domain.case_actions import CaseAction
from domain.contracts.registration import RegistrationState
from domain.errors import DomainError, ErrorCode
from domain.ids import register_voter_workflow_id, verify_identity_workflow_id
from integrations.temporal.updates import answered

_EVIDENCE: Final = "evidence_received"


class TemporalCaseSteering:
    """Asks the process of a registration; workflows are known here by name alone."""

    def __init__(self, client: Client, cell: str, *, patience_s: float = 5.0) -> None:
        """`patience_s` is how long a caller waits for an answer."""
        self._client = client
        self._cell = cell
        self._patience_s = patience_s

    async def ask(self, action: CaseAction, registration_id: str, case_no: int, key: str) -> None:
        """Return once the process has taken it. Safe to repeat: the same `key` is the same update.

        Raises:
            DomainError: `registration_stage` where the process is past it, `rate_limited` for a code too soon,
                `workflows_unavailable` where nobody answers.
        """
        if action is CaseAction.LOOK_NOW:
            await self._hint(registration_id, case_no)
            return
        handle = self._client.get_workflow_handle(register_voter_workflow_id(self._cell, registration_id))
        ended = DomainError(ErrorCode.REGISTRATION_STAGE, "the registration has ended")
        update: dict[str, Any] = {"id": f"support-{hashlib.sha256(key.encode()).hexdigest()[:32]}"}
        async with answered(self._patience_s, ended):
            await handle.execute_update(action.value, result_type=RegistrationState, **update)

    async def _hint(self, registration_id: str, case_no: int) -> None:
        handle = self._client.get_workflow_handle(verify_identity_workflow_id(self._cell, registration_id, case_no))
        try:
            async with asyncio.timeout(self._patience_s):
                await handle.signal(_EVIDENCE)
        except (RPCError, TimeoutError) as error:
            if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
                raise DomainError(ErrorCode.REGISTRATION_STAGE, "the case has ended") from error
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "the process was not told") from error
