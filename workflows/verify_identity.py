"""One case of identity proofing: opened at the provider, followed until it says something final, and decided."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from workflows.claiming import Claiming
from workflows.escalation import escalate, require_action
from workflows.local_first import local_then_regular
from workflows.messages import Messages
from workflows.policies import ASK_VENDOR, COMMIT
from workflows.registration_notes import StageNotes
from workflows.waiting import within

with workflow.unsafe.imports_passed_through():
    from activities.proofing import ProofingActivities
    from activities.registration import RegistrationActivities
    from domain.cases import CaseKind
    from domain.contracts.registration import (
        CaseFinding,
        CaseReference,
        EndAccountInput,
        IdentityDecision,
        OpenCaseInput,
        OpenedCase,
        VerifiedIdentity,
        VerifyIdentityInput,
    )
    from domain.contracts.support import CaseAction, CaseActionTaken
    from domain.ids import proofing_case_id
    from domain.mailing import MessageKind
    from domain.proofing import ProofingState
    from domain.registration import (
        ATTEMPTS_MAX,
        CASE_LASTS,
        PROOFING,
        REVIEW,
        Reason,
        pause_before_look,
        refusal_of,
    )
    from domain.registrations import RegistrationStage
    from domain.support_actions import ASKED_AGAIN_MAX, RESENDS_MAX, SupportAction

Result = TypeVar("Result")

_SCHEDULES = {
    RegistrationStage.PROOFING: PROOFING,
    RegistrationStage.RETRY: PROOFING,
    RegistrationStage.REVIEW: REVIEW,
}


@workflow.defn(name="VerifyIdentity")
class VerifyIdentityWorkflow:
    """Follows a case by what the provider's API says; a webhook only makes it look sooner.

    A provider that cannot be reached is asked again after growing pauses: nobody is refused for its absence.
    """

    @workflow.init
    def __init__(self, request: VerifyIdentityInput) -> None:
        self._request = request
        self._case_id = proofing_case_id(request.registration_id, request.case_no)
        self._notes = StageNotes(
            request.registration_id, request.rules.version, request.revision, local_first=request.local_first
        )
        self._messages = Messages(request.voter_id)
        self._case = CaseReference(
            provider=request.rules.provider, reference=request.replaces, voter_id=request.voter_id
        )
        self._is_hinted = False
        self._is_withdrawn = False
        self._opened_at = workflow.now()
        self._entered_at = workflow.now()
        self._reminded = 0
        self._retries = 0
        self._taken_back: CaseFinding | None = None
        self._to_ask: list[str] = []  # ids of what support wants the person asked for, until they are
        self._asked = 0
        self._resends = 0

    @workflow.run
    async def run(self, request: VerifyIdentityInput) -> VerifiedIdentity:
        """Return the decision. Approved, the voter is active by then and the document claimed for good.

        Raises:
            ApplicationError: it could not be decided; what was claimed is released.
        """
        if request.recheck:
            self._is_hinted = True
            decided = self._decided(IdentityDecision.APPROVED)
        else:
            decided = await self._open() or await self._follow()
        self._messages.drop()
        while decided.decision is IdentityDecision.APPROVED and self._is_hinted:
            decided = await self._look_again() or decided
        return decided

    @workflow.signal
    def evidence_received(self) -> None:
        """Look now: something may have changed at the provider."""
        self._is_hinted = True

    @workflow.signal
    def withdrawn(self) -> None:
        """The person does not want to go on; what is approved already stays."""
        self._is_withdrawn = True

    @workflow.update
    async def take_action(self, action: CaseAction) -> CaseActionTaken:
        """Do what support asks for; whether it is done already is told by the id of the update."""
        match action.action:
            case SupportAction.LOOK_NOW:
                self._is_hinted = True
            case SupportAction.ASK_AGAIN:
                self._asked += 1
                self._to_ask.append(action.action_id)
                self._is_hinted = True
            case SupportAction.RESEND:
                self._resends += 1
                self._remind_of(action.action_id)
            case SupportAction.ESCALATE:
                escalate()
        return CaseActionTaken(stage=self._notes.stage or RegistrationStage.PROOFING)

    @take_action.validator
    def _action_can_be_taken(self, action: CaseAction) -> None:
        is_open = self._notes.stage is not None  # at the provider, where the person can do something
        permitted = {
            SupportAction.ASK_AGAIN: is_open and not self._to_ask and self._asked < ASKED_AGAIN_MAX,
            SupportAction.RESEND: is_open and self._resends < RESENDS_MAX,
            SupportAction.CANCEL: False,  # the registration's to take
        }
        stage = self._notes.stage or RegistrationStage.PROOFING
        require_action(action.action, CaseKind.REGISTRATION, stage, permitted=permitted.get(action.action, True))

    @workflow.query
    def stage(self) -> RegistrationStage | None:
        """Where the case stands."""
        return self._notes.stage

    async def _open(self) -> VerifiedIdentity | None:
        """Open the case; a decision only where the person withdraws before."""
        if self._case.reference:  # it would count as another account of the same face
            await self._insist(ProofingActivities.erase_case, self._case)
        asked = OpenCaseInput(provider=self._case.provider, case_id=self._case_id)
        opened: OpenedCase | None = await self._insist(ProofingActivities.open_case, asked)
        if opened is None:
            self._case = self._case.model_copy(update={"reference": ""})
            return self._decided(IdentityDecision.WITHDRAWN, Reason.CANCELLED)
        self._case = self._case.model_copy(update={"reference": opened.reference})
        self._opened_at = workflow.now()
        await self._enter(RegistrationStage.PROOFING)  # the time begins when the person can do something
        return None

    async def _follow(self) -> VerifiedIdentity:
        looks = 0
        while True:
            await self._ask_again()
            stage, hinted = self._notes.stage, self._is_hinted
            self._is_hinted = False
            found = await self._look()
            decided = None if found is None else await self._take(found)
            if decided is not None:
                return decided
            if self._is_withdrawn:
                return self._decided(IdentityDecision.WITHDRAWN, Reason.CANCELLED)
            if workflow.now() >= self._expires_at:
                return self._decided(IdentityDecision.EXPIRED, Reason.NOT_FINISHED)
            looks = 0 if stage is not self._notes.stage else looks + (not hinted)
            await self._pause(workflow.now() + pause_before_look(looks))

    async def _take(self, found: CaseFinding) -> VerifiedIdentity | None:
        """Return the decision that a finding leads to, or None where the case goes on."""
        match found.state:
            case ProofingState.APPROVED if found.documents and found.age_class is not None:
                return await self._approve(found)
            case ProofingState.REJECTED:
                return self._rejected(found)
            case ProofingState.GONE:
                return self._decided(IdentityDecision.REJECTED, Reason.CASE_GONE)
            case ProofingState.RETRY:
                return await self._let_try_again(found)
            case ProofingState.WAITING_FOR_PERSON if self._notes.stage is RegistrationStage.REVIEW:
                await self._enter(RegistrationStage.PROOFING)
            case ProofingState.IN_REVIEW | ProofingState.APPROVED:  # an approval of nobody is none yet
                if self._notes.stage is not RegistrationStage.REVIEW:
                    await self._enter(RegistrationStage.REVIEW)
        return None

    async def _approve(self, found: CaseFinding) -> VerifiedIdentity:
        minimum_age = self._request.rules.minimum_age
        refusal = refusal_of(same_face=found.same_face, age_class=found.age_class, minimum_age=minimum_age)
        if refusal is not None:
            return self._refused(found, refusal)
        await self._enter(RegistrationStage.ACTIVATION)
        claimed = await Claiming(self._request).claim(found, self._is_still_approved)
        if self._taken_back is not None:  # before anybody was active: a rejection like any other
            return self._rejected(self._taken_back)
        if claimed.refusal:
            return self._refused(found, *claimed.refusal)
        return self._decided(IdentityDecision.APPROVED, person_id=claimed.person_id)

    async def _is_still_approved(self) -> bool:
        """Tell whether nothing was taken back while a claim waited for a cell that was away."""
        if not self._is_hinted:
            return True
        self._is_hinted = False
        found = await self._insist(ProofingActivities.read_case, self._case, may_end=False)
        if found is not None and found.state is ProofingState.REJECTED:
            self._taken_back = found
        return self._taken_back is None

    async def _let_try_again(self, found: CaseFinding) -> VerifiedIdentity | None:
        if self._notes.stage is RegistrationStage.RETRY and found.attempt <= self._retries:
            return None  # they were told
        if self._retries + 1 >= ATTEMPTS_MAX:
            return self._decided(
                IdentityDecision.REJECTED, Reason.ATTEMPTS_USED_UP, *found.reasons, for_staff=found.risk_labels
            )
        self._retries = max(self._retries + 1, found.attempt)
        await self._enter(RegistrationStage.RETRY, found.reasons)
        await self._insist(ProofingActivities.allow_retry, self._case)
        self._messages.send(MessageKind.PROOFING_RETRY, f"{self._case_id}/retry/{self._retries}")
        return None

    async def _ask_again(self) -> None:
        """Give the person the time of the stage anew, and say so, where support wants that and it is still theirs."""
        while self._to_ask:
            action_id, noted = self._to_ask.pop(0), self._notes.last
            if noted is not None and noted.stage in {RegistrationStage.PROOFING, RegistrationStage.RETRY}:
                await self._enter(noted.stage, noted.reasons, noted.staff_reasons)
                self._remind_of(action_id)

    def _remind_of(self, action_id: str) -> None:
        is_retry = self._notes.stage is RegistrationStage.RETRY
        kind = MessageKind.PROOFING_RETRY if is_retry else MessageKind.REMINDER
        self._messages.send(kind, f"{self._case_id}/{action_id}")

    async def _look_again(self) -> VerifiedIdentity | None:
        """Return the end of an approval that the provider has taken back, or None where it stands."""
        self._is_hinted = False
        found = await self._insist(ProofingActivities.read_case, self._case, may_end=False)
        if found is None or found.state is not ProofingState.REJECTED:
            return None
        ended = EndAccountInput(voter_id=self._request.voter_id, reason=Reason.REVERSED.value)
        await workflow.execute_activity_method(RegistrationActivities.suspend_account, ended, **COMMIT)
        decided = self._decided(IdentityDecision.REJECTED, Reason.REVERSED, *found.reasons, for_staff=found.risk_labels)
        if self._request.recheck:  # nobody else is left to note it
            await self._enter(RegistrationStage.REJECTED, decided.reasons, decided.staff_reasons)
            self._messages.send(MessageKind.PROOFING_REJECTED, f"{self._case_id}/reversed")
            await self._messages.sent()
        return decided.model_copy(update={"revision": self._notes.revision})

    async def _look(self) -> CaseFinding | None:
        """Return what the provider says now, or None where it says nothing for a minute."""
        try:
            return await self._ask(ProofingActivities.read_case, self._case)
        except FailureError as error:
            _unless_vendor_failed(error, ProofingActivities.read_case)
            return None

    async def _insist(
        self,
        activity: Callable[[Any, Any], Awaitable[Result]],
        request: Any,
        *,
        may_end: bool = True,
    ) -> Result | None:
        """Return what the provider answers, however long that takes; None where the person withdraws before."""
        pauses = 0
        while not (may_end and self._is_withdrawn):
            try:
                return await self._ask(activity, request)
            except FailureError as error:
                _unless_vendor_failed(error, activity)
            await within(lambda: may_end and self._is_withdrawn, pause_before_look(pauses))
            pauses += 1
        return None

    async def _ask(self, activity: Callable[[Any, Any], Awaitable[Result]], request: Any) -> Result:
        """Return what the provider answers within about a minute, in which it is asked seven times at most.

        Where it answers at once, a case that begins to wait is three state transitions and not twelve. How it is asked
        is in the input and not behind a patch: a patch's search attribute would cost every case a write more.
        """
        if self._request.local_first:
            return await local_then_regular(activity, request, ASK_VENDOR, attempts=1)
        return await workflow.execute_activity_method(activity, request, **ASK_VENDOR)

    async def _enter(
        self, stage: RegistrationStage, reasons: tuple[str, ...] = (), staff_reasons: tuple[str, ...] = ()
    ) -> None:
        self._entered_at, self._reminded = workflow.now(), 0
        await self._notes.note(
            stage,
            case_no=self._request.case_no,
            provider=self._case.provider,
            reference=self._case.reference,
            reasons=reasons,
            staff_reasons=staff_reasons,
            expires_at=self._deadline(stage) if stage in _SCHEDULES else None,
        )

    @property
    def _expires_at(self) -> datetime:
        return self._deadline(self._notes.stage or RegistrationStage.PROOFING)

    def _deadline(self, stage: RegistrationStage) -> datetime:
        return min(self._entered_at + _SCHEDULES[stage].expires_after, self._opened_at + CASE_LASTS)

    async def _pause(self, until: datetime) -> None:
        """Wait until it is time to look again, or something was heard; people are reminded meanwhile."""
        while not (self._is_hinted or self._is_withdrawn):
            self._remind()
            due = min(until, self._expires_at, self._reminder_at())
            if due > workflow.now():
                await within(lambda: self._is_hinted or self._is_withdrawn, due - workflow.now())
            if workflow.now() >= min(until, self._expires_at):
                return

    def _remind(self) -> None:
        if self._reminder_at() <= workflow.now():
            self._reminded += 1
            stage = self._notes.stage
            self._messages.send(
                MessageKind.REMINDER, f"{self._case_id}/{stage}/{self._retries}/reminder/{self._reminded}"
            )

    def _reminder_at(self) -> datetime:
        schedule = _SCHEDULES[self._notes.stage or RegistrationStage.PROOFING]
        after = schedule.next_reminder(self._reminded)
        return self._entered_at + after if after is not None else self._expires_at

    def _rejected(self, found: CaseFinding) -> VerifiedIdentity:
        if found.same_face:
            return self._refused(found, Reason.DUPLICATE_FACE)
        return self._decided(IdentityDecision.REJECTED, *found.reasons, for_staff=found.risk_labels)

    def _refused(self, found: CaseFinding, *reasons: str) -> VerifiedIdentity:
        return self._decided(IdentityDecision.REFUSED, *reasons, for_staff=(*found.reasons, *found.risk_labels))

    def _decided(
        self, decision: IdentityDecision, *reasons: str, for_staff: tuple[str, ...] = (), person_id: str = ""
    ) -> VerifiedIdentity:
        return VerifiedIdentity(
            decision=decision,
            reasons=tuple(str(reason) for reason in reasons),
            staff_reasons=for_staff,
            reference=self._case.reference,
            person_id=person_id,
            revision=self._notes.revision,
        )


def _unless_vendor_failed(error: FailureError, activity: Callable[[Any, Any], Awaitable[Any]]) -> None:
    """Raise a cancellation; any failure of a provider, its refusal of our credentials too, is waited out."""
    if is_cancelled_exception(error):
        raise error
    workflow.logger.warning("proofing_unanswered", extra={"activity": activity.__name__})
