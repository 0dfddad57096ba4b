"""A file of one survey's results, from the request to its digest in the catalogue."""

from temporalio import workflow

from workflows.cancelling import unless
from workflows.policies import COMMIT, LONG_WRITE
from workflows.refusals import refused

with workflow.unsafe.imports_passed_through():
    from activities.exports import ExportActivities
    from domain.contracts.exports import CancelledExport, ExportFile, ExportRequest
    from domain.contracts.work import CancelWork
    from domain.errors import ErrorCode


@workflow.defn(name="ExportResults")
class ExportResultsWorkflow:
    """Writes the totals of one moment into a file; an outage of the tally, a disk or the catalogue is waited out."""

    @workflow.init
    def __init__(self, request: ExportRequest) -> None:
        self._request = request
        self._cancellation: CancelWork | None = None
        self._is_written = False
        self._is_cancelled = False

    @workflow.run
    async def run(self, request: ExportRequest) -> ExportFile | None:
        """Return the file; none where somebody cancelled it before it was written.

        Raises:
            ActivityError: the survey is not there.
        """
        await workflow.execute_activity_method(ExportActivities.register_export, request, **COMMIT)
        writing = workflow.start_activity_method(ExportActivities.write_export, request, **LONG_WRITE)
        file = await unless(lambda: self._cancellation is not None, writing)
        if self._cancellation is not None or file is None:
            await self._end(self._cancellation)
            return None
        self._is_written = True
        await workflow.execute_activity_method(ExportActivities.complete_export, file, **COMMIT)
        return file

    @workflow.update
    async def cancel(self, request: CancelWork) -> None:
        """End it before its file is written; answered once that is noted with its entry. Safe to repeat."""
        if self._cancellation is None:
            self._cancellation = request
        await workflow.wait_condition(lambda: self._is_cancelled)

    @cancel.validator
    def _can_be_cancelled(self, request: CancelWork) -> None:  # noqa: ARG002 - whoever wants it
        if self._is_written:
            raise refused(ErrorCode.WORK_ENDED, "the file is written")

    async def _end(self, cancellation: CancelWork | None) -> None:
        assert cancellation is not None
        ended = CancelledExport(
            survey_id=self._request.survey_id,
            export_id=self._request.export_id,
            actor=cancellation.actor,
            role=cancellation.role,
        )
        await workflow.execute_activity_method(ExportActivities.cancel_export, ended, **COMMIT)
        self._is_cancelled = True
        await workflow.wait_condition(workflow.all_handlers_finished)
