"""The sandbox of workflows, entered for their code alone."""

from collections.abc import Sequence
from typing import Any, Final

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import SerializationContext, StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.workflow import Info

_NO_STORE: Final = StorageDriverStoreContext(target=None)


class WithoutContexts(WorkflowRunner):
    """The SDK's sandbox, which is not asked for what nobody uses.

    For each payload of a task the SDK asks the execution, in its sandbox, in which context the payload is converted and
    where it is stored: each time a piece of code is compiled, and the imports and builtins of the process are changed
    and changed back. Our converters and our codec take no context, and nothing is stored elsewhere
    (`tests/integrations/temporal/test_sandboxing.py`), so both have one answer. It was a third of a login's replay.
    """

    def __init__(self, sandboxed: WorkflowRunner) -> None:
        self._sandboxed = sandboxed

    def prepare_workflow(self, defn: Any) -> None:
        """Check a workflow when its worker starts."""
        self._sandboxed.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Return an execution in a sandbox of its own."""
        return _Execution(self._sandboxed.create_instance(det))

    def set_worker_level_failure_exception_types(self, types: Sequence[type[BaseException]]) -> None:
        """Take what fails an execution."""
        self._sandboxed.set_worker_level_failure_exception_types(types)


class _Execution(WorkflowInstance):
    def __init__(self, sandboxed: WorkflowInstance) -> None:
        self._sandboxed = sandboxed

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        return self._sandboxed.activate(act)

    def get_serialization_context(self, command_info: object) -> SerializationContext | None:  # noqa: ARG002
        return None

    def get_external_store_context(self, command_info: object) -> StorageDriverStoreContext:  # noqa: ARG002
        return _NO_STORE

    def get_info(self) -> Info:
        return self._sandboxed.get_info()

    def get_thread_id(self) -> int | None:
        return self._sandboxed.get_thread_id()
