"""Starts and steers `RunSurvey`, and turns what Temporal says into the catalogue of errors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WithStartWorkflowOperation, WorkflowUpdateFailedError
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as UpdateNotAnsweredError
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.contracts.certification import CertificationState, RequestCertification
from domain.contracts.survey_runs import RunSurveyInput
from domain.contracts.surveys import (
    CorrectSurveyInput,
    ExtendSurvey,
    FinishSurvey,
    OpenedSurvey,
    SteerIntake,
    Survey,
    SurveyChanged,
)
from domain.errors import DomainError, ErrorCode
from domain.ids import run_survey_workflow_id
from integrations.platform import SURVEYS_QUEUE
from integrations.temporal.updates import refusal
from workflows.run_survey import RunSurveyWorkflow
from workflows.search_attributes import SURVEY_ID

_TASK_TIMEOUT = timedelta(seconds=3)  # how long a killed worker holds up a survey


class ProcessEndedError(Exception):
    """The survey's workflow is over; the catalogue says what became of the survey."""


class NotYetError(Exception):
    """The workflow goes on by itself; asking again is safe."""


class SurveyProcesses:
    """The running surveys of the platform."""

    def __init__(
        self, client: Client, cells: tuple[str, ...], *, queue: str = SURVEYS_QUEUE, patience_s: float = 5.0
    ) -> None:
        """`patience_s` is how long a caller waits for cells that do not answer."""
        self._client = client
        self._cells = cells
        self._queue = queue
        self._patience_s = patience_s

    async def publish(self, survey_id: str, actor: str, version: int, *, is_version_meant: bool) -> None:
        """Return once the survey is published. However often asked, there is one workflow.

        `version` is the draft's as the caller found it; only where it `is_version_meant` no later one will do.

        Raises:
            DomainError: what refused the draft; `workflows_unavailable`.
            NotYetError: a cell has not got it yet.
            ProcessEndedError: it was published before.
        """
        async with self._answered():
            # One id per version: an update that a closed run refused is answered from there, without a new run.
            await self._client.execute_update_with_start_workflow(
                RunSurveyWorkflow.publish,
                id=f"publish-{version}",
                start_workflow_operation=self._start(
                    RunSurveyInput(
                        survey_id=survey_id,
                        cells=self._cells,
                        actor=actor,
                        expected_version=version if is_version_meant else None,
                    )
                ),
            )

    async def finish(
        self, survey_id: str, actor: str, expected_version: int | None, opened: OpenedSurvey | None
    ) -> None:
        """Return once the survey is closed everywhere. Raises as `publish` does.

        `opened` is the survey as the catalogue has it: a workflow that Temporal lost goes on from there.
        """
        request = FinishSurvey(actor=actor, expected_version=expected_version)
        run = RunSurveyInput(survey_id=survey_id, cells=self._cells, actor=actor, opened=opened)
        async with self._answered():
            await self._client.execute_update_with_start_workflow(
                RunSurveyWorkflow.finish, request, id="finish", start_workflow_operation=self._start(run)
            )

    async def correct(self, request: CorrectSurveyInput, opened: OpenedSurvey | None) -> None:
        """Return once the catalogue has the corrected texts. Raises as `publish` does; `opened` as for `finish`."""
        run = RunSurveyInput(survey_id=request.survey.id, cells=self._cells, actor=request.actor, opened=opened)
        async with self._answered():
            await self._client.execute_update_with_start_workflow(
                RunSurveyWorkflow.correct, request, start_workflow_operation=self._start(run)
            )

    async def set_intake(self, survey_id: str, request: SteerIntake, opened: OpenedSurvey | None) -> None:
        """Return once every cell takes votes, or none for the moment. Raises as `publish`; `opened` as for `finish`."""
        run = RunSurveyInput(survey_id=survey_id, cells=self._cells, actor=request.actor, opened=opened)
        async with self._answered():
            await self._client.execute_update_with_start_workflow(
                RunSurveyWorkflow.set_intake, request, start_workflow_operation=self._start(run)
            )

    async def extend(self, survey_id: str, request: ExtendSurvey, opened: OpenedSurvey | None) -> None:
        """Return once every cell and the catalogue have the later end. Raises as `publish` does."""
        run = RunSurveyInput(survey_id=survey_id, cells=self._cells, actor=request.actor, opened=opened)
        async with self._answered():
            await self._client.execute_update_with_start_workflow(
                RunSurveyWorkflow.extend, request, start_workflow_operation=self._start(run)
            )

    async def certify(self, survey: Survey, actor: str, opened: OpenedSurvey, state: CertificationState | None) -> None:
        """Return once an uncertified survey is tried again, also one whose process Temporal lost or that ended.

        Raises:
            DomainError: `workflows_unavailable`.
            NotYetError: no worker has heard of it yet.
        """
        run = RunSurveyInput(
            survey_id=survey.id, cells=self._cells, actor=actor, opened=opened, finished=survey, certification=state
        )
        async with self._answered():
            await self._client.execute_update_with_start_workflow(
                RunSurveyWorkflow.certify,
                RequestCertification(actor=actor),
                start_workflow_operation=self._start(run, WorkflowIDReusePolicy.ALLOW_DUPLICATE),
            )

    def _start(
        self,
        run: RunSurveyInput,
        reuse: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,  # a refusal is not the end
    ) -> WithStartWorkflowOperation[RunSurveyWorkflow, SurveyChanged]:
        start = WithStartWorkflowOperation(
            RunSurveyWorkflow.run,
            run,
            id=run_survey_workflow_id(run.survey_id),
            task_queue=self._queue,
            task_timeout=_TASK_TIMEOUT,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=reuse,
            search_attributes=TypedSearchAttributes([SearchAttributePair(SURVEY_ID, run.survey_id)]),
        )
        # Whoever gave up waiting would leave an exception that nobody asks for, which asyncio complains about.
        asyncio.ensure_future(start.workflow_handle()).add_done_callback(_ask)
        return start

    @asynccontextmanager
    async def _answered(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience_s):
                yield
        except (TimeoutError, UpdateNotAnsweredError) as error:
            raise NotYetError from error
        except WorkflowUpdateFailedError as error:
            raise refusal(error, ProcessEndedError()) from error
        except WorkflowAlreadyStartedError as error:
            raise ProcessEndedError from error
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise ProcessEndedError from error
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error


def _ask(started: asyncio.Future[Any]) -> None:
    if not started.cancelled():
        started.exception()
