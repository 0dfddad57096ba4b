"""Temporal's state transitions per vote at full load: what a vote costs the workflow service."""

from temporalio.client import Client

from benchmarks.ground import CELL
from benchmarks.report import Goal, Line, line
from benchmarks.run import Run
from domain.ids import BatchId, submit_votes_workflow_id

_SAMPLE = 400  # executions described; more than a round of the load makes, as a rule

_BATCHES = """
SELECT batch.gateway_id, batch.number, octet_length(batch.outcomes) AS votes
FROM voting.batch WHERE EXISTS (
    SELECT FROM voting.batch_count
    WHERE batch_count.gateway_id = batch.gateway_id AND batch_count.number = batch.number AND survey_id = $1
) ORDER BY md5(batch.gateway_id || batch.number::text::bytea) LIMIT $2
"""


async def measure(run: Run) -> list[Line]:
    """Describe the executions of a full load's batches, or a random sample of them, by id."""
    typical = (await run.versus_plain()).ours.typical
    rows = await run.ground.owner.fetch(_BATCHES, typical.survey_id, _SAMPLE)
    address = run.ground.settings.cells[CELL].temporal
    client = await Client.connect(f"{address.host}:{address.port}", namespace=address.namespace)
    transitions = 0
    for row in rows:
        batch = BatchId(row["gateway_id"], row["number"])
        handle = client.get_workflow_handle(submit_votes_workflow_id(CELL, batch))
        described = await handle.describe()
        transitions += described.raw_description.workflow_execution_info.state_transition_count
    votes = sum(row["votes"] for row in rows)
    detail = f"{transitions:,} transitions of {len(rows)} executions with {votes:,} votes, {votes / len(rows):.0f} each"
    return [line("state transitions per vote", transitions / votes, "transitions", Goal(at_most=0.05), detail)]
