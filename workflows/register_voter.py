"""A registration, from an address that is to be proved to an active voter, or to a reason why not."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    FailureError,
    is_cancelled_exception,
)
from temporalio.workflow import ParentClosePolicy

from workflows.contact_proof import ContactProof
from workflows.escalation import escalate, require_action
from workflows.messages import Messages
from workflows.policies import ASK_VENDOR, COMMIT
from workflows.refusals import refused
from workflows.registration_notes import StageNotes
from workflows.verify_identity import VerifyIdentityWorkflow
from workflows.waiting import within

with workflow.unsafe.imports_passed_through():
    from activities.proofing import ProofingActivities
    from activities.registration import RegistrationActivities
    from domain.cases import CaseKind
    from domain.contracts.registration import (
        CaseNumber,
        CaseReference,
        EndAccountInput,
        ErasedCase,
        IdentityDecision,
        OpenAccountInput,
        OpenedAccount,
        RegisteredVoter,
        RegisterVoterInput,
        RegistrationState,
        TriedCode,
        VerifiedIdentity,
        VerifyIdentityInput,
    )
    from domain.contracts.support import CaseAction, CaseActionTaken
    from domain.errors import ErrorCode
    from domain.ids import verify_identity_workflow_id
    from domain.mailing import MessageKind
    from domain.registration import (
        APPEAL,
        CASES_MAX,
        ERASED_WITHIN,
        Reason,
        may_appeal,
        pause_before_look,
    )
    from domain.registrations import RegistrationStage
    from domain.support_actions import RESENDS_MAX, SupportAction

_STAGES = {
    IdentityDecision.APPROVED: RegistrationStage.ACTIVE,
    IdentityDecision.REJECTED: RegistrationStage.REJECTED,
    IdentityDecision.REFUSED: RegistrationStage.REFUSED,
    IdentityDecision.EXPIRED: RegistrationStage.EXPIRED,
    IdentityDecision.WITHDRAWN: RegistrationStage.CANCELLED,
}
_UNPROVED = {
    Reason.CANCELLED: RegistrationStage.CANCELLED,
    Reason.NOT_FINISHED: RegistrationStage.EXPIRED,
}
_REVISIONS = 1000  # more than a case that failed can have noted
_ANSWER_WITHIN = timedelta(seconds=3)  # of a call that only wants to say what came of it


@workflow.defn(name="RegisterVoter")
class RegisterVoterWorkflow:
    """Waits for the person for days at each stage, reminds, and gives up at last.

    Whoever is refused leaves nothing behind but the codes of why: no account, no personal data.
    """

    @workflow.init
    def __init__(self, request: RegisterVoterInput) -> None:
        self._request = request
        self._notes = StageNotes(request.registration_id, request.rules.version)
        self._messages = Messages(request.voter_id)
        self._contact = ContactProof(request, self._messages)
        self._is_cancelled = False
        self._is_appealed = False
        self._may_appeal = False
        self._case_no = 0
        self._last: VerifiedIdentity | None = None
        self._case: workflow.ChildWorkflowHandle[VerifyIdentityWorkflow, VerifiedIdentity] | None = None
        self._is_over = False
        self._resends = 0

    @workflow.run
    async def run(self, request: RegisterVoterInput) -> RegisteredVoter:
        """Return how the registration ended."""
        ended = await self._prove_contact() or await self._open_account()
        while ended is None:
            ended = await self._proof_identity()
            if self._may_appeal and await self._is_appealed_in_time():
                ended = None
        self._is_over = True
        if ended.stage is not RegistrationStage.ACTIVE:
            await self._clear(ended)
        await self._messages.sent()
        if ended.stage is not RegistrationStage.ACTIVE and Reason.REVERSED not in ended.reasons:
            forgotten = EndAccountInput(voter_id=request.voter_id, reason=ended.stage.value)
            await workflow.execute_activity_method(RegistrationActivities.destroy_personal_data, forgotten, **COMMIT)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return ended

    @workflow.update
    async def prove_contact(self, tried: TriedCode) -> RegistrationState:
        """Take the code that was sent; repeated, the same code is good again."""
        self._contact.take(tried)
        await within(lambda: self._notes.stage is not RegistrationStage.CONTACT_PROOF, _ANSWER_WITHIN)
        return self._state()

    @prove_contact.validator
    def _code_can_be_tried(self, tried: TriedCode) -> None:
        if not (self._contact.is_proved and self._contact.is_right(tried)):
            self._require(self._is_at_contact())
            self._contact.check_can_be_tried()

    @workflow.update
    async def resend_code(self) -> RegistrationState:
        """Send another code; the one before is not good any more."""
        self._contact.ask_for_code()
        return self._state()

    @resend_code.validator
    def _code_can_be_sent(self) -> None:
        self._require(self._is_at_contact())
        self._contact.check_can_be_sent()

    @workflow.update
    async def appeal(self) -> RegistrationState:
        """Begin a new case after a decision that may be looked at once more."""
        self._is_appealed = True
        before = self._case_no
        await within(lambda: self._case_no > before, _ANSWER_WITHIN)
        return self._state()

    @appeal.validator
    def _decision_can_be_appealed(self) -> None:
        self._require(self._may_appeal and not self._is_appealed)

    @workflow.update
    async def cancel(self) -> RegistrationState:
        """End the registration, unless the account is made already."""
        await self._cancel()
        return self._state()

    @cancel.validator
    def _can_be_cancelled(self) -> None:
        self._require(not self._is_over)

    @workflow.update
    async def take_action(self, action: CaseAction) -> CaseActionTaken:
        """Do what support asks for; while a case is open, all but `cancel` is asked of the case."""
        match action.action:
            case SupportAction.RESEND:
                self._resends += 1
                self._contact.ask_for_code()
            case SupportAction.CANCEL:
                await self._cancel()
            case SupportAction.ESCALATE:
                escalate()
        return CaseActionTaken(stage=self._state().stage)

    @take_action.validator
    def _action_can_be_taken(self, action: CaseAction) -> None:
        permitted = {
            SupportAction.CANCEL: True,
            SupportAction.RESEND: self._is_at_contact() and self._resends < RESENDS_MAX,
        }.get(action.action, self._is_at_contact())
        stage = self._state().stage
        require_action(action.action, CaseKind.REGISTRATION, stage, permitted=permitted and not self._is_over)
        if action.action is SupportAction.RESEND:
            self._contact.check_can_be_sent()

    @workflow.query
    def stage(self) -> RegistrationState:
        """Where the registration stands; while a case is open, that case says more."""
        return self._state()

    async def _prove_contact(self) -> RegisteredVoter | None:
        """Return how it ended where the address was not proved, or None once it is."""
        await self._notes.note(RegistrationStage.CONTACT_PROOF, expires_at=self._contact.expires_at)
        reason = await self._contact.run()
        return None if reason is None else await self._end(_UNPROVED.get(reason, RegistrationStage.REFUSED), reason)

    async def _open_account(self) -> RegisteredVoter | None:
        asked = OpenAccountInput(voter_id=self._request.voter_id, region=self._request.region)
        made: OpenedAccount = await workflow.execute_activity_method(
            RegistrationActivities.open_account, asked, **COMMIT
        )
        # Whoever has proved to read the mail of an address may hear that it has an account
        return None if made.opened else await self._end(RegistrationStage.REFUSED, Reason.MAIL_IN_USE)

    async def _proof_identity(self) -> RegisteredVoter:
        """See one case through, and note its end."""
        request = self._request
        earlier = "" if self._last is None else self._last.reference
        self._case_no += 1
        self._is_appealed = self._may_appeal = False
        await self._notes.note(RegistrationStage.PROOFING, case_no=self._case_no, provider=request.rules.provider)
        self._case = await workflow.start_child_workflow(
            VerifyIdentityWorkflow.run,
            VerifyIdentityInput(
                registration_id=request.registration_id,
                voter_id=request.voter_id,
                cell=request.cell,
                cells=request.cells,
                rules=request.rules,
                case_no=self._case_no,
                revision=self._notes.revision,
                replaces=earlier,
                local_first=True,
            ),
            id=verify_identity_workflow_id(request.cell, request.registration_id, self._case_no),
            parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
        )
        if self._is_cancelled:
            await self._withdraw()
        try:
            decided = await self._case
        except ChildWorkflowError as error:
            decided = self._not_decided(error)
        self._case, self._last = None, decided
        self._notes.revision = max(self._notes.revision, decided.revision)
        return await self._conclude(decided)

    async def _conclude(self, decided: VerifiedIdentity) -> RegisteredVoter:
        stage = _STAGES[decided.decision]
        is_no = stage in {RegistrationStage.REJECTED, RegistrationStage.REFUSED}
        self._may_appeal = is_no and self._case_no < CASES_MAX and may_appeal(decided.reasons)
        ended = await self._end(
            stage,
            *decided.reasons,
            staff_reasons=decided.staff_reasons,
            open_for=APPEAL.expires_after if self._may_appeal else timedelta(),
        )
        if stage is RegistrationStage.ACTIVE:
            self._messages.send(MessageKind.WELCOME, f"{self._request.registration_id}/welcome")
        elif is_no:
            key = f"{self._request.registration_id}/{self._case_no}/rejected"
            self._messages.send(MessageKind.PROOFING_REJECTED, key)
        return ended

    async def _end(
        self,
        stage: RegistrationStage,
        *reasons: str,
        staff_reasons: tuple[str, ...] = (),
        open_for: timedelta = timedelta(),
    ) -> RegisteredVoter:
        """Note an end; `open_for` is how long it can be appealed against."""
        ended = RegisteredVoter(
            registration_id=self._request.registration_id,
            stage=stage,
            reasons=tuple(str(reason) for reason in reasons),
            staff_reasons=staff_reasons,
            case_no=self._case_no,
            policy_version=self._request.rules.version,
        )
        await self._notes.note(
            stage,
            case_no=self._case_no,
            provider=self._request.rules.provider if self._last is not None else "",
            reference=self._last.reference if self._last is not None else "",
            reasons=ended.reasons,
            staff_reasons=staff_reasons,
            expires_at=workflow.now() + open_for,
        )
        return ended

    async def _is_appealed_in_time(self) -> bool:
        await within(lambda: self._is_appealed or self._is_cancelled, APPEAL.expires_after)
        self._may_appeal = False
        return self._is_appealed and not self._is_cancelled

    async def _clear(self, ended: RegisteredVoter) -> None:
        """Free the address, and let the provider forget whom nothing is held against."""
        if Reason.REVERSED in ended.reasons:
            return  # the account was active: it is suspended, and staff must look
        closed = EndAccountInput(voter_id=self._request.voter_id, reason=ended.stage.value)
        await workflow.execute_activity_method(RegistrationActivities.close_account, closed, **COMMIT)
        is_held_against = ended.stage is RegistrationStage.REJECTED or Reason.DUPLICATE_FACE in ended.reasons
        if self._last is not None and self._last.reference and not is_held_against:
            await self._erase(self._last.reference)

    async def _erase(self, reference: str) -> None:
        """Ask the provider for the erasure of a case until it confirms, for a month at most."""
        case = CaseReference(
            provider=self._request.rules.provider, reference=reference, voter_id=self._request.voter_id
        )
        give_up_at, asked = workflow.now() + ERASED_WITHIN, 0
        while workflow.now() < give_up_at:
            try:
                erased: ErasedCase = await workflow.execute_activity_method(
                    ProofingActivities.erase_case, case, **ASK_VENDOR
                )
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
            else:
                if erased.confirmed:
                    number = CaseNumber(registration_id=self._request.registration_id, case_no=self._case_no)
                    await workflow.execute_activity_method(RegistrationActivities.note_erased, number, **COMMIT)
                    return
            await workflow.sleep(pause_before_look(asked))
            asked += 1
        workflow.logger.warning("case_not_erased", extra={"provider": case.provider})

    async def _cancel(self) -> None:
        self._is_cancelled = self._contact.is_cancelled = True
        await self._withdraw()
        await within(lambda: self._is_over, _ANSWER_WITHIN)

    async def _withdraw(self) -> None:
        if self._case is None:
            return
        try:
            await self._case.signal(VerifyIdentityWorkflow.withdrawn)
        except FailureError as error:  # it has ended by itself
            if is_cancelled_exception(error):
                raise

    def _not_decided(self, error: ChildWorkflowError) -> VerifiedIdentity:
        """Return the end of a case that failed: staff must look, and may ask the person to appeal."""
        if is_cancelled_exception(error):
            raise error
        cause = error.cause.cause if isinstance(error.cause, ActivityError) else error.cause
        code = cause.type if isinstance(cause, ApplicationError) else None
        return VerifiedIdentity(
            decision=IdentityDecision.REFUSED,
            reasons=(Reason.NOT_DECIDED.value,),
            staff_reasons=(code or "unknown",),
            revision=self._notes.revision + _REVISIONS,
        )

    def _state(self) -> RegistrationState:
        return RegistrationState(stage=self._notes.stage or RegistrationStage.CONTACT_PROOF, case_no=self._case_no)

    def _is_at_contact(self) -> bool:
        is_noted = self._notes.stage in {None, RegistrationStage.CONTACT_PROOF}
        return is_noted and not self._contact.is_proved and not self._is_cancelled

    @staticmethod
    def _require(permitted: bool) -> None:  # noqa: FBT001 - reads as a sentence
        if not permitted:
            raise refused(ErrorCode.REGISTRATION_STAGE, "the registration is at another stage")
