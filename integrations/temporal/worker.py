"""Workers of one build: versions are set here and in `workers/`, never in a workflow's definition."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from integrations.temporal.loop_executor import LoopExecutor
from integrations.temporal.sandboxing import WithoutContexts

# What executions share with the process: pure modules, imported once instead of once per execution. Those of
# `workflows` keep nothing and use nothing that differs in a replay: `tests/workflows/test_modules.py` reads them for
# what the sandbox would otherwise look for in each execution.
_SHARED_MODULES = (
    "activities",
    "annotated_types",
    "domain",
    "msgspec",
    "opentelemetry",
    "pydantic",
    "pydantic_core",
    "workflows",
)
_THREADS = 4
_NOT_YET = {  # no worker was seen, or the server is too busy to say
    RPCStatusCode.NOT_FOUND,
    RPCStatusCode.FAILED_PRECONDITION,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.DEADLINE_EXCEEDED,
}
_GRACE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Release:
    """A deployment and the build that serves it; the build id is the commit."""

    deployment: str
    build: str

    @property
    def version(self) -> WorkerDeploymentVersion:
        """The version as Temporal names it."""
        return WorkerDeploymentVersion(deployment_name=self.deployment, build_id=self.build)


def sandbox() -> WorkflowRunner:
    """Return the runner that keeps workflows deterministic."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*_SHARED_MODULES)
    return WithoutContexts(SandboxedWorkflowRunner(restrictions=restrictions))


def build_worker(
    client: Client,
    queue: str,
    release: Release,
    *,
    workflows: Sequence[type],
    activities: Sequence[Callable[..., Any]],
    behaviour: VersioningBehavior = VersioningBehavior.PINNED,
    in_loop: bool = False,
    **options: Any,
) -> Worker:
    """Return a worker of one queue; `options` are the SDK's own and win.

    `in_loop` runs workflow tasks on the event loop's own thread and outside of the sandbox: for short ones that
    somebody waits for. Stand-alone workers and replays run the same workflows inside of it.
    """
    executor = LoopExecutor() if in_loop else ThreadPoolExecutor(_THREADS, f"workflows-{queue}")
    return Worker(
        client,
        task_queue=queue,
        workflows=workflows,
        activities=activities,
        deployment_config=WorkerDeploymentConfig(
            version=release.version, use_worker_versioning=True, default_versioning_behavior=behaviour
        ),
        **{
            "workflow_runner": UnsandboxedWorkflowRunner() if in_loop else sandbox(),
            "workflow_task_executor": executor,
            "graceful_shutdown_timeout": _GRACE,
            "max_cached_workflows": 200,
            "max_concurrent_workflow_task_polls": 2,
            "max_concurrent_activity_task_polls": 2,
            **options,
        },
    )


async def make_current(client: Client, release: Release) -> bool:
    """Make a build the current version of its deployment; False where no worker of it has been seen yet.

    What is started from now on, and what moves with releases, comes to this build. Safe to repeat.
    """
    try:
        await client.workflow_service.set_worker_deployment_current_version(
            SetWorkerDeploymentCurrentVersionRequest(
                namespace=client.namespace,
                deployment_name=release.deployment,
                build_id=release.build,
                identity=client.identity,
                ignore_missing_task_queues=True,
            )
        )
    except RPCError as error:
        if error.status in _NOT_YET:
            return False
        raise
    return True


async def is_current(client: Client, release: Release) -> bool:
    """Tell whether new executions come to this build."""
    found = await client.workflow_service.describe_worker_deployment(
        DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=release.deployment)
    )
    current: str = found.worker_deployment_info.routing_config.current_deployment_version.build_id
    return current == release.build


async def open_executions(client: Client, release: Release) -> int:
    """Count the executions that only this build can go on with, as Temporal's visibility has them.

    A version that is not current, and that nobody starts anything on, is drained when there are none. One whose first
    task has not ended is not counted: it belongs to no build yet, and the current one takes it.
    """
    pinned = await client.count_workflows(
        f"TemporalWorkerDeploymentVersion = '{release.deployment}:{release.build}' "
        "AND TemporalWorkflowVersioningBehavior = 'Pinned' AND ExecutionStatus = 'Running'"
    )
    return pinned.count
