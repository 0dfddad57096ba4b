"""Compares what executions decided then with what some code decides, step by step; verdicts are kept apart."""

from datetime import datetime

from temporalio import workflow

from workflows.cancelling import unless
from workflows.policies import COMMIT, READ_ON
from workflows.refusals import refused

with workflow.unsafe.imports_passed_through():
    from activities.replaying import ReplayActivities
    from domain.contracts.replays import EndReplay, ReplayInput, ReplayState, ReplayStep
    from domain.contracts.work import CancelWork, WorkStage
    from domain.errors import ErrorCode


@workflow.defn(name="ReplayExecutions")
class ReplayExecutionsWorkflow:
    """Replays one execution, or goes through a period from its beginning; whatever is away is waited for."""

    @workflow.init
    def __init__(self, request: ReplayInput) -> None:
        self._request = request
        self._steps = request.steps
        self._judged_until: datetime | None = request.judged_until or request.since
        self._is_cancelled = False
        self._ended: ReplayState | None = None

    @workflow.run
    async def run(self, request: ReplayInput) -> ReplayState:
        """Return how it ended.

        Raises:
            ActivityError: it is kept no longer.
        """
        while not self._is_done() and not self._is_cancelled:
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(
                    request.model_copy(update={"steps": self._steps, "judged_until": self._judged_until})
                )
            step = ReplayStep(request=request, number=self._steps, since=self._judged_until)
            judging = workflow.start_activity_method(ReplayActivities.replay_executions, step, **READ_ON)
            state = await unless(lambda: self._is_cancelled, judging)
            if state is not None:
                self._steps, self._judged_until = state.steps, state.judged_until
        end = EndReplay(request=request, stage=WorkStage.FINISHED if self._is_done() else WorkStage.CANCELLED)
        self._ended = await workflow.execute_activity_method(ReplayActivities.end_replay, end, **COMMIT)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._ended

    @workflow.update
    async def cancel(self, _request: CancelWork) -> ReplayState:
        """End it; the verdicts of whole steps stay. Answered once that is noted. Safe to repeat."""
        self._is_cancelled = True
        await workflow.wait_condition(lambda: self._ended is not None)
        assert self._ended is not None
        if self._ended.stage is not WorkStage.CANCELLED:
            raise refused(ErrorCode.WORK_ENDED, "everything is judged")
        return self._ended

    @cancel.validator
    def _can_be_cancelled(self, _request: CancelWork) -> None:
        if self._is_done():
            raise refused(ErrorCode.WORK_ENDED, "everything is judged")

    def _is_done(self) -> bool:
        request = self._request
        if request.workflow_id:
            return self._steps > 0
        assert request.until is not None
        assert self._judged_until is not None
        return self._judged_until >= request.until
