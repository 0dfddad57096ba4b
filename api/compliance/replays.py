"""Replays one execution with the code of this process, in a process apart that has no key and no connection."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from domain.errors import DomainError, ErrorCode
from domain.ids import cell_of_workflow
from domain.ports import KeyManagement
from domain.replay import ReplayVerdict
from integrations.keys.purposes import in_flight
from integrations.settings import Settings, TemporalAddress
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.histories import Execution, Histories
from integrations.temporal.replay_pool import ReadableHistories, ReplayDiedError, ReplayPool, read_one

PLATFORM: Final = "platform"  # the namespace that belongs to no cell
WAITING_MAX: Final = 4  # replays that are under way or wait: a person looks at one at a time
_WITHIN_S: Final = 60.0  # with the start of the process that replays


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

    async def of(self, namespace: str) -> ReadableHistories:
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


class ReplayDesk:
    """Judges executions one by one. Nothing that they decide is carried out."""

    def __init__(self, histories: NamespaceHistories, make_pool: Callable[[], ReplayPool]) -> None:
        """`make_pool` returns a pool of one process, which is made at the first use and after a death."""
        self._histories = histories
        self._make_pool = make_pool
        self._pool: ReplayPool | None = None
        self._waiting = 0
        self._alone = asyncio.Lock()

    def close(self) -> None:
        """End the process that replays."""
        if self._pool is not None:
            self._pool.__exit__()
            self._pool = None

    async def judge(self, workflow_id: str, run_id: str = "") -> ReplayVerdict:
        """Return the verdict on a run, on the newest one without `run_id`.

        Raises:
            DomainError: `not_found` for a workflow of no namespace, `workflows_unavailable`, also where the process
                that replays has died or takes too long; `overloaded` where others wait already.
        """
        histories = await self._histories.of(cell_of_workflow(workflow_id) or PLATFORM)
        found = await read_one(histories, Execution(workflow_id, run_id, ""))
        if isinstance(found, ReplayVerdict):
            return found
        if self._waiting >= WAITING_MAX:
            raise DomainError(ErrorCode.OVERLOADED)
        self._waiting += 1
        try:
            async with self._alone, asyncio.timeout(_WITHIN_S):
                if self._pool is None:
                    self._pool = self._make_pool()
                (verdict,) = await asyncio.wrap_future(self._pool.submit([found]))
        except (ReplayDiedError, TimeoutError) as error:
            self.close()
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "the replay did not end") from error
        finally:
            self._waiting -= 1
        return verdict


def said_of(verdict: ReplayVerdict) -> Mapping[str, str]:
    """Return a verdict as a page names it."""
    said = {
        "workflow": verdict.workflow_id,
        "run": verdict.run_id,
        "type": verdict.workflow_type,
        "why": verdict.why,
    }
    if verdict.event_id:
        said |= {
            "first event that differs": str(verdict.event_id),
            "recorded": verdict.recorded,
            "wanted by the code of now": verdict.wanted,
        }
    return {name: value for name, value in said.items() if value}
