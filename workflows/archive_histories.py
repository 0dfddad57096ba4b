"""Copies of the histories that closed in a cell, or on the platform, file by file, before the server forgets them."""

import asyncio

from temporalio import workflow

from workflows.policies import ARCHIVE

with workflow.unsafe.imports_passed_through():
    from activities.history_archive import HistoryArchiveActivities
    from domain.contracts.archive import (
        ArchivedHistories,
        ArchiveHistoriesInput,
        ArchiveMark,
        ArchivePlan,
        HistoryPack,
        NotedPack,
        PlanArchiveInput,
        WrittenPack,
    )


@workflow.defn(name="ArchiveHistories")
class ArchiveHistoriesWorkflow:
    """Archives what has closed and is not archived yet, oldest first.

    Which executions make a file is in this history before the file is written. So killed anywhere, what goes on writes
    the same file under the same name, and notes it once. What is noted is never looked at again.
    """

    @workflow.run
    async def run(self, request: ArchiveHistoriesInput) -> ArchivedHistories:
        """Return what was archived, once nothing is left that closed long enough ago to be seen for certain.

        Raises:
            ApplicationError: `archive_contradicted`; a file is not what was written.
        """
        after, archived, left_out = request.after, request.archived, request.left_out
        while True:
            plan: ArchivePlan = await workflow.execute_activity_method(
                HistoryArchiveActivities.plan_archive, PlanArchiveInput(cell=request.cell, after=after), **ARCHIVE
            )
            noted = await asyncio.gather(*(self._archive(pack) for pack in plan.packs))
            archived += sum(pack.archived for pack in noted)
            left_out += sum(pack.left_out for pack in noted)
            if plan.is_complete:
                after = plan.until
                await workflow.execute_activity_method(
                    HistoryArchiveActivities.mark_archive,
                    ArchiveMark(cell=request.cell, complete_until=after),
                    **ARCHIVE,
                )
                if plan.is_last:
                    return ArchivedHistories(
                        cell=request.cell, archived=archived, left_out=left_out, complete_until=after
                    )
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(
                    ArchiveHistoriesInput(cell=request.cell, after=after, archived=archived, left_out=left_out)
                )

    @staticmethod
    async def _archive(pack: HistoryPack) -> NotedPack:
        written: WrittenPack = await workflow.execute_activity_method(
            HistoryArchiveActivities.write_history_pack, pack, **ARCHIVE
        )
        noted: NotedPack = await workflow.execute_activity_method(
            HistoryArchiveActivities.note_history_pack, written, **ARCHIVE
        )
        return noted
