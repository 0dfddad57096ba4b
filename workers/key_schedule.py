"""The daily look at key-encryption keys: most days nothing is due."""

from datetime import timedelta

import structlog
from temporalio.client import Client, ScheduleActionStartWorkflow
from temporalio.service import RPCError

from domain.contracts.keys import RotateKeysInput
from domain.ids import rotate_keys_workflow_id
from integrations.keys.purposes import HASH_KEYS, KEK_PERSONAL, KEY_ENCRYPTION_KEYS, SHORT_LIVED_KEYS
from integrations.platform import KEYS_QUEUE
from workers.scheduling import keep_schedule
from workflows.rotate_keys import RotateKeysWorkflow

SCHEDULE_ID = "rotate-keys"
_EVERY = timedelta(days=1)
_MADE_UP_FOR = timedelta(days=7)  # days on which Temporal was away

log = structlog.get_logger()


async def schedule_key_rotation(client: Client, cells: tuple[str, ...]) -> None:
    """Make the schedule where there is none; one that is there gets this release's input and stays otherwise as it is.

    Safe to repeat.

    Where Temporal does not answer the next process to start makes it: that holds up nobody's surveys.
    """
    action = ScheduleActionStartWorkflow(
        RotateKeysWorkflow.run,
        RotateKeysInput(
            purposes=KEY_ENCRYPTION_KEYS,
            cells=cells,
            personal_purpose=KEK_PERSONAL,
            hash_purposes=HASH_KEYS,
            token_purposes=SHORT_LIVED_KEYS,
        ),
        id=rotate_keys_workflow_id("scheduled"),
        task_queue=KEYS_QUEUE,
    )
    try:
        await keep_schedule(client, SCHEDULE_ID, action, every=_EVERY, made_up_for=_MADE_UP_FOR)
    except RPCError as error:
        log.warning("key_rotation_not_scheduled", error=error.status.name)
