"""Carries replays out in the process that may open every history: it serves their queue in each cell."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from temporalio.client import Client
from temporalio.common import VersioningBehavior

from activities.replaying import ReplayActivities
from api.background import run_beside
from domain.replay_ports import ExecutionJudge
from integrations.identity_cell import IdentityCell
from integrations.postgres.replays import PostgresReplays
from integrations.settings import Settings
from integrations.temporal.replays import REPLAY_DEPLOYMENT, REPLAY_QUEUE
from integrations.temporal.worker import Release, build_worker, make_current
from workflows.replay_executions import ReplayExecutionsWorkflow

_AT_ONCE: Final = 10  # steps: they wait for one another where they replay, and not where they read
_RETRY_S: Final = 0.2


class ReplayWorkers:
    """Opens the worker of the queue `replay` in a cell."""

    def __init__(self, settings: Settings, judge: ExecutionJudge) -> None:
        self._settings = settings
        self._judge = judge

    async def serve(self, cell: IdentityCell, lifetime: AsyncExitStack) -> None:
        """Serve the queue of a cell until `lifetime` ends; what a killed process had begun goes on here.

        This build takes over from the one before by itself: without recorded code a replay is with the newest.
        """
        release = Release(REPLAY_DEPLOYMENT, self._settings.build)
        worker = build_worker(
            cell.temporal,
            REPLAY_QUEUE,
            release,
            workflows=[ReplayExecutionsWorkflow],
            activities=ReplayActivities(PostgresReplays(cell.pool), self._judge).all(),
            behaviour=VersioningBehavior.AUTO_UPGRADE,
            max_concurrent_activities=_AT_ONCE,
        )
        await lifetime.enter_async_context(worker)
        if self._settings.worker_takes_over:
            run_beside(lifetime, _take_over(cell.temporal, release))


async def _take_over(client: Client, release: Release) -> None:
    while True:
        if await make_current(client, release):
            return
        await asyncio.sleep(_RETRY_S)
