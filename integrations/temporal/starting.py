"""How a process of people is begun: one id, one execution, however often it is asked for."""

import asyncio
from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from domain.errors import DomainError, ErrorCode
from integrations.deadlines import within

TASK_TIMEOUT: Final = timedelta(seconds=3)  # how long a killed worker holds an execution up


async def start_once(
    client: Client,
    workflow: str,
    request: Any,
    *,
    workflow_id: str,
    queue: str,
    patience_s: float,
    failed_again: bool = False,
    eager: bool = False,
) -> None:
    """Return once an execution is durably on its way, or was. Safe to repeat.

    `failed_again` begins one anew whose execution failed or was ended from outside. `eager` asks for the first task
    with the answer, for a worker of this very process. It takes `patience_s` at most, or as long as the caller waits.

    Raises:
        DomainError: `workflows_unavailable`; it may have started or not. `deadline_exceeded` where the caller waits no
            longer; it was not begun.
    """
    again = WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
    try:
        async with asyncio.timeout(within(patience_s)):
            await client.start_workflow(
                workflow,
                request,
                id=workflow_id,
                task_queue=queue,
                task_timeout=TASK_TIMEOUT,
                id_reuse_policy=again if failed_again else WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                request_eager_start=eager,
            )
    except WorkflowAlreadyStartedError:
        return
    except (RPCError, TimeoutError) as error:
        raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, f"{workflow} was not begun") from error
