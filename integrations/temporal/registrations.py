"""Registrations of one cell as durable executions: begun, steered, and told that something came from a provider."""

import asyncio
from typing import Any, Final

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from domain.contracts.registration import (
    RegisterVoterInput,
    RegistrationRules,
    RegistrationState,
    TriedCode,
    VerifyIdentityInput,
)
from domain.errors import DomainError, ErrorCode
from domain.ids import CASE_ID, register_voter_workflow_id, verify_identity_workflow_id
from domain.registrations import Registration, RegistrationStage
from domain.webhooks import WebhookEvent
from integrations.temporal.starting import TASK_TIMEOUT, start_once
from integrations.temporal.updates import answered

IDENTITY_DEPLOYMENT: Final = "identity"
IDENTITY_QUEUE: Final = "identity"
_EVIDENCE = "evidence_received"


class TemporalRegistrations:
    """The registrations of one cell; workflows are known here by name alone."""

    def __init__(self, client: Client, cell: str, *, queue: str = IDENTITY_QUEUE, patience_s: float = 5.0) -> None:
        """`patience_s` is how long a caller waits for an answer."""
        self._client = client
        self._cell = cell
        self._queue = queue
        self._patience_s = patience_s

    async def start(self, request: RegisterVoterInput) -> None:
        """Return once a registration is durably on its way. Safe to repeat: one id, one execution.

        Raises:
            DomainError: `workflows_unavailable`; it may have started or not.
        """
        await start_once(
            self._client,
            "RegisterVoter",
            request,
            workflow_id=register_voter_workflow_id(self._cell, request.registration_id),
            queue=self._queue,
            patience_s=self._patience_s,
        )

    async def prove_contact(self, registration_id: str, tried: TriedCode) -> RegistrationState:
        """Hand in a code. Raises DomainError `code_wrong`, and as `cancel`."""
        return await self._update(registration_id, "prove_contact", tried)

    async def resend_code(self, registration_id: str) -> RegistrationState:
        """Have another code sent. Raises DomainError `rate_limited`, and as `cancel`."""
        return await self._update(registration_id, "resend_code")

    async def appeal(self, registration_id: str) -> RegistrationState:
        """Begin a new case. Raises as `cancel`."""
        return await self._update(registration_id, "appeal")

    async def cancel(self, registration_id: str) -> RegistrationState:
        """End a registration at the person's wish.

        Raises:
            DomainError: `registration_stage` where it is too late, `workflows_unavailable` where nobody answers.
        """
        return await self._update(registration_id, "cancel")

    async def tell(self, event: WebhookEvent, registration: Registration | None, rules: RegistrationRules) -> bool:
        """Tell the process of a case that something may have changed; False where it is not there yet.

        A case that has led to an account has ended: it is looked at once more, since the provider may have taken its
        word back. Whatever is about nothing that goes on has nobody to be told, which is True as well.

        Raises:
            DomainError: `workflows_unavailable`.
        """
        found = CASE_ID.fullmatch(event.case_id)
        if found is None or registration is None:
            return True
        case_no = int(found["case_no"])
        try:
            async with asyncio.timeout(self._patience_s):
                if await self._signal(registration.registration_id, case_no):
                    return True
                if case_no < registration.case_no:
                    return True  # of a case that another one replaced
                if registration.stage is RegistrationStage.ACTIVE:
                    await self._look_again(registration, rules)
                    return True
        except (RPCError, TimeoutError) as error:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "nobody could be told") from error
        return registration.stage in _OVER

    async def _signal(self, registration_id: str, case_no: int) -> bool:
        handle = self._client.get_workflow_handle(verify_identity_workflow_id(self._cell, registration_id, case_no))
        try:
            await handle.signal(_EVIDENCE)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True

    async def _look_again(self, registration: Registration, rules: RegistrationRules) -> None:
        await self._client.start_workflow(
            "VerifyIdentity",
            VerifyIdentityInput(
                registration_id=registration.registration_id,
                voter_id=registration.voter_id,
                cell=self._cell,
                cells=(),
                rules=rules.model_copy(update={"provider": registration.provider}),
                case_no=registration.case_no,
                revision=registration.revision,
                replaces=registration.reference,
                recheck=True,
                local_first=True,
            ),
            id=verify_identity_workflow_id(self._cell, registration.registration_id, registration.case_no),
            task_queue=self._queue,
            task_timeout=TASK_TIMEOUT,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal=_EVIDENCE,
        )

    async def _update(self, registration_id: str, name: str, request: Any = None) -> RegistrationState:
        handle = self._client.get_workflow_handle(register_voter_workflow_id(self._cell, registration_id))
        async with answered(self._patience_s, DomainError(ErrorCode.REGISTRATION_STAGE, "the registration has ended")):
            state: RegistrationState = await handle.execute_update(
                name, *(() if request is None else (request,)), result_type=RegistrationState
            )
        return state


_OVER = frozenset(
    {
        RegistrationStage.REJECTED,
        RegistrationStage.REFUSED,
        RegistrationStage.EXPIRED,
        RegistrationStage.CANCELLED,
    }
)
