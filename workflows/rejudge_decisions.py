"""Compares what was decided with what another policy would decide, step by step, and says how far it is."""

from temporalio import workflow

from workflows.policies import READ_ON

with workflow.unsafe.imports_passed_through():
    from activities.rejudging import RejudgingActivities
    from domain.contracts.rejudging import RejudgedPart, RejudgeInput, RejudgementState, RejudgeStep
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
        """Return what all of it came to.

        Raises:
            ActivityError: the policy is none.
        """
        while self._state.judged_until < request.until:
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(request.model_copy(update={"state": self._state}))
            step = RejudgeStep(
                process=request.process, policy=request.policy, since=self._state.judged_until, until=request.until
            )
            part: RejudgedPart = await workflow.execute_activity_method(
                RejudgingActivities.rejudge_decisions, step, **READ_ON
            )
            self._state = after_part(self._state, part)
        return self._state

    @workflow.query
    def state(self) -> RejudgementState:
        """How far it is."""
        return self._state
