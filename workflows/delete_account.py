"""The end of an account: every step waits until it is done, so that none is left half-done.

Nothing is compensated, since each step brings the account nearer to what its owner asked for. The key of the personal
data goes last: until then vendors can be asked and the person be told.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from workflows.escalation import escalate, require_action
from workflows.messages import Messages
from workflows.policies import ASK_VENDOR, CLAIM, COMMIT
from workflows.search_attributes import PROCESS_STAGE
from workflows.waiting import within

with workflow.unsafe.imports_passed_through():
    from activities.claims import ClaimActivities
    from activities.deletion import DeletionActivities
    from activities.proofing import ProofingActivities
    from activities.registration import RegistrationActivities
    from domain.account_ends import DeletionStage
    from domain.cases import CaseKind
    from domain.contracts.accounts import (
        DeleteAccountInput,
        DeletedAccount,
        DeletionStep,
        EndedRegistration,
        ErasableCase,
        ErasableCases,
        ErasedDevices,
        ReleaseClaimsInput,
    )
    from domain.contracts.registration import CaseNumber, CaseReference, EndAccountInput, ErasedCase
    from domain.contracts.support import CaseAction, CaseActionTaken
    from domain.mailing import MessageKind
    from domain.registration import pause_before_look
    from domain.support_actions import SupportAction

Result = TypeVar("Result")


@workflow.defn(name="DeleteAccount")
class DeleteAccountWorkflow:
    """Stops the account, has vendors erase what they have, closes it, frees its documents, and destroys its key."""

    @workflow.init
    def __init__(self, request: DeleteAccountInput) -> None:
        self._request = request
        self._step = DeletionStep(deletion_id=request.deletion_id, voter_id=request.voter_id)
        self._stage = DeletionStage.REQUESTED
        self._is_hinted = False

    @workflow.run
    async def run(self, request: DeleteAccountInput) -> DeletedAccount:
        """Return the certificate."""
        await workflow.execute_activity_method(DeletionActivities.stop_account, self._step, **COMMIT)
        self._enter(DeletionStage.STOPPED)
        await self._end_registration()
        await self._erase_cases()
        devices: ErasedDevices = await self._insist(DeletionActivities.erase_devices, self._step)
        await workflow.execute_activity_method(DeletionActivities.end_account, self._step, **COMMIT)
        self._enter(DeletionStage.CLOSED)
        for cell in sorted(request.cells):  # only now: a person has one open account
            held = ReleaseClaimsInput(claim_cell=cell, voter_id=request.voter_id)
            await workflow.execute_activity_method(ClaimActivities.release_claims, held, **CLAIM)
        messages = Messages(request.voter_id)
        messages.send(MessageKind.DELETED, f"{request.deletion_id}/deleted")
        await messages.sent()
        forgotten = EndAccountInput(voter_id=request.voter_id, reason="deletion")
        await workflow.execute_activity_method(RegistrationActivities.destroy_personal_data, forgotten, **COMMIT)
        last = self._step.model_copy(update={"devices_erased": devices.erased})
        done: DeletedAccount = await workflow.execute_activity_method(
            DeletionActivities.certify_deletion, last, **COMMIT
        )
        self._enter(DeletionStage.COMPLETED)
        return done

    @workflow.update
    async def take_action(self, action: CaseAction) -> CaseActionTaken:
        """Do what support asks for."""
        if action.action is SupportAction.LOOK_NOW:
            self._is_hinted = True
        else:
            escalate()
        return CaseActionTaken(stage=self._stage)

    @take_action.validator
    def _action_can_be_taken(self, action: CaseAction) -> None:
        require_action(action.action, CaseKind.DELETION, self._stage)

    async def _end_registration(self) -> None:
        """Return once nothing of a registration can go on and make the account anew."""
        looks = 0
        while True:
            ended: EndedRegistration = await workflow.execute_activity_method(
                DeletionActivities.end_registration, self._step, **COMMIT
            )
            if ended.over:
                return
            await self._pause(pause_before_look(looks))
            looks += 1

    async def _erase_cases(self) -> None:
        listed: ErasableCases = await workflow.execute_activity_method(
            DeletionActivities.list_cases, self._step, **COMMIT
        )
        for case in listed.cases:
            await self._erase(case)

    async def _erase(self, case: ErasableCase) -> None:
        """Ask the provider for the erasure of a case until it confirms."""
        voter_id, asked = self._request.voter_id, 0
        reference = CaseReference(provider=case.provider, reference=case.reference, voter_id=voter_id)
        while True:
            erased: ErasedCase = await self._insist(ProofingActivities.erase_case, reference)
            if erased.confirmed:
                break
            await self._pause(pause_before_look(asked))
            asked += 1
        number = CaseNumber(registration_id=case.registration_id, case_no=case.case_no)
        await workflow.execute_activity_method(RegistrationActivities.note_erased, number, **COMMIT)

    async def _insist(self, activity: Callable[[Any, Any], Awaitable[Result]], request: Any) -> Result:
        """Return what a vendor answers, however long that takes: also one that refuses us is asked again."""
        failures = 0
        while True:
            try:
                return await workflow.execute_activity_method(activity, request, **ASK_VENDOR)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                workflow.logger.warning("vendor_unanswered", extra={"activity": error.activity_type})
            await self._pause(pause_before_look(failures))
            failures += 1

    async def _pause(self, time: timedelta) -> None:
        """Wait for so long, or until support wants it tried now."""
        await within(lambda: self._is_hinted, time)
        self._is_hinted = False

    def _enter(self, stage: DeletionStage) -> None:
        self._stage = stage
        workflow.upsert_search_attributes([PROCESS_STAGE.value_set(stage.value)])
