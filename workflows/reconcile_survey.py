"""One pass of reconciliation over a survey: every cell's ledger, its tally, and the cells against each other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception
from temporalio.workflow import ActivityConfig

from workflows.policies import LONG_WORK, LOOK

with workflow.unsafe.imports_passed_through():
    from activities.reconciliation import ReconciliationActivities
    from domain.contracts.reconciliation import (
        CellChecked,
        CheckCellInput,
        CompareCellsInput,
        ComparedTally,
        Difference,
        KeepTallyInput,
        OpenDifferences,
        OpenDifferencesInput,
        ReconcileSurveyInput,
        ReconciliationReport,
        RepairTallyInput,
    )

Result = TypeVar("Result")


@workflow.defn(name="ReconcileSurvey")
class ReconcileSurveyWorkflow:
    """Compares what must agree, repairs the tally from the ledger, and reports everything else.

    A complete pass waits for whatever is away. An incremental one does without and says so; the next one comes soon.
    """

    @workflow.init
    def __init__(self, request: ReconcileSurveyInput) -> None:
        self._request = request
        self._policy: ActivityConfig = LONG_WORK if request.complete else LOOK
        self._unreached: list[str] = []
        self._repaired: list[Difference] = []

    @workflow.run
    async def run(self, request: ReconcileSurveyInput) -> ReconciliationReport:
        """Return what was compared, what was repaired, and every difference that is open, whoever found it."""
        began_at = workflow.now()
        checked = [found for found in await asyncio.gather(*map(self._check_cell, request.cells)) if found is not None]
        if len(request.cells) > 1 and (request.complete or any(found.uncompared for found in checked)):
            cells = CompareCellsInput(survey_id=request.survey_id, cells=request.cells)
            await self._reach("all/cells", ReconciliationActivities.compare_cells, cells)
        opened = await asyncio.gather(*map(self._open_differences, request.cells))
        return ReconciliationReport(
            survey_id=request.survey_id,
            complete=request.complete,
            checked=tuple(checked),
            repaired=tuple(self._repaired),
            differences=tuple(difference for found in opened for difference in found),
            unreached=tuple(sorted(self._unreached)),
            began_at=began_at,
            finished_at=workflow.now(),
        )

    async def _check_cell(self, cell: str) -> CellChecked | None:
        request = self._request
        check = CheckCellInput(
            survey_id=request.survey_id,
            cell=cell,
            others=tuple(other for other in request.cells if other != cell),
            complete=request.complete,
            tally_grace_s=request.tally_grace_s,
        )
        checked: CellChecked | None = await self._reach(f"{cell}/ledger", ReconciliationActivities.check_ledger, check)
        compared = await self._compare_tally(check)
        if checked is None or compared is None:
            return checked
        return checked.model_copy(
            update={"tallied": compared.tallied, "announced": compared.announced, "waiting": compared.waiting}
        )

    async def _compare_tally(self, check: CheckCellInput) -> ComparedTally | None:
        """Return how the tally stands in the end: repaired where it was wrong and could be."""
        cell, survey_id, where = check.cell, check.survey_id, f"{check.cell}/tally"
        first: ComparedTally | None = await self._reach(where, ReconciliationActivities.compare_tally, check)
        if first is None or not (first.differences or first.open_before):
            return first
        compared = first
        repair = RepairTallyInput(survey_id=survey_id, cell=cell)
        if first.differences and await self._repair(where, repair):
            again: ComparedTally | None = await self._reach(where, ReconciliationActivities.compare_tally, check)
            compared = again or first
        open_now = compared.differences
        repaired = () if open_now else first.differences
        kept = KeepTallyInput(survey_id=survey_id, cell=cell, differences=open_now, repaired=repaired)
        await self._reach(where, ReconciliationActivities.keep_tally, kept)
        self._repaired += repaired
        return compared

    async def _repair(self, where: str, repair: RepairTallyInput) -> bool:
        """Tell whether a repair was made; one that does not come about within the minute is left for the next pass.

        A broker that is away keeps the tally behind, and nothing but its return can change that.
        """
        before = len(self._unreached)
        await self._reach(where, ReconciliationActivities.repair_tally, repair, LOOK)
        return len(self._unreached) == before

    async def _open_differences(self, cell: str) -> tuple[Difference, ...]:
        asked = OpenDifferencesInput(survey_id=self._request.survey_id, cell=cell)
        found: OpenDifferences | None = await self._reach(
            f"{cell}/differences", ReconciliationActivities.open_differences, asked
        )
        return () if found is None else found.differences

    async def _reach(
        self,
        where: str,
        activity: Callable[[Any, Any], Awaitable[Result]],
        request: Any,
        policy: ActivityConfig | None = None,
    ) -> Result | None:
        """Return what an activity returns, or None where the policy gave it up: that is noted."""
        try:
            return await workflow.execute_activity_method(activity, request, **(policy or self._policy))
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            if where not in self._unreached:
                self._unreached.append(where)
            return None
