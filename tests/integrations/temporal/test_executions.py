"""What Temporal says of batches that run."""

import secrets
from datetime import UTC, datetime, timedelta

from temporalio.client import Client

from domain.ids import BatchId, submit_votes_workflow_id
from integrations.temporal.batches import WORKFLOW_TYPE
from integrations.temporal.executions import TemporalBatchExecutions
from tests.conftest import SettingsFor
from tests.end_to_end.house import eventually


async def test_what_runs_is_listed_by_its_batch_and_what_ended_is_not(settings_for: SettingsFor) -> None:
    address = settings_for().cells["eu"].temporal
    client = await Client.connect(f"{address.host}:{address.port}", namespace=address.namespace)
    executions = TemporalBatchExecutions(client, "eu")
    runs, ended = (BatchId(secrets.token_bytes(16), number) for number in (7, 1))
    queue = f"nobody-{secrets.token_hex(4)}"
    for batch in (runs, ended):
        await client.start_workflow(WORKFLOW_TYPE, id=submit_votes_workflow_id("eu", batch), task_queue=queue)
    odd = await client.start_workflow(WORKFLOW_TYPE, id=f"odd-{queue}", task_queue=queue)
    await client.get_workflow_handle(submit_votes_workflow_id("eu", ended)).terminate()
    later = datetime.now(UTC) + timedelta(minutes=1)

    async def listed() -> bool:
        found = await executions.running(later)
        return runs in found and ended not in found

    await eventually(listed, what="what runs")
    assert runs not in await executions.running(later - timedelta(minutes=2))
    await client.get_workflow_handle(submit_votes_workflow_id("eu", runs)).terminate()
    await odd.terminate()
