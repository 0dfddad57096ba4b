"""Break-glass: somebody may read one masked field once another has agreed; every step is an entry before it counts.

The field's value never comes here: whoever shows it asks this process first, and reads it from the records.
"""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from workflows.policies import COMMIT, NOTIFY
from workflows.refusals import refused
from workflows.search_attributes import PROCESS_STAGE
from workflows.waiting import within

with workflow.unsafe.imports_passed_through():
    from activities.unmasking import UnmaskingActivities
    from domain.contracts.support import (
        BreakGlassInput,
        DecideUnmasking,
        ReadUnmasking,
        UnmaskingNote,
        UnmaskingState,
    )
    from domain.errors import ErrorCode
    from domain.unmasking import APPROVAL_WITHIN, READABLE_FOR, READS_MAX, UnmaskingStage, UnmaskingStep

_SELF = "process:break-glass"


@workflow.defn(name="BreakGlass")
class BreakGlassWorkflow:
    """Waits for a second person, lets the first one read for a while, and ends by itself."""

    @workflow.init
    def __init__(self, request: BreakGlassInput) -> None:
        self._request = request
        self._stage = UnmaskingStage.WAITING
        self._expires_at = workflow.now() + APPROVAL_WITHIN
        self._decision: DecideUnmasking | None = None
        self._is_settled = False
        self._reads = 0
        self._telling: list[asyncio.Task[None]] = []

    @workflow.run
    async def run(self, request: BreakGlassInput) -> UnmaskingState:
        """Return how it ended."""
        self._show()
        await self._note(UnmaskingStep.ASKED, request.actor, request.role)
        await within(lambda: self._decision is not None, self._expires_at - workflow.now())
        if self._decision is None:
            await self._close(UnmaskingStage.EXPIRED, UnmaskingStep.EXPIRED)
        elif not self._decision.approved:
            await self._close(UnmaskingStage.REFUSED, UnmaskingStep.REFUSED, self._decision)
        else:
            await self._let_read(self._decision)
        await asyncio.gather(*self._telling)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.state()

    @workflow.update
    async def decide(self, decision: DecideUnmasking) -> UnmaskingState:
        """Take what a second person says; answered once its entry is written."""
        self._decision = decision
        await workflow.wait_condition(lambda: self._is_settled)
        return self.state()

    @decide.validator
    def _can_be_decided(self, decision: DecideUnmasking) -> None:
        if decision.actor == self._request.actor:
            raise refused(ErrorCode.FORBIDDEN, "whoever asks cannot agree: that is a second person's")
        if self._decision is not None or not self._is_at(UnmaskingStage.WAITING):
            raise refused(ErrorCode.UNMASKING_STAGE, "it does not wait for anybody")

    @workflow.update
    async def read(self, reader: ReadUnmasking) -> UnmaskingState:
        """Write the entry of a reading; the field may be shown where this says `approved`."""
        self._reads += 1
        key = f"{self._request.request_id}/{UnmaskingStep.READ}/{self._reads}"
        note = self._noted(UnmaskingStep.READ, reader.actor, self._request.role, key)
        await workflow.execute_activity_method(UnmaskingActivities.note_unmasking, note, **COMMIT)
        return self.state()

    @read.validator
    def _can_be_read(self, reader: ReadUnmasking) -> None:
        if reader.actor != self._request.actor:
            raise refused(ErrorCode.FORBIDDEN, "it is shown to whoever asked for it alone")
        if not self._is_at(UnmaskingStage.APPROVED) or self._reads >= READS_MAX:
            raise refused(ErrorCode.UNMASKING_STAGE, "it cannot be read, or not any more")

    @workflow.query
    def state(self) -> UnmaskingState:
        """Where it stands."""
        request, decision = self._request, self._decision
        return UnmaskingState(
            request_id=request.request_id,
            case_id=request.case_id,
            field=request.field,
            reason=request.reason,
            stage=self._stage,
            asked_by=request.actor,
            decided_by="" if decision is None else decision.actor,
            expires_at=self._expires_at,
            reads=self._reads,
        )

    def _is_at(self, stage: UnmaskingStage) -> bool:
        """Tell whether it stands there in time: after an outage what was asked late comes before the timer does."""
        return self._stage is stage and workflow.now() < self._expires_at

    async def _let_read(self, decision: DecideUnmasking) -> None:
        await self._note(UnmaskingStep.APPROVED, decision.actor, decision.role)
        self._expires_at = workflow.now() + READABLE_FOR
        self._stage, self._is_settled = UnmaskingStage.APPROVED, True
        self._show()
        await workflow.sleep(READABLE_FOR)
        self._stage = UnmaskingStage.ENDED  # before its entry: what is read from now on is refused
        await workflow.wait_condition(workflow.all_handlers_finished)
        await self._close(UnmaskingStage.ENDED, UnmaskingStep.ENDED)

    async def _close(self, stage: UnmaskingStage, step: UnmaskingStep, decision: DecideUnmasking | None = None) -> None:
        self._stage = stage
        self._show()
        if decision is None:
            await self._note(step, _SELF, "")
        else:
            await self._note(step, decision.actor, decision.role)
        self._is_settled = True

    async def _note(self, step: UnmaskingStep, actor: str, role: str) -> None:
        """Return once the entry of a step is written; the mail about it is sent beside."""
        note = self._noted(step, actor, role, f"{self._request.request_id}/{step}")
        await workflow.execute_activity_method(UnmaskingActivities.note_unmasking, note, **COMMIT)
        self._telling.append(asyncio.create_task(_tell(note)))

    def _noted(self, step: UnmaskingStep, actor: str, role: str, key: str) -> UnmaskingNote:
        request = self._request
        return UnmaskingNote(
            key=key,
            request_id=request.request_id,
            case_id=request.case_id,
            field=request.field,
            step=step,
            actor=actor,
            role=role,
            reason=request.reason,
        )

    def _show(self) -> None:
        workflow.upsert_search_attributes([PROCESS_STAGE.value_set(self._stage.value)])


async def _tell(note: UnmaskingNote) -> None:
    try:
        await workflow.execute_activity_method(UnmaskingActivities.tell_of_unmasking, note, **NOTIFY)
    except ActivityError as error:  # no such mailbox, or no mail for days: the entries tell as well
        if is_cancelled_exception(error):
            raise
        workflow.logger.warning("unmasking_not_told", extra={"step": note.step.value})
