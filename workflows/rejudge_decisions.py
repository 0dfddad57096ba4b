"""Compares what was decided with what another policy would decide, step by step, and says how far it is."""

from temporalio import workflow

from workflows.cancelling import unless
from workflows.policies import READ_ON
from workflows.refusals import refused

with workflow.unsafe.imports_passed_through():
    from activities.rejudging import RejudgingActivities
    from domain.contracts.rejudging import RejudgeInput, RejudgementState, RejudgeStep
    from domain.contracts.work import CancelWork
    from domain.errors import ErrorCode
    from domain.rejudging import after_part


@workflow.defn(name="RejudgeDecisions")
class RejudgeDecisionsWorkflow:
    """Goes through a period from its beginning; whatever is away is waited for."""

    @workflow.init
    def __init__(self, request: RejudgeInput) -> None:
        self._state = request.state or RejudgementState(
            rejudgement_id=request.rejudgement_id,
            process=request.process,
            since=request.since,
            until=request.until,
            judged_until=request.since,
        )

    @workflow.run
    async def run(self, request: RejudgeInput) -> RejudgementState:
        """Return what all of it came to, or what had been judged until somebody cancelled it.

        Raises:
            ActivityError: the policy is none.
        """
        while not self._has_ended():
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(request.model_copy(update={"state": self._state}))
            step = RejudgeStep(
                process=request.process, policy=request.policy, since=self._state.judged_until, until=request.until
            )
            judging = workflow.start_activity_method(RejudgingActivities.rejudge_decisions, step, **READ_ON)
            part = await unless(lambda: self._state.is_cancelled, judging)
            if part is not None:
                self._state = after_part(self._state, part)
        return self._state

    @workflow.update
    def cancel(self, _request: CancelWork) -> RejudgementState:
        """End it; what was judged until now stays, whole steps of it. Safe to repeat."""
        self._state = self._state.model_copy(update={"is_cancelled": True})
        return self._state

    @cancel.validator
    def _can_be_cancelled(self, _request: CancelWork) -> None:
        if self._has_ended() and not self._state.is_cancelled:
            raise refused(ErrorCode.WORK_ENDED, "everything is judged")

    @workflow.query
    def state(self) -> RejudgementState:
        """How far it is."""
        return self._state

    def _has_ended(self) -> bool:
        return self._state.is_cancelled or self._state.judged_until >= self._state.until
