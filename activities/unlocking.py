"""Lifts what keeps somebody out of their account, once support has asked for it."""

from collections.abc import Callable
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from domain.accounts import AccountLocks
from domain.contracts.support import CaseActionTaken, UnlockAccountInput
from domain.errors import DomainError
from domain.support_actions import SupportAction


class UnlockingActivities:
    """Unlocks accounts of one cell; holds the port so that a test can pass its own."""

    def __init__(self, locks: AccountLocks) -> None:
        self._locks = locks

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.unlock_account]

    @activity.defn(name="unlock_account")
    async def unlock_account(self, request: UnlockAccountInput) -> CaseActionTaken:
        """Lift the wait after failed proofs, or a suspension. Safe to repeat: it is done once for each action.

        Raises:
            ApplicationError: `voter_not_found`, `case_stage`; `directory_unavailable` (retried).
        """
        try:
            if request.reinstates:
                await self._locks.reinstate(request.voter_id, request.action_id)
                return CaseActionTaken(stage=SupportAction.REINSTATE.value)
            await self._locks.unlock(request.voter_id, request.action_id)
        except DomainError as error:
            raise to_application_error(error) from error
        return CaseActionTaken(stage=SupportAction.UNLOCK.value)
