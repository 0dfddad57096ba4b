import time
import uuid
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from comitia.stack.state import StackState
from integrations.telemetry.tracing import current_ids, request_context
from tests.integrations.telemetry.test_tracing import PARENT, make


@activity.defn(name="traced_step")
async def traced_step() -> str:
    ids = current_ids()
    return ids[0] if ids else ""


@workflow.defn(name="Traced")
class TracedWorkflow:
    @workflow.run
    async def run(self) -> list[str]:
        local = await workflow.execute_local_activity(traced_step, start_to_close_timeout=timedelta(seconds=5))
        regular = await workflow.execute_activity(traced_step, start_to_close_timeout=timedelta(seconds=5))
        return [local, regular]


async def test_a_request_is_followed_into_activities(servers: StackState) -> None:
    tracing, exporter = make(0.0)
    address = servers.settings_for().cells["eu"].temporal
    client = await Client.connect(
        f"{address.host}:{address.port}", namespace=address.namespace, interceptors=[tracing.temporal_interceptor()]
    )
    name = f"traced-{uuid.uuid4().hex}"
    # The sandbox is on; only this file is not imported anew inside, since no package path leads to it
    sandbox = SandboxedWorkflowRunner(SandboxRestrictions.default.with_passthrough_modules("tests"))
    async with Worker(
        client,
        task_queue=name,
        workflows=[TracedWorkflow],
        activities=[traced_step],
        workflow_runner=sandbox,
        max_cached_workflows=0,
    ):
        trace = tracing.begin_request(PARENT, time.perf_counter())
        with request_context(trace):
            found = await client.execute_workflow(TracedWorkflow.run, id=name, task_queue=name)
        unsampled = tracing.begin_request(None, time.perf_counter())
        with request_context(unsampled):
            again = await client.execute_workflow(TracedWorkflow.run, id=name + "-2", task_queue=name)
    assert found == [trace.trace_id] * 2
    assert again == [unsampled.trace_id] * 2
    spans = exporter.get_finished_spans()
    assert {format(span.context.trace_id, "032x") for span in spans} == {trace.trace_id}
    assert {
        "StartWorkflow:Traced",
        "RunWorkflow:Traced",
        "StartActivity:traced_step",
        "RunActivity:traced_step",
    } <= {span.name for span in spans}
