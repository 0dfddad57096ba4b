"""A connection to Temporal whose calls are tried again as `retries` says, and not as the driver would."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.service import ConnectConfig, RetryConfig, RPCError, RPCStatusCode, ServiceClient

from integrations.temporal.retries import BROKEN, BudgetedRetries

Answer = TypeVar("Answer", bound=Message)

_ONE_TRY: Final = RetryConfig(max_retries=1)  # the driver counts the first one too
_ASKED: Final = timedelta(seconds=1)


class BudgetedCalls(ServiceClient):
    """The calls of one connection. Workers take the connection itself, and poll as the driver does."""

    def __init__(self, connection: ServiceClient, namespace: str) -> None:
        """`connection` was opened so that it tries each call once."""
        super().__init__(connection.config)
        self._connection = connection
        self._nobody = DescribeWorkflowExecutionRequest(
            namespace=namespace, execution=WorkflowExecution(workflow_id="nobody")
        )
        self.retries = BudgetedRetries(self._answers)

    @classmethod
    async def open(cls, config: ConnectConfig, namespace: str) -> "BudgetedCalls":
        """Open a connection. Raises RuntimeError where the frontend cannot be reached."""
        config.retry_config = _ONE_TRY
        return cls(await ServiceClient.connect(config), namespace)

    @property
    def worker_service_client(self) -> Any:
        """Return the connection itself, the only thing that a worker takes."""
        return self._connection.worker_service_client

    def update_rpc_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        """Send other headers with each call."""
        self._connection.update_rpc_metadata(metadata)

    def update_api_key(self, api_key: str | None) -> None:
        """Send another key with each call."""
        self._connection.update_api_key(api_key)

    async def _rpc_call(
        self,
        rpc: str,
        req: Message,
        resp_type: type[Answer],
        *,
        service: str,
        retry: bool,
        metadata: Mapping[str, str | bytes],
        timeout: timedelta | None,  # noqa: ASYNC109 - the driver's own signature
    ) -> Answer:
        async def attempt() -> Answer:  # with `retry`, as the driver begins an execution eagerly only then
            return await self._connection._rpc_call(  # noqa: SLF001 - one wraps a connection by it
                rpc, req, resp_type, service=service, retry=retry, metadata=metadata, timeout=timeout
            )

        return await (self.retries.insist(attempt) if retry else attempt())

    async def _answers(self) -> bool:
        """Tell whether an execution can be looked for, which takes all that a call needs: nobody has this id."""
        try:
            await self._connection.workflow_service.describe_workflow_execution(self._nobody, timeout=_ASKED)
        except RPCError as error:
            return error.status not in BROKEN | {RPCStatusCode.DEADLINE_EXCEEDED}
        return True
