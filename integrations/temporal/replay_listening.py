"""Runs workflows in a replay and keeps what they ask for, each content with the name of its contract."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import DataConverter, PayloadConverter, StorageDriverStoreContext
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.workflow import Info

CONTRACT: Final = "contract"  # in the metadata of what is asked for
_NO_STORE: Final = StorageDriverStoreContext(target=None)


class Listening(WorkflowRunner):
    """Runs workflows outside of the sandbox; there is one execution at a time."""

    def __init__(self) -> None:
        self._runner = UnsandboxedWorkflowRunner()
        self._commands: list[WorkflowCommand] = []

    def prepare_workflow(self, defn: Any) -> None:
        """Prepare nothing."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Return an execution at its beginning."""
        self._commands = []
        return _Heard(self._runner.create_instance(det), self._commands)

    def take(self) -> Sequence[WorkflowCommand]:
        """Return what the execution has asked for that was replayed last."""
        commands, self._commands = self._commands, []
        return commands


class _Heard(WorkflowInstance):
    def __init__(self, instance: WorkflowInstance, commands: list[WorkflowCommand]) -> None:
        self._instance = instance
        self._commands = commands

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = self._instance.activate(act)
        self._commands += completion.successful.commands
        return completion

    def get_serialization_context(self, command_info: object) -> None:  # noqa: ARG002
        return None  # converters of ours take none, as `sandboxing.py` says

    def get_external_store_context(self, command_info: object) -> StorageDriverStoreContext:  # noqa: ARG002
        return _NO_STORE

    def get_info(self) -> Info:
        return self._instance.get_info()

    def get_thread_id(self) -> int | None:
        return self._instance.get_thread_id()


def naming(converter: DataConverter) -> DataConverter:
    """Return a converter like this one that notes beside each payload of which contract it is."""
    kind: Any = converter.payload_converter_class

    class Naming(kind):  # type: ignore[misc]
        def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
            payloads: list[Payload] = super().to_payloads(values)
            for value, payload in zip(values, payloads, strict=True):
                if isinstance(value, BaseModel):
                    payload.metadata[CONTRACT] = f"{type(value).__module__}:{type(value).__qualname__}".encode()
            return payloads

    naming_kind: type[PayloadConverter] = Naming
    return replace(converter, payload_converter_class=naming_kind)
