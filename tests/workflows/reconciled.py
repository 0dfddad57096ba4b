"""A reconciliation that finds what a test tells it to find."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from domain.contracts.reconciliation import ReconcileSurveyInput, ReconciliationReport


@workflow.defn(name="ReconcileSurvey")
class ReconcileSurvey:
    """Finds what the world tells it to find."""

    @workflow.run
    async def run(self, request: ReconcileSurveyInput) -> ReconciliationReport:
        report: ReconciliationReport = await workflow.execute_activity(
            "reconciled", request, result_type=ReconciliationReport, start_to_close_timeout=timedelta(seconds=5)
        )
        return report
