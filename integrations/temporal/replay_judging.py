"""Judges executions of any namespace, with this code or the recorded one, in processes apart that have no key."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Final, Protocol

from domain.audit_ports import LockedObjects
from domain.contracts.replays import ReplayInput
from domain.errors import DomainError, ErrorCode
from domain.ports import KeyManagement
from domain.replay import NOT_ENDED, Execution, ReplayCode, ReplayVerdict
from integrations.addresses import TemporalAddress
from integrations.keys.purposes import in_flight
from integrations.settings import Settings
from integrations.temporal.archived_histories import ArchivedHistories, ArchiveIndex
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.histories import Histories
from integrations.temporal.replay_code import Replayer
from integrations.temporal.replay_pool import ReadableHistories, cannot

PLATFORM: Final = "platform"  # the namespace that belongs to no cell
_WITHIN_S: Final = 90.0  # with the start of the process that replays; less than the activity has


class PeriodHistories(ReadableHistories, Protocol):
    """Histories that are found by when they started: the server's, or those of an archive."""

    def started(self, since: datetime, until: datetime, workflow_type: str = "") -> AsyncIterator[Execution]:
        """Return those that started at or after the one instant and before the other, of one type or of all."""
        ...


class NamespaceHistories:
    """The histories of every namespace; each is connected to when it is first asked for."""

    def __init__(
        self, settings: Settings, keys: KeyManagement, archives: Mapping[str, ArchiveIndex], objects: LockedObjects
    ) -> None:
        """`keys` open payloads in flight and lasting histories; `archives` say by cell where in `objects` they are."""
        self._addresses: dict[str, TemporalAddress] = {
            name: servers.temporal for name, servers in settings.cells.items()
        }
        if settings.platform_temporal is not None:
            self._addresses[PLATFORM] = settings.platform_temporal
        self._keys = keys
        self._opened: dict[str, Histories] = {}
        self._archives = {
            name: ArchivedHistories(index, objects, EncryptionCodec(keys, in_flight(name)))
            for name, index in archives.items()
        }

    async def of(self, namespace: str, *, archived: bool = False) -> PeriodHistories:
        """Return the histories of a namespace, as the server has them or as they are archived.

        Raises:
            DomainError: `not_found`, `workflows_unavailable`.
        """
        if archived:
            if namespace not in self._archives:
                raise DomainError(ErrorCode.NOT_FOUND, "no such archive")
            return self._archives[namespace]
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
    """Implements `ExecutionJudge`: one question after the other, since each has all processes."""

    def __init__(
        self, histories: NamespaceHistories, make: Callable[[ReplayCode], Replayer], *, within_s: float = _WITHIN_S
    ) -> None:
        """`make` returns what replays with some code; that is made at its first use, and anew after a death.

        `within_s` is how long the executions of one question may take.
        """
        self._histories = histories
        self._make = make
        self._within_s = within_s
        self._replayers: dict[ReplayCode, Replayer] = {}
        self._alone = asyncio.Lock()

    def close(self) -> None:
        """End the processes that replay."""
        for code in tuple(self._replayers):
            self._replayers.pop(code).close()

    async def started(
        self, request: ReplayInput, since: datetime, until: datetime, most: int | None
    ) -> Sequence[Execution] | None:
        """Return what started in a stretch of the period; None where there are more than `most`."""
        histories = await self._histories.of(request.namespace, archived=request.archived)
        found: list[Execution] = []
        async for execution in histories.started(since, until, request.workflow_type):
            found.append(execution)
            if most is not None and len(found) > most:
                return None
        return found

    async def judge(self, request: ReplayInput, executions: Sequence[Execution]) -> Sequence[ReplayVerdict]:
        """Return the verdicts on these runs, on the newest one where none is named; all within some time."""
        histories = await self._histories.of(request.namespace, archived=request.archived)
        async with self._alone:
            if request.code not in self._replayers:
                self._replayers[request.code] = self._make(request.code)
            replayer = self._replayers[request.code]
            try:
                async with (
                    asyncio.timeout(self._within_s),
                    aclosing(replayer.over(histories, _each(executions))) as verdicts,
                ):
                    return [verdict async for verdict in verdicts]
            except (DomainError, TimeoutError) as error:
                self._replayers.pop(request.code).close()  # one may have died, or never come back from a history
                if isinstance(error, DomainError):
                    raise
                if len(executions) == 1:
                    return [cannot(executions[0], NOT_ENDED)]
                raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "the replay did not end") from error


async def _each(executions: Sequence[Execution]) -> AsyncIterator[Execution]:
    for execution in executions:
        yield execution
