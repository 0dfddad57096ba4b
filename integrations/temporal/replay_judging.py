"""Judges executions of any namespace, with this code or the recorded one, in processes apart that have no key."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Final

from domain.contracts.replays import ReplayInput
from domain.errors import DomainError, ErrorCode
from domain.ports import KeyManagement
from domain.replay import NOT_ENDED, Execution, ReplayCode, ReplayVerdict
from integrations.addresses import TemporalAddress
from integrations.keys.purposes import in_flight
from integrations.settings import Settings
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.histories import Histories
from integrations.temporal.replay_code import Replayer
from integrations.temporal.replay_pool import cannot

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
        histories, found = await self._histories.of(request.namespace), list[Execution]()
        async for execution in histories.started(since, until, request.workflow_type):
            found.append(execution)
            if most is not None and len(found) > most:
                return None
        return found

    async def judge(self, request: ReplayInput, executions: Sequence[Execution]) -> Sequence[ReplayVerdict]:
        """Return the verdicts on these runs, on the newest one where none is named; all within some time."""
        histories = await self._histories.of(request.namespace)
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
