"""What follows the end of a survey: drained, sealed, reconciled, counted again, published, certified, its keys gone.

Nothing here opens anything again. A difference ends a try, and the survey waits uncertified until staff ask for
another; an outage ends nothing and is waited out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError
from temporalio.workflow import ActivityConfig

from workflows.policies import COMMIT, LONG_WORK

with workflow.unsafe.imports_passed_through():
    from activities.certification import CertificationActivities
    from activities.closing import ClosingActivities
    from activities.draining import DrainActivities
    from domain.certificates import (
        named,
        not_reconciled,
        publication_differences,
        reconciliation_differences,
    )
    from domain.contracts.certification import (
        CellRecount,
        CellSurveyReference,
        CertificationDifference,
        CertificationStage,
        CertificationState,
        CertifySurveyInput,
        DestroySurveyKeysInput,
        DrainedCell,
        InstallCertificateInput,
        NoteCertificationInput,
        PublishBallotsInput,
        PublishedBallots,
        ReconciledSurvey,
        RecountCellInput,
        SealedCell,
        SignedCertificate,
    )
    from domain.contracts.reconciliation import ReconcileSurveyInput, ReconciliationReport
    from domain.contracts.survey_runs import RunSurveyInput
    from domain.contracts.surveys import Survey
    from domain.ids import reconcile_survey_workflow_id
    from domain.recount import counts_of, regions_of

_COMPARED = "certify-what-was-compared"  # before it, what a reconciliation could not reach did not count
_LONGEST_TIMER = timedelta(days=30)
_TRY_AGAIN = timedelta(days=1)  # where keys could not be destroyed: somebody has to look
_Failure = ActivityError | ChildWorkflowError
_Result = TypeVar("_Result")


class Certification:
    """The certification of one survey; `state` is all that survives a run."""

    def __init__(self, request: RunSurveyInput, show: Callable[[str], None]) -> None:
        """`show` makes a stage searchable."""
        self._request = request
        self._show = show
        self._asked_by: str | None = None
        self._long_work: ActivityConfig = {**LONG_WORK, "task_queue": request.certification_queue}
        self.state = request.certification

    @property
    def is_uncertified(self) -> bool:
        """Whether a try has ended with differences."""
        return self.state is not None and self.state.stage is CertificationStage.UNCERTIFIED

    def ask_again(self, actor: str) -> None:
        """Try again what ended with differences; anything else goes on by itself."""
        if self.is_uncertified and self._asked_by is None:
            self._asked_by = actor

    async def run(self, survey: Survey, make_room: Callable[[], None]) -> None:
        """Return once the survey's keys are destroyed. `make_room` continues as new where the history grows long.

        It is called where `state` says everything.
        """
        if self.state is None:
            self.state = CertificationState(survey_id=survey.id, stage=CertificationStage.DRAINING)
        while self.state.certificate is None:
            if self.state.stage is CertificationStage.UNCERTIFIED and self._asked_by is None:
                make_room()
                await workflow.wait_condition(lambda: self._asked_by is not None)
            await self._try(survey)
        await self._finish(self.state.certificate, make_room)

    async def _try(self, survey: Survey) -> None:
        assert self.state is not None
        actor, self._asked_by = self._asked_by or "", None
        await self._enter(CertificationStage.DRAINING, actor, attempt=self.state.attempt + 1, differences=())
        try:
            differences = await self._seal_and_certify(survey)
        except (ActivityError, ChildWorkflowError) as error:  # what no retry helps: somebody has to look
            differences = [CertificationDifference(cell="", kind="step_failed", row=_step(error), detail=_code(error))]
        if differences:
            await self._enter(CertificationStage.UNCERTIFIED, differences=tuple(differences))

    async def _seal_and_certify(self, survey: Survey) -> list[CertificationDifference]:
        """Return what keeps the survey from its certificate, from the first step that found anything."""
        if differences := await self._seal():
            return differences
        await self._enter(CertificationStage.RECONCILING)
        reconciled, report = await self._reconcile()
        if differences := [named(difference) for difference in report.differences]:
            return differences
        if (differences := not_reconciled(report, self._request.cells)) and workflow.patched(_COMPARED):
            return differences
        await self._enter(CertificationStage.RECOUNTING)
        recounts, differences = await self._recount(survey)
        if differences:
            return differences
        if (differences := reconciliation_differences(report, recounts)) and workflow.patched(_COMPARED):
            return differences
        return await self._certify(survey, reconciled, recounts)

    async def _seal(self) -> list[CertificationDifference]:
        """Drain and seal every cell, each as soon as it can be: one that is down keeps no other waiting."""
        assert self.state is not None
        before = {cell.cell: cell for cell in self.state.sealed}

        async def one(cell: str) -> SealedCell | DrainedCell:
            if cell in before:
                return before[cell]
            where = CellSurveyReference(cell=cell, survey_id=self._request.survey_id)
            drained: DrainedCell = await workflow.execute_activity_method(
                DrainActivities.drain_cell, where, **self._long_work
            )
            if drained.differences:
                return drained
            sealed: SealedCell = await workflow.execute_activity_method(ClosingActivities.seal_survey, where, **COMMIT)
            return sealed.model_copy(update={"never_started": drained.never_started})

        found = await _all(one(cell) for cell in self._request.cells)
        sealed = tuple(cell for cell in found if isinstance(cell, SealedCell))
        self.state = self.state.model_copy(update={"sealed": sealed})
        return [difference for cell in found if isinstance(cell, DrainedCell) for difference in cell.differences]

    async def _reconcile(self) -> tuple[ReconciledSurvey, ReconciliationReport]:
        assert self.state is not None
        survey_id = self._request.survey_id
        execution = reconcile_survey_workflow_id(survey_id, f"certification-{self.state.attempt}")
        report: ReconciliationReport = await workflow.execute_child_workflow(
            "ReconcileSurvey",
            ReconcileSurveyInput(survey_id=survey_id, cells=self._request.cells, complete=True),
            id=execution,
            task_queue=self._request.reconciliation_queue,
            result_type=ReconciliationReport,
        )
        return ReconciledSurvey(workflow_id=execution, at=workflow.now()), report

    async def _recount(self, survey: Survey) -> tuple[tuple[CellRecount, ...], list[CertificationDifference]]:
        recounts = []
        for cell in self._request.cells:  # one after the other: each takes every core that there is
            recount: CellRecount = await workflow.execute_activity_method(
                CertificationActivities.recount_cell,
                RecountCellInput(cell=cell, survey=survey),
                **self._long_work,
            )
            recounts.append(recount)
        return tuple(recounts), [difference for recount in recounts for difference in recount.differences]

    async def _certify(
        self, survey: Survey, reconciled: ReconciledSurvey, recounts: Sequence[CellRecount]
    ) -> list[CertificationDifference]:
        assert self.state is not None
        await self._enter(CertificationStage.PUBLISHING)
        ballots = sum(recount.ballots for recount in recounts)
        published: PublishedBallots = await workflow.execute_activity_method(
            CertificationActivities.publish_ballots,
            PublishBallotsInput(survey=survey, cells=self._request.cells, ballots=ballots),
            **self._long_work,
        )
        regions = regions_of(counts_of(region for recount in recounts for region in recount.regions))
        if differences := publication_differences(regions, ballots, published):
            return differences
        certificate: SignedCertificate = await workflow.execute_activity_method(
            CertificationActivities.sign_certificate,
            CertifySurveyInput(
                survey=survey,
                sealed=self.state.sealed,
                recounts=tuple(recounts),
                published=published,
                reconciled=reconciled,
                certified_at=workflow.now(),
            ),
            **self._long_work,
        )
        await _all(
            workflow.execute_activity_method(
                ClosingActivities.install_certificate,
                InstallCertificateInput(
                    cell=cell,
                    survey_id=survey.id,
                    certificate_id=certificate.certificate_id,
                    certified_at=certificate.certified_at,
                    regions=regions,
                ),
                **COMMIT,
            )
            for cell in self._request.cells
        )
        await self._enter(CertificationStage.CERTIFIED, files=published.files, certificate=certificate)
        return []

    async def _finish(self, certificate: SignedCertificate, make_room: Callable[[], None]) -> None:
        """Wait for the end of the retention, and destroy the survey's keys in the catalogue and in every cell."""
        assert self.state is not None
        while self.state.stage is not CertificationStage.KEYS_DESTROYED:
            while (left := certificate.retained_until - workflow.now()) > timedelta():
                make_room()
                await workflow.sleep(min(left, _LONGEST_TIMER))
            try:
                await self._destroy_keys()
            except ActivityError as error:
                workflow.logger.error("survey_keys_not_destroyed", extra={"code": _code(error)})
                make_room()
                await workflow.sleep(_TRY_AGAIN)

    async def _destroy_keys(self) -> None:
        now, survey_id = workflow.now(), self._request.survey_id
        await workflow.execute_activity_method(
            ClosingActivities.destroy_catalogue_keys, DestroySurveyKeysInput(survey_id=survey_id, at=now), **COMMIT
        )
        await _all(
            workflow.execute_activity_method(
                ClosingActivities.destroy_cell_keys, CellSurveyReference(cell=cell, survey_id=survey_id), **COMMIT
            )
            for cell in self._request.cells
        )
        await self._enter(CertificationStage.KEYS_DESTROYED, keys_destroyed_at=now)

    async def _enter(self, stage: CertificationStage, actor: str = "", **changes: object) -> None:
        assert self.state is not None
        update = {**changes, "stage": stage, "revision": self.state.revision + 1}
        self.state = self.state.model_copy(update=update)
        self._show(stage.value)
        await workflow.execute_activity_method(
            ClosingActivities.note_certification, NoteCertificationInput(state=self.state, actor=actor), **COMMIT
        )


async def _all(steps: Iterable[Awaitable[_Result]]) -> list[_Result]:
    """Wait for every step, then raise the first failure: none goes on behind a try that has ended."""
    found = await asyncio.gather(*steps, return_exceptions=True)
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return [result for result in found if not isinstance(result, BaseException)]


def _step(error: _Failure) -> str:
    return error.activity_type if isinstance(error, ActivityError) else error.workflow_type


def _code(error: _Failure) -> str:
    cause = error.cause
    return (cause.type if isinstance(cause, ApplicationError) else None) or type(cause).__name__
