"""Judges executions of any namespace with the code of this process, in a process apart that has no key."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Final

from domain.errors import DomainError, ErrorCode
from domain.ports import KeyManagement
from domain.replay import ReplayVerdict
from integrations.addresses import TemporalAddress
from integrations.keys.purposes import in_flight
from integrations.settings import Settings
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.histories import Execution, Histories
from integrations.temporal.replay_pool import ReplayPool

PLATFORM: Final = "platform"  # the namespace that belongs to no cell
_WITHIN_S: Final = 90.0  # with the start of the process that replays; less than the activity has


class NamespaceHistories:
    """The histories of every namespace; each is connected to when it is first asked for."""

    def __init__(self, settings: Settings, keys: KeyManagement) -> None:
        """`keys` open payloads in flight and lasting histories."""
        self._addresses: dict[str, TemporalAddress] = {
            name: servers.temporal for name, servers in settings.cells.items()
        }
        if settings.platform_temporal is not None:
            self._addresses[PLATFORM] = settings.platform_temporal
        self._keys = keys
        self._opened: dict[str, Histories] = {}

    async def of(self, namespace: str) -> Histories:
        """Return the histories of a namespace. Raises DomainError `not_found`, `workflows_unavailable`."""
        address = self._addresses.get(namespace)
        if address is None:
            raise DomainError(ErrorCode.NOT_FOUND, "no such namespace")
        if namespace not in self._opened:
            codec = EncryptionCodec(self._keys, in_flight(namespace))
            try:
                self._opened[namespace] = Histories(await connect(address, codec), codec)
            except RuntimeError as error:
                raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, namespace) from error
        return self._opened[namespace]


class PooledJudge:
    """Implements `ExecutionJudge`: one question after the other, since each has the whole pool."""

    def __init__(self, histories: NamespaceHistories, make_pool: Callable[[], ReplayPool]) -> None:
        """`make_pool` returns a pool, which is made at the first use, and anew after a death."""
        self._histories = histories
        self._make_pool = make_pool
        self._pool: ReplayPool | None = None
        self._alone = asyncio.Lock()

    def close(self) -> None:
        """End the processes that replay."""
        if self._pool is not None:
            self._pool.__exit__()
            self._pool = None

    async def one(self, namespace: str, workflow_id: str, run_id: str) -> ReplayVerdict:
        """Return the verdict on a run, on the newest one where `run_id` is empty."""
        (verdict,) = await self._judged(namespace, [Execution(workflow_id, run_id, "")])
        return verdict

    async def between(
        self, namespace: str, since: datetime, until: datetime, workflow_type: str, most: int | None
    ) -> Sequence[ReplayVerdict] | None:
        """Return the verdicts on what started in a stretch of time; None where there are more than `most`."""
        histories, found = await self._histories.of(namespace), list[Execution]()
        async for execution in histories.started(since, until, workflow_type):
            found.append(execution)
            if most is not None and len(found) > most:
                return None
        return await self._judged(namespace, found)

    async def _judged(self, namespace: str, executions: Sequence[Execution]) -> list[ReplayVerdict]:
        if not executions:
            return []
        histories = await self._histories.of(namespace)
        async with self._alone:
            if self._pool is None:
                self._pool = self._make_pool()
            try:
                async with (
                    asyncio.timeout(_WITHIN_S),
                    aclosing(self._pool.over(histories, _each(executions))) as verdicts,
                ):
                    return [verdict async for verdict in verdicts]
            except (DomainError, TimeoutError) as error:
                self.close()  # it may have died, or never come back from a history
                if isinstance(error, DomainError):
                    raise
                raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "the replay did not end") from error


async def _each(executions: Sequence[Execution]) -> AsyncIterator[Execution]:
    for execution in executions:
        yield execution
