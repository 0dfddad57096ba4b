"""Workers of `SubmitVotes`, each on a queue of its own."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from activities.voting import VotingActivities
from integrations.temporal.worker import sandbox
from workflows.submit_votes import SubmitVotesWorkflow


@asynccontextmanager
async def vote_worker(client: Client, activities: VotingActivities, **options: Any) -> AsyncIterator[str]:
    """Run a worker and yield its queue; `options` are the SDK's."""
    queue = f"votes-{secrets.token_hex(4)}"
    async with Worker(
        client,
        task_queue=queue,
        workflows=[SubmitVotesWorkflow],
        activities=[activities.record_votes, activities.announce_votes],
        workflow_runner=sandbox(),
        **options,
    ):
        yield queue
