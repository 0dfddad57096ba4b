"""Lifts what keeps somebody out of their account, at the word of support: an outage delays it, and it is done once."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

from workflows.policies import COMMIT
from workflows.refusals import cause_of

with workflow.unsafe.imports_passed_through():
    from activities.unlocking import UnlockingActivities
    from domain.contracts.support import CaseActionTaken, UnlockAccountInput


@workflow.defn(name="UnlockAccount")
class UnlockAccountWorkflow:
    """Asks the directory, which looks at the account once more."""

    @workflow.run
    async def run(self, request: UnlockAccountInput) -> CaseActionTaken:
        """Return what was done.

        Raises:
            ApplicationError: `voter_not_found`, `case_stage`.
        """
        try:
            taken: CaseActionTaken = await workflow.execute_activity_method(
                UnlockingActivities.unlock_account, request, **COMMIT
            )
        except ActivityError as error:
            raise cause_of(error) from error
        return taken
