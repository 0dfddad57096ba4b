"""A worker whose activities tell of themselves, so that a test can stop the world after any step."""

import ast
import asyncio
import importlib.util
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Protocol

from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig

from integrations.temporal.worker import sandbox

Hook = Callable[[str], Any]


class World(Protocol):
    """What a test lives through: `steps` are the activities that had their effect, `after` hears of each."""

    client: Client
    queue: str
    steps: list[str]
    after: Hook | None

    def worker(self) -> Worker:
        """Return a new worker of this world."""
        ...


def hooked_worker(
    world: World, workflows: Sequence[type], activities: Sequence[Callable[..., Any]], **options: Any
) -> Worker:
    """Return a worker whose activities tell the world of their effect before they are reported."""

    def hooked(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def told(*request: Any) -> Any:
            result = await function(*request)
            world.steps.append(function.__name__)
            if world.after is not None:
                await world.after(function.__name__)
            return result

        return told

    return Worker(
        world.client,
        task_queue=world.queue,
        workflows=workflows,
        activities=[hooked(function) for function in activities],
        workflow_runner=sandbox(),
        deployment_config=WorkerDeploymentConfig(WorkerDeploymentVersion("tests", "1"), use_worker_versioning=False),
        **{"max_cached_workflows": 50, **options},
    )


async def live_with_a_death(world: World, step: int, living: Awaitable[Any], *, of: str = "") -> str:
    """Live with a worker that dies after the effect of its `step`-th activity, before it is reported.

    Counted are those `of` a name, where one is given. Return which activity that was, or nothing where life was over
    before it came to so many.
    """
    died, begun, last = asyncio.Event(), 0, ""

    async def stall(name: str) -> None:
        nonlocal begun, last
        if of not in {"", name}:
            return
        begun += 1
        if begun == step and not died.is_set():
            last = name
            died.set()
            await asyncio.Event().wait()  # the effect is there, and nobody will ever report it

    world.after = stall
    first = world.worker()
    running = asyncio.create_task(first.run())
    life = asyncio.ensure_future(living)
    waiting = asyncio.create_task(died.wait())
    await asyncio.wait({life, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await first.shutdown()
    await running
    async with world.worker():
        await life
    return last


def named_steps(workflow: type) -> set[str]:
    """Return every activity that a workflow can call: those that its module names, or one that it imports."""
    found: set[str] = set()
    modules, seen = [workflow.__module__], {"workflows"}
    while modules:
        name = modules.pop()
        if name in seen:
            continue
        seen.add(name)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("workflows."):
                modules.append(node.module)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found |= {node.attr} if node.value.id.endswith("Activities") else set()
    return found
