"""Processes that die, stop for a while, or come back without what they knew."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from comitia.stack.ports import HOST
from comitia.stack.state import CELLS
from integrations.addresses import RedisAddress
from integrations.redis.connection import open_redis
from tests.faults.experiment import Fault
from tests.faults.stage import Stage

PAUSE_S, _HELD_S = 10.0, 1.0  # longer than any call waits for its answer
REDIS = "redis"
_Inject = Callable[[Stage], AbstractAsyncContextManager[None]]


def killed(name: str) -> _Inject:
    """`kill -9`, and a supervisor that starts it again at once."""

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        await stage.processes[name].kill()
        try:
            yield
        finally:
            await stage.start(name)

    return inject


def paused(name: str) -> _Inject:
    """`SIGSTOP` to it and its children: it holds every connection and answers nobody."""

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        with stage.paused(name):
            yield

    return inject


@asynccontextmanager
async def emptied(stage: Stage) -> AsyncIterator[None]:
    """Kill Redis and start it with nothing."""
    for number, _ in enumerate(CELLS):
        address = RedisAddress(host=HOST, port=stage.house.state.ports[REDIS], database=number)
        redis = open_redis(address, connections=1)
        await redis.flushdb()
        await redis.aclose()
    async with killed(REDIS)(stage):
        yield


def killed_while_paused(victim: str, server: str) -> _Inject:
    """`kill -9` to a process that has waited for a stopped server: what it holds by then is nowhere else."""

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        with stage.paused(server):
            await asyncio.sleep(_HELD_S)  # not a wait for something: the fault itself
            await stage.processes[victim].kill()
        await stage.start(victim)
        yield

    return inject


def kill(name: str) -> Fault:
    """A killed process."""
    return Fault(f"kill/{name}", killed(name), processes=frozenset({name}))


def pause(name: str) -> Fault:
    """A stopped process."""
    return Fault(f"pause/{name}", paused(name), seconds=PAUSE_S, processes=frozenset({name}))


KILL_BEFORE_COMMIT = Fault(
    "kill/api-votes-while-temporal-hangs",
    killed_while_paused("api-votes", "temporal"),
    processes=frozenset({"api-votes", "temporal"}),
)
EMPTY_REDIS = Fault("kill/redis-with-its-data", emptied, processes=frozenset({REDIS}))
