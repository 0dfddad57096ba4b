"""What support has done to a case, as updates of its processes; each is taken once, by the id of what was asked."""

from temporalio.client import Client

from domain.contracts.support import CaseAction, CaseActionTaken
from domain.errors import DomainError, ErrorCode
from integrations.temporal.updates import answered


class TemporalCaseActions:
    """The cases of one cell; workflows are known here by name alone."""

    def __init__(self, client: Client, *, patience_s: float = 5.0) -> None:
        """`patience_s` is how long a caller waits for an answer."""
        self._client = client
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
