"""The process that records votes."""

from temporalio import workflow

from workflows.local_first import local_then_regular
from workflows.policies import AFTER_COMMIT, COMMIT

with workflow.unsafe.imports_passed_through():
    from activities.voting import VotingActivities
    from domain.contracts.voting import (
        AnnounceVotesInput,
        RecordedVotes,
        RecordVotesInput,
        SubmitVotesInput,
        SubmitVotesResult,
    )


@workflow.defn(name="SubmitVotes")
class SubmitVotesWorkflow:
    """Records one batch of waiting votes once and tells the tally; a lone vote is a batch of one."""

    @workflow.run
    async def run(self, batch: SubmitVotesInput) -> SubmitVotesResult:
        """Return the outcome of each index.

        What cannot be recorded is an outcome of that vote, never an error of the batch. A vote is in time by the
        instant that Temporal made the batch durable, however late it is recorded.
        """
        accepted_at = workflow.info().workflow_start_time
        recorded: RecordedVotes = await local_then_regular(
            VotingActivities.record_votes, RecordVotesInput(batch=batch, accepted_at=accepted_at), COMMIT
        )
        if recorded.summaries:
            await local_then_regular(
                VotingActivities.announce_votes,
                AnnounceVotesInput(cell=batch.cell, summaries=recorded.summaries),
                AFTER_COMMIT,
                attempts=1,
            )
        return SubmitVotesResult(outcomes=recorded.outcomes)
