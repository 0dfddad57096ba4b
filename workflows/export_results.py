"""A file of one survey's results, from the request to its digest in the catalogue."""

from temporalio import workflow

from workflows.policies import COMMIT, LONG_WRITE

with workflow.unsafe.imports_passed_through():
    from activities.exports import ExportActivities
    from domain.contracts.exports import ExportFile, ExportRequest


@workflow.defn(name="ExportResults")
class ExportResultsWorkflow:
    """Writes the totals of one moment into a file; an outage of the tally, a disk or the catalogue is waited out."""

    @workflow.run
    async def run(self, request: ExportRequest) -> ExportFile:
        """Return the file.

        Raises:
            ActivityError: the survey is not there.
        """
        await workflow.execute_activity_method(ExportActivities.register_export, request, **COMMIT)
        file: ExportFile = await workflow.execute_activity_method(ExportActivities.write_export, request, **LONG_WRITE)
        await workflow.execute_activity_method(ExportActivities.complete_export, file, **COMMIT)
        return file
