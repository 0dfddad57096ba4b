"""What became of an update that was not answered with a result."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from temporalio.client import WorkflowUpdateFailedError
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as UpdateNotAnsweredError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from domain.errors import DomainError, ErrorCode
from integrations.deadlines import within

CANCELLING: Final = "cancel"  # the id of the update that ends long work: whoever else asks has the first one's answer


@asynccontextmanager
async def answered(patience_s: float, ended: DomainError) -> AsyncIterator[None]:
    """Wait for an update within the block for so long, or as long as the caller waits.

    Raises:
        DomainError: what the workflow refused it with; `ended` where there is no such execution any more;
            `workflows_unavailable` where nobody answers: asking again is safe; `deadline_exceeded` where the caller
            waits no longer, and then nobody was asked.
    """
    try:
        async with asyncio.timeout(within(patience_s)):
            yield
    except (TimeoutError, UpdateNotAnsweredError) as error:
        raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "no answer yet; asking again is safe") from error
    except WorkflowUpdateFailedError as error:
        raise refusal(error, ended) from error
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise ended from error
        raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error


def refusal(error: WorkflowUpdateFailedError, ended: Exception) -> Exception:
    """Return the error of the catalogue that a workflow refused with, or `ended` where it had ended meanwhile."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type in set(ErrorCode):
        return DomainError(ErrorCode(cause.type), cause.message)
    if isinstance(cause, ApplicationError) and cause.type == "AcceptedUpdateCompletedWorkflow":
        return ended
    return error
