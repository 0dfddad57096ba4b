"""The real server behind an address that is cut: what is tried meanwhile, as the driver itself counts it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig
from temporalio.service import ConnectConfig

from comitia.stack.forwarder import Forwarder
from comitia.stack.ports import HOST
from comitia.stack.state import StackState
from domain.errors import DomainError, ErrorCode
from integrations.addresses import Address
from integrations.deadlines import until
from integrations.temporal.calls import BudgetedCalls
from integrations.temporal.retries import BURST
from integrations.temporal.starting import start_once

STARTS = "StartWorkflowExecution"


@dataclass
class Path:
    """A way to the real server, and the tries of a client's calls that went it or tried to."""

    client: Client
    calls: BudgetedCalls
    open: Callable[[], Forwarder]
    buffer: MetricBuffer

    def tries(self) -> Counter[str]:
        """Return how often each call was tried since this was asked last."""
        found: Counter[str] = Counter()
        for update in self.buffer.retrieve_updates():
            if update.metric.name == "temporal_request":
                found[str(update.attributes["operation"])] += int(update.value)
        return found

    async def start(self) -> None:
        await start_once(
            self.client, "Nothing", None, workflow_id=f"nothing/{uuid4()}", queue="nobody", patience_s=5, eager=True
        )

    async def start_many(self, how_many: int, within_s: float) -> Counter[ErrorCode | None]:
        """Start so many at once for people who wait for so long; return what they hear."""
        with until(time.monotonic() + within_s):
            starts = [asyncio.create_task(self.start()) for _ in range(how_many)]
        heard = await asyncio.gather(*starts, return_exceptions=True)
        assert all(each is None or isinstance(each, DomainError) for each in heard), heard
        return Counter(each.code if isinstance(each, DomainError) else None for each in heard)


@pytest.fixture
async def path(servers: StackState, unused_tcp_port: int) -> Path:
    temporal = servers.settings_for().cells["eu"].temporal
    way = partial(Forwarder, unused_tcp_port, lambda: Address(host=temporal.host, port=temporal.port))
    buffer = MetricBuffer(100_000)
    runtime = Runtime(telemetry=TelemetryConfig(metrics=buffer))
    async with way():
        config = ConnectConfig(f"{HOST}:{unused_tcp_port}", runtime=runtime)
        calls = await BudgetedCalls.open(config, temporal.namespace)
        path = Path(Client(calls, namespace=temporal.namespace), calls, way, buffer)
        await path.start()
    assert path.tries()[STARTS] == 1
    return path


async def test_while_temporal_is_away_one_call_asks_for_all(path: Path) -> None:
    assert await path.start_many(200, 1.5) == {ErrorCode.WORKFLOWS_UNAVAILABLE: 200}
    tried = path.tries()
    assert 200 <= tried[STARTS] <= 200 + 20
    assert 5 <= tried["DescribeWorkflowExecution"] <= 20
    assert await path.start_many(200, 1.0) == {ErrorCode.WORKFLOWS_UNAVAILABLE: 200}
    assert path.tries()[STARTS] == 0  # it is known to be away


async def test_a_short_time_away_fails_nobody(path: Path) -> None:
    starting = asyncio.create_task(path.start_many(200, 30))
    await asyncio.sleep(1.5)
    assert path.calls.retries.waiting == 200
    async with path.open():
        assert await starting == {None: 200}
        assert path.tries()[STARTS] <= 400 + BURST


async def test_a_connection_that_breaks_fails_nobody(path: Path) -> None:
    async with path.open():
        starting = asyncio.create_task(path.start_many(BURST, 30))
        await asyncio.sleep(0.005)
    async with path.open():
        assert await starting == {None: BURST}
