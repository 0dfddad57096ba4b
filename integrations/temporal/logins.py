"""Logins of one cell as durable executions: begun once their proof was good, and told of further factors."""

from typing import Final

from temporalio.client import Client

from domain.contracts.login import AssessLoginInput, StepUpState, TriedFactor
from domain.errors import DomainError, ErrorCode
from domain.ids import assess_login_workflow_id
from integrations.temporal.starting import start_once
from integrations.temporal.updates import answered

LOGIN_QUEUE: Final = "login"
WORKFLOW_TYPE: Final = "AssessLogin"


class TemporalLogins:
    """The logins of one cell; the workflow is known here by name alone."""

    def __init__(self, client: Client, cell: str, *, queue: str = LOGIN_QUEUE, patience_s: float = 5.0) -> None:
        """`patience_s` is how long a caller waits for an answer."""
        self._client = client
        self._cell = cell
        self._queue = queue
        self._patience_s = patience_s

    async def start(self, login: AssessLoginInput) -> None:
        """Return once a login is durably on its way; its first task comes back at once (eager start).

        Safe to repeat: one attempt, one execution.

        Raises:
            DomainError: `workflows_unavailable`; it may have started or not.
        """
        await start_once(
            self._client,
            WORKFLOW_TYPE,
            login,
            workflow_id=assess_login_workflow_id(self._cell, login.attempt_id),
            queue=self._queue,
            patience_s=self._patience_s,
            eager=True,
        )

    async def step_up(self, attempt_id: str, tried: TriedFactor) -> StepUpState:
        """Tell a challenged login of a factor that somebody brought; return how it stands then.

        Raises:
            DomainError: `login_not_found` where it waits for none (any more), `factor_not_found` for one that is not
                of this login, `workflows_unavailable`.
        """
        handle = self._client.get_workflow_handle(assess_login_workflow_id(self._cell, attempt_id))
        async with answered(self._patience_s, DomainError(ErrorCode.LOGIN_NOT_FOUND, "the login waits for nothing")):
            state: StepUpState = await handle.execute_update("step_up", tried, result_type=StepUpState)
        return state
