"""The public life of one survey: into every cell, open, corrected where a text was wrong, and closed."""

import asyncio
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, ApplicationErrorCategory

from workflows.policies import AFTER_COMMIT, COMMIT
from workflows.search_attributes import PROCESS_STAGE

with workflow.unsafe.imports_passed_through():
    from activities.surveys import SurveyActivities
    from domain.contracts.surveys import (
        AnnounceSurveyInput,
        CorrectSurveyInput,
        FinishSurvey,
        FinishSurveyInput,
        FreezeSurveyInput,
        InstallSurveyInput,
        OpenedSurvey,
        OpenSurveyInput,
        RunSurveyInput,
        Survey,
        SurveyChanged,
        SurveyReference,
        SurveyStage,
        SurveyWindow,
    )
    from domain.errors import ErrorCode

_LONGEST_TIMER = timedelta(days=30)  # a survey may be scheduled further away than any one timer should reach


@workflow.defn(name="RunSurvey")
class RunSurveyWorkflow:
    """Opens a survey once every cell has it, and closes it everywhere.

    It alone changes a survey once that is frozen, so its copy is the catalogue's. No outage ends it: what a cell or
    the catalogue cannot take now is tried until it can.
    """

    @workflow.init
    def __init__(self, request: RunSurveyInput) -> None:
        self._request = request
        self._opened: OpenedSurvey | None = request.opened
        self._refusal: ApplicationError | None = None
        self._asked_to_finish: FinishSurvey | None = None
        self._finished: Survey | None = None
        self._correcting = asyncio.Lock()
        self._behind: list[asyncio.Task[None]] = []

    @workflow.run
    async def run(self, _request: RunSurveyInput) -> SurveyChanged:
        """Return when the survey is finished.

        Raises:
            ApplicationError: `survey_not_found`, `precondition_failed` or `survey_invalid` where the draft cannot be
                frozen; the same survey can then be tried again.
        """
        if self._opened is None:
            await self._publish()
        if self._refusal is not None:
            await workflow.wait_condition(workflow.all_handlers_finished)
            raise self._refusal
        await self._stay_open()
        async with self._correcting:
            finished = await self._close()
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
        """Return once the survey is closed in every cell and in the catalogue; asked twice, the first end stays."""
        if self._asked_to_finish is None:
            self._asked_to_finish = request
        await workflow.wait_condition(lambda: self._finished is not None or self._refusal is not None)
        return _changed(self._finished or self._known(), SurveyStage.FINISHED)

    @finish.validator
    def _finish_what_was_seen(self, request: FinishSurvey) -> None:
        if self._opened is None or self._asked_to_finish is not None or request.expected_version is None:
            return
        if request.expected_version != self._opened.survey.version:
            raise _refused(ErrorCode.PRECONDITION_FAILED, "the survey changed meanwhile")

    @workflow.update
    async def correct(self, request: CorrectSurveyInput) -> SurveyChanged:
        """Return once the catalogue has the corrected texts; the cells follow."""
        async with self._correcting:
            if self._opened is None or self._asked_to_finish is not None or self._finished is not None:
                raise _refused(ErrorCode.SURVEY_FROZEN, "the survey is not open")
            try:
                corrected: Survey = await workflow.execute_activity_method(
                    SurveyActivities.correct_survey, request, **COMMIT
                )
            except ActivityError as error:
                raise _cause(error) from error
            self._opened = self._opened.model_copy(update={"survey": corrected})
        self._behind.append(asyncio.create_task(self._reinstall(self._opened)))
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
        self._show(SurveyStage.PUBLISHING)
        try:
            frozen: Survey = await workflow.execute_activity_method(SurveyActivities.freeze_survey, freeze, **COMMIT)
        except ActivityError as error:
            self._refusal = _cause(error)
            return
        keys = await workflow.execute_activity_method(
            SurveyActivities.provide_survey_keys, SurveyReference(survey_id=frozen.id), **COMMIT
        )
        ready = OpenedSurvey(survey=frozen, keys=keys)
        await self._install(ready)  # nothing opens anywhere before every cell has it
        self._opened = await self._open(ready)
        self._show(SurveyStage.PUBLISHED)
        self._announce(self._opened.survey, SurveyStage.PUBLISHED)

    async def _install(self, ready: OpenedSurvey) -> None:
        await asyncio.gather(
            *(
                workflow.execute_activity_method(
                    SurveyActivities.install_survey,
                    InstallSurveyInput(
                        cell=cell,
                        survey=ready.survey,
                        wrapped_ballot_key=ready.keys.wrapped_ballot_key,
                        wrapped_eligibility_key=ready.keys.wrapped_eligibility_key,
                    ),
                    **COMMIT,
                )
                for cell in self._request.cells
            )
        )

    async def _open(self, ready: OpenedSurvey) -> OpenedSurvey:
        now, survey = workflow.now(), ready.survey
        start_at = now if survey.start_at is None else max(survey.start_at, now)
        finish_at = survey.finish_at
        if finish_at is not None:
            finish_at = max(finish_at, start_at)  # the end may have passed while a cell could not be reached
        await self._set_window(start_at, finish_at)
        opened: Survey = await workflow.execute_activity_method(
            SurveyActivities.open_survey,
            OpenSurveyInput(survey_id=survey.id, start_at=start_at, finish_at=finish_at),
            **COMMIT,
        )
        return ready.model_copy(update={"survey": opened})

    async def _set_window(self, start_at: datetime, finish_at: datetime | None) -> None:
        await asyncio.gather(
            *(
                workflow.execute_activity_method(
                    SurveyActivities.set_survey_window,
                    SurveyWindow(cell=cell, survey_id=self._request.survey_id, start_at=start_at, finish_at=finish_at),
                    **COMMIT,
                )
                for cell in self._request.cells
            )
        )

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
            workflow.continue_as_new(self._request.model_copy(update={"opened": self._opened}))

    def _is_idle(self) -> bool:
        return workflow.all_handlers_finished() and all(task.done() for task in self._behind)

    async def _close(self) -> Survey:
        survey, asked = self._still_open().survey, self._asked_to_finish
        assert survey.start_at is not None
        finish_at, start_at = survey.finish_at, survey.start_at
        if asked is not None:
            finish_at = workflow.now() if finish_at is None else min(workflow.now(), finish_at)
            start_at = min(start_at, finish_at)
            await self._set_window(start_at, finish_at)
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
        self._show(SurveyStage.FINISHED)
        self._announce(self._finished, SurveyStage.FINISHED)
        return self._finished

    async def _reinstall(self, corrected: OpenedSurvey) -> None:
        await self._install(corrected)
        await self._tell(_changed(corrected.survey, SurveyStage.PUBLISHED))

    def _announce(self, survey: Survey, stage: SurveyStage) -> None:
        # Behind everyone's back: a broker that is down delays neither an opening nor an end.
        self._behind.append(asyncio.create_task(self._tell(_changed(survey, stage))))

    async def _tell(self, change: SurveyChanged) -> None:
        await asyncio.gather(
            *(
                workflow.execute_activity_method(
                    SurveyActivities.announce_survey, AnnounceSurveyInput(cell=cell, change=change), **AFTER_COMMIT
                )
                for cell in self._request.cells
            )
        )

    def _known(self) -> Survey:
        if self._refusal is not None:
            raise self._refusal
        return self._still_open().survey

    def _still_open(self) -> OpenedSurvey:
        assert self._opened is not None
        return self._opened

    def _show(self, stage: SurveyStage) -> None:
        workflow.upsert_search_attributes([PROCESS_STAGE.value_set(stage.value)])


def _changed(survey: Survey, stage: SurveyStage) -> SurveyChanged:
    return SurveyChanged(
        survey_id=survey.id,
        version=survey.version,
        stage=stage,
        start_at=survey.start_at,
        finish_at=survey.finish_at,
    )


def _refused(code: ErrorCode, detail: str) -> ApplicationError:
    return ApplicationError(detail, type=code.value, non_retryable=True, category=ApplicationErrorCategory.BENIGN)


def _cause(error: ActivityError) -> ApplicationError:
    """Return the catalogue's error that made an activity fail for good."""
    if not isinstance(error.cause, ApplicationError):
        raise error
    return ApplicationError(
        error.cause.message, type=error.cause.type, non_retryable=True, category=ApplicationErrorCategory.BENIGN
    )
