"""The process that judges a login whose proof was good, and waits for a further factor where that is not enough."""

import asyncio

from temporalio import workflow

from workflows.local_first import local_then_regular
from workflows.policies import COMMIT
from workflows.refusals import refused
from workflows.waiting import within

with workflow.unsafe.imports_passed_through():
    from activities.logins import LoginActivities
    from domain.contracts.login import (
        AssessedLogin,
        AssessLoginInput,
        EndLoginInput,
        JudgedLogin,
        LoginCounts,
        LoginOutcome,
        LoginSight,
        StepUpFactor,
        StepUpState,
        TriedFactor,
    )
    from domain.errors import ErrorCode
    from domain.login_risk import LOGIN_POLICIES, judge_login
    from domain.logins import STEP_UP_FAILURES_MAX, STEP_UP_LIFETIME, judged, questions_of


@workflow.defn(name="AssessLogin")
class AssessLoginWorkflow:
    """Has a login looked at, judged and recorded; where a step-up is asked for, waits ten minutes for it."""

    @workflow.init
    def __init__(self, request: AssessLoginInput) -> None:
        self._request = request
        self._factors: tuple[StepUpFactor, ...] = ()
        self._is_waiting = False  # for a further factor
        self._failures = 0
        self._passed: StepUpFactor | None = None
        self._outcome: LoginOutcome | None = None

    @workflow.run
    async def run(self, request: AssessLoginInput) -> AssessedLogin:
        """Return how the login ended."""
        judged_login = await self._judge()
        self._factors, self._outcome = judged_login.factors, judged_login.outcome
        ended = self._outcome or await self._step_up(judged_login.counts)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return AssessedLogin(attempt_id=request.attempt_id, outcome=ended, verdict=judged_login.verdict)

    @workflow.update
    async def step_up(self, tried: TriedFactor) -> StepUpState:
        """Take a further factor, which whoever calls has checked; return how the login stands then."""
        await workflow.wait_condition(lambda: self._is_waiting or self._outcome is not None)
        if self._outcome is not None or self._is_decided():
            raise refused(ErrorCode.LOGIN_NOT_FOUND, "the login waits for nothing")
        if tried.factor not in self._factors:
            raise refused(ErrorCode.FACTOR_NOT_FOUND, "not a factor of this login")
        if tried.passed:
            self._passed = tried.factor
        else:
            self._failures += 1
        if self._is_decided():
            await workflow.wait_condition(lambda: self._outcome is not None)
        return StepUpState(outcome=self._outcome, failures_left=STEP_UP_FAILURES_MAX - self._failures)

    async def _judge(self) -> JudgedLogin:
        """Return the login as it was judged and recorded.

        In how many steps is in the input and not behind a patch: a patch's marker and search attribute would cost every
        login what fewer steps have saved.
        """
        request, policy = self._request, LOGIN_POLICIES[self._request.policy_version]
        if request.one_step:
            found = await local_then_regular(LoginActivities.assess_login, request, COMMIT)
            if judge_login(found.signals, policy) != found.verdict:
                raise RuntimeError("the verdict that was recorded does not follow from its signals")
            return found
        login = judged(request, await self._look(), policy, workflow.now())
        recorded: StepUpState = await local_then_regular(LoginActivities.record_login, login, COMMIT)
        return JudgedLogin(
            signals=login.signals,
            verdict=login.verdict,
            outcome=recorded.outcome,
            factors=login.factors,
            counts=login.counts,
        )

    async def _look(self) -> LoginSight:
        """Return what a login that a release of before began is judged by."""
        if self._request.one_look:
            return await local_then_regular(LoginActivities.look_at_login, self._request, COMMIT)
        device, challenge, past = questions_of(self._request)
        seen, redeemed, known = await asyncio.gather(
            local_then_regular(LoginActivities.look_at_device, device, COMMIT),
            local_then_regular(LoginActivities.redeem_challenge, challenge, COMMIT),
            local_then_regular(LoginActivities.read_logins, past, COMMIT),
        )
        return LoginSight(device=seen, challenge=redeemed, past=known)

    async def _step_up(self, counts: LoginCounts | None) -> LoginOutcome:
        assert counts is not None, "what waits for a factor has them"
        self._is_waiting = True
        await within(self._is_decided, STEP_UP_LIFETIME)
        if self._passed is not None:
            outcome = LoginOutcome.STEPPED_UP
        elif self._is_decided():
            outcome = LoginOutcome.STEP_UP_FAILED
        else:
            outcome = LoginOutcome.EXPIRED
            self._outcome = outcome  # a factor that comes while this is written down is late
        ended: StepUpState = await local_then_regular(
            LoginActivities.end_login,
            EndLoginInput(
                attempt_id=self._request.attempt_id,
                voter_id=self._request.voter_id,
                outcome=outcome,
                factor=self._passed,
                counts=counts,
            ),
            COMMIT,
        )
        self._outcome = ended.outcome or outcome
        return self._outcome

    def _is_decided(self) -> bool:
        return self._passed is not None or self._failures >= STEP_UP_FAILURES_MAX
