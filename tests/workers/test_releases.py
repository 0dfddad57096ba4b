"""What becomes of a build's executions when another build takes over, on the real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
import structlog
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError
from temporalio.worker import Worker

from integrations.temporal.worker import Release, build_worker, is_current, open_executions
from tests.conftest import SettingsFor
from tests.end_to_end.house import eventually
from workers.releases import drain, take_over


@workflow.defn(name="HeldForTests", sandboxed=False)
class Held:
    """Waits until it is let go."""

    def __init__(self) -> None:
        self._gone = False

    @workflow.run
    async def run(self) -> None:
        await workflow.sleep(0.001)  # its first task ends: from then on it is its build's
        await workflow.wait_condition(lambda: self._gone)

    @workflow.signal
    def let_go(self) -> None:
        self._gone = True


@pytest_asyncio.fixture(loop_scope="session")
async def client(settings_for: SettingsFor) -> Client:
    address = settings_for().cells["us"].temporal
    return await Client.connect(f"{address.host}:{address.port}", namespace=address.namespace)


@pytest.fixture
def deployment() -> str:
    return f"held-{uuid4().hex[:8]}"


@asynccontextmanager
async def working(client: Client, release: Release, settings: SettingsFor, **fields: object) -> AsyncIterator[Worker]:
    async with build_worker(client, release.deployment, release, workflows=[Held], activities=[]) as worker:
        await take_over(client, release, settings(**fields), asyncio.Event())
        yield worker


async def start(client: Client, deployment: str) -> WorkflowHandle[Held, None]:
    return await client.start_workflow(
        Held.run, id=f"held/{uuid4()}", task_queue=deployment, execution_timeout=timedelta(minutes=5)
    )


async def counted(client: Client, release: Release, executions: int) -> None:
    async def found() -> bool:
        return await open_executions(client, release) == executions

    await eventually(found, what=f"{executions} open executions")


async def test_a_replaced_build_stays_until_its_executions_have_ended(
    client: Client, deployment: str, settings_for: SettingsFor
) -> None:
    old, new = Release(deployment, "old"), Release(deployment, "new")
    async with working(client, old, settings_for):
        held = await start(client, deployment)
        await counted(client, old, 1)
        await drain(client, old, 60)  # the current one has nothing to wait for: others of it go on
        async with working(client, new, settings_for):
            assert (await is_current(client, old), await is_current(client, new)) == (False, True)
            fresh = await start(client, deployment)
            await counted(client, new, 1)
            draining = asyncio.create_task(drain(client, old, 60))
            done, _ = await asyncio.wait({draining}, timeout=2)
            assert not done
            await held.signal(Held.let_go)
            await draining
            assert await open_executions(client, old) == 0
            await fresh.signal(Held.let_go)
            await fresh.result()


async def test_what_does_not_end_in_time_is_said_and_left(
    client: Client, deployment: str, settings_for: SettingsFor
) -> None:
    old, new = Release(deployment, "old"), Release(deployment, "new")
    async with working(client, old, settings_for):
        held = await start(client, deployment)
        await counted(client, old, 1)
        async with working(client, new, settings_for):
            with structlog.testing.capture_logs() as logs:
                await drain(client, old, 1)
    assert (logs[-1]["event"], logs[-1]["executions"]) == ("not_drained", 1)
    async with working(client, old, settings_for):  # whoever starts that build again ends it
        await held.signal(Held.let_go)
        await held.result()


async def test_a_worker_that_only_finishes_leaves_the_current_build_alone(
    client: Client, deployment: str, settings_for: SettingsFor
) -> None:
    old, new = Release(deployment, "old"), Release(deployment, "new")
    async with working(client, new, settings_for):
        async with working(client, old, settings_for, worker_takes_over=False):
            assert await is_current(client, new)
        async with working(client, old, settings_for):
            assert await is_current(client, old)


async def test_nobody_waits_where_temporal_cannot_say(client: Client, deployment: str) -> None:
    async with asyncio.timeout(30):
        await drain(client, Release(deployment, "unheard-of"), 60)
    with pytest.raises(RPCError):
        await is_current(client, Release(deployment, "unheard-of"))
