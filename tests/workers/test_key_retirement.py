import asyncio
import uuid
from datetime import UTC, datetime, timedelta

from domain.ids import BatchId, submit_votes_workflow_id
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from tests.conftest import SettingsFor
from tests.voting_world import voting_keys
from workers.key_retirement import InFlightKeys


async def test_a_key_is_needed_while_an_execution_is_open_that_may_hold_it(settings_for: SettingsFor) -> None:
    settings = settings_for()
    client = await connect(settings.cells["us"].temporal, EncryptionCodec(voting_keys(settings), "in-flight/us"))
    keys = InFlightKeys(client)
    today = f"in-flight/us/{datetime.now(UTC).date()}/1"
    long_gone = f"in-flight/us/{(datetime.now(UTC) - timedelta(days=30)).date()}/1"
    handle = await client.start_workflow(
        "Waiting", id=submit_votes_workflow_id("us", BatchId(uuid.uuid4().bytes, 1)), task_queue=f"q-{uuid.uuid4()}"
    )
    async with asyncio.timeout(30):
        while not await keys.is_needed(today):
            await asyncio.sleep(0.1)
    assert not await keys.is_needed(long_gone)
    await handle.terminate()
