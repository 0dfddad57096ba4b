"""The public life of one survey: into every cell, open, steered by staff, closed, and certified."""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from workflows.certifying import Certification
from workflows.policies import COMMIT
from workflows.refusals import cause_of, refused
from workflows.search_attributes import PROCESS_STAGE
from workflows.survey_cells import SurveyCells

with workflow.unsafe.imports_passed_through():
    from activities.steering import SteeringActivities
    from activities.surveys import SurveyActivities
    from domain.contracts.certification import CertificationState, RequestCertification
    from domain.contracts.survey_runs import RunSurveyInput
    from domain.contracts.surveys import (
        CorrectSurveyInput,
        ExtendSurvey,
        ExtendSurveyInput,
        FinishSurvey,
        FinishSurveyInput,
        FreezeSurveyInput,
        OpenedSurvey,
        OpenSurveyInput,
        SteerIntake,
        Survey,
        SurveyChanged,
        SurveyIntake,
        SurveyReference,
        SurveyStage,
        SurveyWindow,
    )
    from domain.errors import ErrorCode

_LONGEST_TIMER = timedelta(days=30)  # a survey may be scheduled further away than any one timer should reach
_EXTENSION_MARGIN = timedelta(seconds=5)  # a later end must reach every cell before the earlier one does
_PATIENCE = timedelta(seconds=5)  # a cell that has not answered by then is away: as long as one attempt may take
_CERTIFY = "certify"  # surveys that ended under the release before it have no certificate
_APART = "steer-cells-apart"  # before it, whoever asked waited in turn until every cell had it
_OPEN_APART = "open-cells-apart"
_EXTEND_APART = "extend-cells-apart"
_CLOSE_APART = "close-cells-apart"


