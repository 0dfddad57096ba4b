"""The servers of production on one machine: its Temporal on PostgreSQL, three Kafka brokers; the same code on them."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient
from temporalio.api.enums.v1 import VersioningBehavior
from temporalio.client import (
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleSpec,
)

from comitia.stack.applications import APPLICATIONS
from comitia.stack.built_tools import TEMPORAL_SERVER, TEMPORAL_SQL_TOOL
from comitia.stack.topology import Topology
from domain.contracts.survey_runs import RunSurveyInput
from domain.ids import new_survey_id, run_survey_workflow_id
from integrations.addresses import KafkaAddress
from integrations.kafka.connection import connection_options
from integrations.kafka.topics import BATCH_RECORDED, topic_durability
from integrations.platform import SURVEYS_QUEUE
from tests.built_tools import need_tools
from tests.comitia.stack.pairs import COMPLETE_WITHIN_S, frozen
from tests.end_to_end.house import House, eventually, open_house
from tests.faults.load import Load

pytestmark = pytest.mark.long

VOTERS = 120


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def production() -> AsyncIterator[House]:
    """A platform on the servers of production."""
    need_tools(TEMPORAL_SERVER, TEMPORAL_SQL_TOOL)
    with tempfile.TemporaryDirectory(prefix="comitia-production-") as folder:
        topology = Topology(temporal_server=True, temporal_standby=True, kafka_brokers=3)
        left_out = {"eligibility", "streams", "reconciliation", "certification"}
        applications = [each for each in APPLICATIONS if each.service not in left_out]
        async with open_house(Path(folder), topology=topology, applications=applications) as opened:
            yield opened


async def test_a_vote_is_an_eager_start_of_a_pinned_version_there_too(production: House) -> None:
    survey = await production.open_survey()  # itself an update with start, answered by the platform's worker
    answer = await production.cast(survey, production.token(survey))
    assert answer.status_code == 201, answer.text
    await production.settled(survey, 1)

    execution = production.execution(answer.json()["submissionId"], "eu")
    history = await execution.fetch_history()
    assert history.events[0].workflow_execution_started_event_attributes.eager_execution_accepted
    described = (await execution.describe()).raw_description.workflow_execution_info.versioning_info
    assert described.behavior == VersioningBehavior.VERSIONING_BEHAVIOR_PINNED

    async def found() -> list[str]:
        query = f"SurveyId = '{survey.id}'"
        return [each.id async for each in production.temporal["platform"].list_workflows(query)]

    assert await eventually(found, what="the survey's process by its search attribute") == [
        run_survey_workflow_id(survey.id)
    ]


async def test_a_schedule_starts_what_it_should(production: House) -> None:
    client, survey_id = production.temporal["platform"], new_survey_id()
    action = ScheduleActionStartWorkflow(
        "RunSurvey",
        RunSurveyInput(survey_id=survey_id, cells=("eu",), actor="staff:u_tester").model_dump(mode="json"),
        id=f"scheduled-{survey_id}",
        task_queue=SURVEYS_QUEUE,
    )
    handle = await client.create_schedule(
        f"schedule-{survey_id}", Schedule(action=action, spec=ScheduleSpec()), trigger_immediately=True
    )

    async def started() -> str | None:
        actions = (await handle.describe()).info.recent_actions
        if not actions:
            return None
        assert isinstance(actions[0].action, ScheduleActionExecutionStartWorkflow)
        return actions[0].action.workflow_id

    workflow_id = await eventually(started, what="the schedule's first action")
    assert workflow_id.startswith(f"scheduled-{survey_id}")
    assert (await client.get_workflow_handle(workflow_id).describe()).task_queue == SURVEYS_QUEUE
    await handle.delete()


async def in_sync(house: House) -> bool:
    """Tell whether every partition has all its replicas in sync."""
    admin = AIOKafkaAdminClient(**connection_options(kafka_of(house)))
    await admin.start()
    try:
        topics = await admin.describe_topics()
    finally:
        await admin.close()
    return all(
        sorted(partition["isr"]) == sorted(partition["replicas"])
        for topic in topics
        for partition in topic["partitions"]
    )


def kafka_of(house: House) -> KafkaAddress:
    return house.state.settings_for().cells["eu"].kafka


@pytest.mark.parametrize("broker", ["kafka"])  # the one that clients ask first
async def test_a_killed_broker_holds_up_no_vote_and_loses_no_summary(production: House, broker: str) -> None:
    await eventually(lambda: in_sync(production), what="in sync before")
    survey = await production.open_survey()
    load = Load.of(production, survey, VOTERS, ("eu", "us"))
    voting = asyncio.create_task(load.run())
    await load.acknowledge(VOTERS // 4)

    await production.servers.processes[broker].kill()
    assert len(load.acknowledged) < VOTERS  # it was in the middle
    await voting
    assert len(load.acknowledged) == VOTERS
    await production.settled(survey, VOTERS)  # with two brokers

    await production.servers.start(broker)
    await eventually(lambda: in_sync(production), what="in sync again")
    found = await topic_durability(kafka_of(production), BATCH_RECORDED.of("eu"))
    assert found == {"min.insync.replicas": "2", "unclean.leader.election.enable": "false", "replicas": "3"}


async def test_a_killed_store_of_temporal_forgets_nothing_that_was_accepted(production: House) -> None:
    watch = production.servers.pairs["temporal"]
    await watch.complete(COMPLETE_WITHIN_S)
    server = production.servers.processes["temporal"].pid
    survey = await production.open_survey()
    load = Load.of(production, survey, VOTERS, ("eu", "us"))
    voting = asyncio.create_task(load.run())
    await load.acknowledge(VOTERS // 4)

    await watch.pair.primary.process.kill()
    assert len(load.acknowledged) < VOTERS  # it was in the middle
    await voting
    await load.insist()
    assert production.servers.processes["temporal"].pid == server  # it has found whoever is primary by itself
    await load.confirmed()
    await production.settled(survey, VOTERS)
    await watch.complete(COMPLETE_WITHIN_S)


async def test_a_store_whose_standby_is_silent_has_accepted_nothing(production: House) -> None:
    watch = production.servers.pairs["temporal"]
    await watch.complete(COMPLETE_WITHIN_S)
    pair, old, survey = watch.pair, watch.pair.primary, await production.open_survey()
    load = Load.of(production, survey, 20, ("eu", "us"))
    await watch.leave()
    with frozen(pair.standby.process, pair.archive.process):
        # Temporal gives up waiting for these commits, and then sees what only its primary has
        await load.run()
        accepted = set(load.acknowledged)
        for process in (pair.primary.process, pair.standby.process, pair.archive.process):
            await process.kill()
    assert not accepted, load.statuses()
    watch.resume()

    await load.insist()
    assert pair.primary is not old
    await load.confirmed()
    await production.settled(survey, 20)
    await watch.complete(COMPLETE_WITHIN_S)  # the old one follows now
