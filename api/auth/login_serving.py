"""Serves the queue `login` in this process: a login's start comes back with its first task, and its end is heard."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final

from temporalio.worker import Worker

from activities.logins import LoginActivities
from domain.accounts import LookupHashes
from domain.challenges import BotChallenge
from domain.devices import DeviceIntelligence
from domain.errors import DomainError, ErrorCode
from domain.logins import LoginAttempt
from integrations.identity_cell import IdentityCell
from integrations.postgres.logins import PostgresLogins
from integrations.temporal.logins import LOGIN_QUEUE
from integrations.temporal.worker import Release, build_worker
from workflows.assess_login import AssessLoginWorkflow

_AT_ONCE: Final = 400  # local activities: when a vendor hangs, each holds its place for a second and a half
_LOOK_EVERY_S: Final = 1.0  # only what another process has recorded is found so
_ANSWER_WITHIN_S: Final = 5.0


class RecordedLogins:
    """Whoever waits for the decision on a login hears of it the moment that this process has recorded it."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[LoginAttempt]] = {}

    def recorded(self, attempt: LoginAttempt) -> None:
        """Tell who waits for this login."""
        waiting = self._waiting.get(attempt.attempt_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(attempt)

    @contextmanager
    def expected(self, attempt_id: str) -> Iterator[asyncio.Future[LoginAttempt]]:
        """Hear of a login within the block."""
        waiting = self._waiting[attempt_id] = asyncio.get_running_loop().create_future()
        try:
            yield waiting
        finally:
            del self._waiting[attempt_id]


async def decided(logins: PostgresLogins, attempt_id: str, heard: asyncio.Future[LoginAttempt]) -> LoginAttempt:
    """Return a login once it is recorded, by this process or, after a moment, by whichever did.

    Raises:
        DomainError: `workflows_unavailable` after five seconds: it may still be recorded, and lets nobody in then.
    """
    give_up_at = asyncio.get_running_loop().time() + _ANSWER_WITHIN_S
    while True:
        done, _ = await asyncio.wait({heard}, timeout=_LOOK_EVERY_S)
        found = heard.result() if done else await logins.get(attempt_id)
        if found is not None:
            return found
        if asyncio.get_running_loop().time() >= give_up_at:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "the login is not judged yet: begin again")


class LoginWorkers:
    """Opens the worker of the queue `login` in a cell."""

    def __init__(
        self,
        release: Release,
        hashes: LookupHashes,
        recorded: RecordedLogins,
        *,
        devices: DeviceIntelligence | None,
        challenges: BotChallenge | None,
        queue: str = LOGIN_QUEUE,
    ) -> None:
        self._release = release
        self._hashes = hashes
        self._recorded = recorded
        self._devices = devices
        self._challenges = challenges
        self._queue = queue

    async def serve(self, cell: IdentityCell, lifetime: AsyncExitStack) -> None:
        """Serve the queue of a cell until `lifetime` ends."""
        activities = LoginActivities(
            cell.logins,
            cell.records,
            self._hashes,
            devices=self._devices,
            challenges=self._challenges,
            on_recorded=self._recorded.recorded,
        )
        worker: Worker = build_worker(
            cell.temporal,
            self._queue,
            self._release,
            workflows=[AssessLoginWorkflow],
            activities=activities.all(),
            in_loop=True,
            max_concurrent_local_activities=_AT_ONCE,
        )
        await lifetime.enter_async_context(worker)