@workflow.defn(name="RunSurvey")
class RunSurveyWorkflow:
    """Opens a survey once every cell has it, closes it everywhere, and sees it certified.

    It alone changes a survey once that is frozen, so its copy is the catalogue's. No outage ends it: what a cell or
    the catalogue cannot take now is tried until it can.
    """

    @workflow.init
    def __init__(self, request: RunSurveyInput) -> None:
        self._request = request
        self._opened: OpenedSurvey | None = request.opened
        self._refusal: ApplicationError | None = None
        self._asked_to_finish: FinishSurvey | None = None
        self._finished = request.finished
        self._cells = SurveyCells(request.cells)
        self._paused = request.paused
        self._changing = asyncio.Lock()
        self._steering = asyncio.Lock()  # the catalogue notes one pause or resumption after the other
        self._behind: list[asyncio.Task[None]] = []
        self._certification = Certification(request, _show)

    @workflow.run
    async def run(self, _request: RunSurveyInput) -> SurveyChanged:
        """Return when the survey's keys are destroyed, at the end of its retention.

        Raises:
            ApplicationError: `survey_not_found`, `precondition_failed` or `survey_invalid` where the draft cannot be
                frozen; the same survey can then be tried again.
        """
        if self._opened is None:
            await self._publish()
        if self._refusal is not None:
            await workflow.wait_condition(workflow.all_handlers_finished)
            raise self._refusal
        finished = self._finished or await self._end()
        if workflow.patched(_CERTIFY):
            await self._certification.run(finished, self._make_room)
        await asyncio.gather(*self._behind)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return _changed(finished, SurveyStage.FINISHED)

    @workflow.update
    async def publish(self) -> SurveyChanged:
        """Return once the survey is open (or its opening time is set) in every cell and in the catalogue."""
        await workflow.wait_condition(lambda: self._opened is not None or self._refusal is not None)
        return _changed(self._known(), SurveyStage.PUBLISHED)

    @workflow.update
    async def finish(self, request: FinishSurvey) -> SurveyChanged:
        """Return once the survey is closed in the catalogue, and in every cell that is not away.

        A cell that is away closes as soon as it has the end; nothing is certified before. Asked twice, the first end
        stays.
        """
        if self._asked_to_finish is None:
            self._asked_to_finish = request
        await workflow.wait_condition(lambda: self._finished is not None or self._refusal is not None)
        return _changed(self._finished or self._known(), SurveyStage.FINISHED)

    @finish.validator
    def _finish_what_was_seen(self, request: FinishSurvey) -> None:
        if self._opened is None or self._asked_to_finish is not None or request.expected_version is None:
            return
        if request.expected_version != self._opened.survey.version:
            raise refused(ErrorCode.PRECONDITION_FAILED, "the survey changed meanwhile")

    @workflow.update
    async def set_intake(self, request: SteerIntake) -> SurveyChanged:
        """Return once every cell is as was asked last; what was accepted is recorded all the same.

        What was asked holds in each cell from when that cell has it, whichever others are away.
        """
        async with self._steering:
            self._require_open(request.expected_version)
            if request.paused != self._paused:
                intake = SurveyIntake(survey_id=self._request.survey_id, paused=request.paused, actor=request.actor)
                noted: Survey = await workflow.execute_activity_method(SteeringActivities.note_intake, intake, **COMMIT)
                self._paused = request.paused
                self._keep(noted)
                self._cells.intakes.ask(intake)
                if not workflow.patched(_APART):
                    await self._cells.intakes.settled()
        await self._cells.intakes.settled()
        return _changed(self._known(), SurveyStage.PUBLISHED)

    @workflow.update
    async def extend(self, request: ExtendSurvey) -> SurveyChanged:
        """Return once the catalogue has the later end, and every cell that is not away; an end asked for goes first.

        A cell that comes back before its earlier end is extended then.
        """
        async with self._changing:
            self._require_open(request.expected_version)
            survey = self._still_open().survey
            if survey.finish_at == request.finish_at:
                return _changed(survey, SurveyStage.PUBLISHED)
            if survey.finish_at is None or request.finish_at < survey.finish_at:
                raise refused(ErrorCode.SURVEY_INVALID, "finishDate: must be after the present one")
            if survey.finish_at - workflow.now() < _EXTENSION_MARGIN:
                raise refused(ErrorCode.SURVEY_CLOSED, "too near to its end")
            assert survey.start_at is not None
            self._ask_for_window(survey.start_at, request.finish_at)
            if workflow.patched(_EXTEND_APART):
                await self._cells.windows.settled(_PATIENCE, or_if=lambda: self._asked_to_finish is not None)
                if self._asked_to_finish is not None:  # its window follows this one in every cell
                    raise refused(ErrorCode.SURVEY_CLOSED, "the survey has ended")
            else:
                await self._cells.windows.settled()
            extended: Survey = await workflow.execute_activity_method(
                SteeringActivities.extend_survey,
                ExtendSurveyInput(survey_id=survey.id, actor=request.actor, finish_at=request.finish_at),
                **COMMIT,
            )
            self._keep(extended)
        self._announce(extended, SurveyStage.PUBLISHED)
        return _changed(extended, SurveyStage.PUBLISHED)

    @workflow.update
    async def certify(self, request: RequestCertification) -> CertificationState | None:
        """Try again to certify what was found to differ; anything else goes on by itself."""
        self._cells.windows.ask_again()
        self._certification.ask_again(request.actor)
        return self._certification.state

    @workflow.query
    def certification(self) -> CertificationState | None:
        """How the certification stands; None before the end."""
        return self._certification.state

    @workflow.update
    async def correct(self, request: CorrectSurveyInput) -> SurveyChanged:
        """Return once the catalogue has the corrected texts; the cells follow."""
        async with self._changing:
            if self._opened is None or self._asked_to_finish is not None or self._finished is not None:
                raise refused(ErrorCode.SURVEY_FROZEN, "the survey is not open")
            try:
                corrected: Survey = await workflow.execute_activity_method(
                    SurveyActivities.correct_survey, request, **COMMIT
                )
            except ActivityError as error:
                raise cause_of(error) from error
            self._keep(corrected)
        self._behind.append(asyncio.create_task(self._reinstall(self._still_open())))
        return _changed(corrected, SurveyStage.PUBLISHED)

    @workflow.query
    def stage(self) -> SurveyStage:
        """How far the survey is."""
        if self._finished is not None:
            return SurveyStage.FINISHED
        return SurveyStage.PUBLISHING if self._opened is None else SurveyStage.PUBLISHED

    async def _publish(self) -> None:
        request = self._request
        freeze = FreezeSurveyInput(
            survey_id=request.survey_id,
            actor=request.actor,
            at=workflow.now(),
            expected_version=request.expected_version,
        )
        _show(SurveyStage.PUBLISHING.value)
        try:
            frozen: Survey = await workflow.execute_activity_method(SurveyActivities.freeze_survey, freeze, **COMMIT)
        except ActivityError as error:
            self._refusal = cause_of(error)
            return
        keys = await workflow.execute_activity_method(
            SurveyActivities.provide_survey_keys, SurveyReference(survey_id=frozen.id), **COMMIT
        )
        ready = OpenedSurvey(survey=frozen, keys=keys)
        await self._cells.install(ready)  # nothing opens anywhere before every cell has it
        self._opened = await self._open(ready)
        _show(SurveyStage.PUBLISHED.value)
        self._announce(self._opened.survey, SurveyStage.PUBLISHED)

    async def _open(self, ready: OpenedSurvey) -> OpenedSurvey:
        now, survey = workflow.now(), ready.survey
        start_at = now if survey.start_at is None else max(survey.start_at, now)
        finish_at = survey.finish_at
        if finish_at is not None:
            finish_at = max(finish_at, start_at)  # the end may have passed while a cell could not be reached
        self._ask_for_window(start_at, finish_at)
        apart = workflow.patched(_OPEN_APART)
        await self._cells.windows.settled(or_if=lambda: apart and self._asked_to_finish is not None)
        opened: Survey = await workflow.execute_activity_method(
            SurveyActivities.open_survey,
            OpenSurveyInput(survey_id=survey.id, start_at=start_at, finish_at=finish_at),
            **COMMIT,
        )
        return ready.model_copy(update={"survey": opened})

    async def _end(self) -> Survey:
        while True:
            await self._stay_open()
            async with self._changing:
                if self._is_over():  # it may have been extended meanwhile
                    return await self._close()

    def _is_over(self) -> bool:
        finish_at = self._still_open().survey.finish_at
        return self._asked_to_finish is not None or (finish_at is not None and finish_at <= workflow.now())

    async def _stay_open(self) -> None:
        """Wait for the end, scheduled or asked for."""
        while True:
            finish_at = self._still_open().survey.finish_at
            left = _LONGEST_TIMER if finish_at is None else min(finish_at - workflow.now(), _LONGEST_TIMER)
            if self._asked_to_finish is not None or left <= timedelta():
                return
            await self._continue_where_history_is_long()
            try:
                await workflow.wait_condition(self._something_to_do, timeout=None if finish_at is None else left)
            except TimeoutError:
                continue

    def _something_to_do(self) -> bool:
        return self._asked_to_finish is not None or workflow.info().is_continue_as_new_suggested()

    async def _continue_where_history_is_long(self) -> None:
        if not workflow.info().is_continue_as_new_suggested():
            return
        await workflow.wait_condition(lambda: self._asked_to_finish is not None or self._is_idle())
        if self._asked_to_finish is None:
            self._continue()

    def _make_room(self) -> None:
        if workflow.info().is_continue_as_new_suggested() and self._is_idle():
            self._continue()

    def _continue(self) -> None:
        state = {
            "opened": self._opened,
            "paused": self._paused,
            "finished": self._finished,
            "certification": self._certification.state,
        }
        workflow.continue_as_new(self._request.model_copy(update=state))

    def _is_idle(self) -> bool:
        settled = self._cells.windows.is_settled and self._cells.intakes.is_settled
        return settled and workflow.all_handlers_finished() and all(task.done() for task in self._behind)

    async def _close(self) -> Survey:
        survey, asked = self._still_open().survey, self._asked_to_finish
        assert survey.start_at is not None
        finish_at, start_at = survey.finish_at, survey.start_at
        if asked is not None:
            finish_at = workflow.now() if finish_at is None else min(workflow.now(), finish_at)
            start_at = min(start_at, finish_at)
            self._ask_for_window(start_at, finish_at)
            with suppress(ActivityError):  # a cell that has lost the survey: the drain will say so
                await self._cells.windows.settled(_PATIENCE if workflow.patched(_CLOSE_APART) else None)
        assert finish_at is not None
        self._finished = await workflow.execute_activity_method(
            SurveyActivities.finish_survey,
            FinishSurveyInput(
                survey_id=survey.id,
                start_at=start_at,
                finish_at=finish_at,
                actor=asked.actor if asked is not None else "",
            ),
            **COMMIT,
        )
        _show(SurveyStage.FINISHED.value)
        self._announce(self._finished, SurveyStage.FINISHED)
        return self._finished

    def _ask_for_window(self, start_at: datetime, finish_at: datetime | None) -> None:
        """Have every cell brought to this window; an end that has passed there stays."""
        self._cells.windows.ask(
            SurveyWindow(cell="", survey_id=self._request.survey_id, start_at=start_at, finish_at=finish_at)
        )

    async def _reinstall(self, corrected: OpenedSurvey) -> None:
        await self._cells.install(corrected)
        await self._cells.tell(_changed(corrected.survey, SurveyStage.PUBLISHED))

    def _announce(self, survey: Survey, stage: SurveyStage) -> None:
        # Behind everyone's back: a broker that is down delays neither an opening nor an end.
        self._behind.append(asyncio.create_task(self._cells.tell(_changed(survey, stage))))

    def _known(self) -> Survey:
        if self._refusal is not None:
            raise self._refusal
        return self._still_open().survey

    def _keep(self, survey: Survey) -> None:
        """Take over what the catalogue has now, unless something later is known."""
        opened = self._still_open()
        if survey.version > opened.survey.version:
            self._opened = opened.model_copy(update={"survey": survey})

    def _still_open(self) -> OpenedSurvey:
        assert self._opened is not None
        return self._opened

    def _require_open(self, expected_version: int | None) -> None:
        if self._opened is None:
            raise refused(ErrorCode.SURVEY_NOT_OPEN, "the survey is on its way into the cells")
        if self._asked_to_finish is not None or self._finished is not None or self._is_over():
            raise refused(ErrorCode.SURVEY_CLOSED, "the survey has ended")
        if expected_version not in (None, self._opened.survey.version):
            raise refused(ErrorCode.PRECONDITION_FAILED, "the survey changed meanwhile")


def _show(stage: str) -> None:
    workflow.upsert_search_attributes([PROCESS_STAGE.value_set(stage)])


def _changed(survey: Survey, stage: SurveyStage) -> SurveyChanged:
    return SurveyChanged(
        survey_id=survey.id,
        version=survey.version,
        stage=stage,
        start_at=survey.start_at,
        finish_at=survey.finish_at,
    )
