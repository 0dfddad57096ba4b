import asyncio
import secrets
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer, Worker

from activities.voting import VotingActivities
from domain.contracts.voting import (
    BatchSummary,
    Outcome,
    RecordedVotes,
    RegionCounts,
    SealedVote,
    SubmitVotesInput,
    SubmitVotesResult,
)
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId, submit_votes_workflow_id
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.worker import sandbox
from tests.conftest import SettingsFor
from tests.vote_workers import vote_worker
from tests.voting_world import voting_keys
from workflows.submit_votes import SubmitVotesWorkflow

CHOICE = b"a choice that nobody may read"


class Ledger:
    """Records at will: unavailable until told otherwise, or with a fault."""

    def __init__(self) -> None:
        self.calls: list[datetime] = []
        self.failures: list[DomainError] = []

    async def record(self, batch: SubmitVotesInput, accepted_at: datetime) -> RecordedVotes:
        self.calls.append(accepted_at)
        if self.failures:
            raise self.failures.pop(0)
        region = RegionCounts(region="r", ballots=len(batch.votes), options={"1": len(batch.votes)})
        summary = BatchSummary(
            cell=batch.cell, gateway_id=batch.gateway_id, number=batch.number, survey_id="s", regions=(region,)
        )
        return RecordedVotes(outcomes=bytes(len(batch.votes)), summaries=(summary,))


class Publisher:
    def __init__(self) -> None:
        self.told: list[BatchSummary] = []
        self.failures = 0

    async def publish(self, summaries: tuple[BatchSummary, ...]) -> None:
        if self.failures:
            self.failures -= 1
            raise DomainError(ErrorCode.BROKER_UNAVAILABLE)
        self.told += summaries


def batch(votes: int = 2) -> SubmitVotesInput:
    vote = SealedVote(
        survey_id="s", nullifier=secrets.token_bytes(32), evidence=bytes(64), region="r", sealed_answers=CHOICE
    )
    return SubmitVotesInput(cell="eu", gateway_id=secrets.token_bytes(16), number=1, votes=(vote,) * votes)


@pytest.fixture
async def client(settings_for: SettingsFor) -> Client:
    settings = settings_for()
    codec = EncryptionCodec(voting_keys(settings), "in-flight/eu")
    return await connect(settings.cells["eu"].temporal, codec)


@asynccontextmanager
async def worker(client: Client, ledger: Ledger, publisher: Publisher, *, cached: int = 100) -> AsyncIterator[str]:
    activities = VotingActivities(ledger, publisher)
    async with vote_worker(client, activities, max_cached_workflows=cached, build_id="test") as queue:
        yield queue


async def start(
    client: Client, queue: str, votes: SubmitVotesInput
) -> WorkflowHandle[SubmitVotesWorkflow, SubmitVotesResult]:
    return await client.start_workflow(
        SubmitVotesWorkflow.run,
        votes,
        id=submit_votes_workflow_id("eu", BatchId(votes.gateway_id, votes.number)),
        task_queue=queue,
        task_timeout=timedelta(seconds=3),
        execution_timeout=timedelta(seconds=60),
    )


async def replays(client: Client, handle: WorkflowHandle[SubmitVotesWorkflow, SubmitVotesResult]) -> None:
    replayer = Replayer(
        workflows=[SubmitVotesWorkflow], data_converter=client.data_converter, workflow_runner=sandbox()
    )
    await replayer.replay_workflow(await handle.fetch_history())


@pytest.mark.parametrize("cached", [0, 100])
async def test_a_batch_is_recorded_and_told_and_its_history_replays(client: Client, cached: int) -> None:
    ledger, publisher, votes = Ledger(), Publisher(), batch()
    async with worker(client, ledger, publisher, cached=cached) as queue:
        handle = await start(client, queue, votes)
        assert (await handle.result()).outcomes == bytes([Outcome.RECORDED] * 2)
    assert [summary.number for summary in publisher.told] == [1]
    description = await handle.describe()
    assert ledger.calls[0] == description.start_time
    await replays(client, handle)


async def test_a_ledger_that_is_away_longer_than_the_local_limit_ends_in_a_record(client: Client) -> None:
    ledger, publisher = Ledger(), Publisher()
    ledger.failures = [DomainError(ErrorCode.LEDGER_UNAVAILABLE)] * 8
    async with worker(client, ledger, publisher) as queue:
        handle = await start(client, queue, batch())
        assert (await handle.result()).outcomes == bytes(2)
    assert len(ledger.calls) == 9
    assert len(set(ledger.calls)) == 1  # accepted when it was, however late it is recorded
    history = await handle.fetch_history()
    # not local for ever: that would fill the history for as long as the outage
    assert any(event.HasField("activity_task_scheduled_event_attributes") for event in history.events)
    await replays(client, handle)


async def test_a_broker_that_is_away_is_told_later(client: Client) -> None:
    ledger, publisher = Ledger(), Publisher()
    publisher.failures = 2
    async with worker(client, ledger, publisher) as queue:
        handle = await start(client, queue, batch())
        await handle.result()
    assert len(ledger.calls) == 1
    assert len(publisher.told) == 1
    await replays(client, handle)


async def test_a_fault_ends_the_batch_with_its_code(client: Client) -> None:
    ledger = Ledger()
    ledger.failures = [DomainError(ErrorCode.BATCH_DIGEST_MISMATCH)]
    async with worker(client, ledger, Publisher()) as queue:
        handle = await start(client, queue, batch())
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "batch_digest_mismatch"
    assert len(ledger.calls) == 1
    await replays(client, handle)


async def test_a_worker_that_dies_between_the_steps_is_followed_by_another(client: Client) -> None:
    ledger, publisher, votes = Ledger(), Publisher(), batch()
    reached = asyncio.Event()

    class Stuck(Publisher):
        async def publish(self, summaries: tuple[BatchSummary, ...]) -> None:
            reached.set()
            await asyncio.Event().wait()

    queue = f"votes-{uuid.uuid4()}"
    first = VotingActivities(ledger, Stuck())
    dying = Worker(
        client,
        task_queue=queue,
        workflows=[SubmitVotesWorkflow],
        activities=[first.record_votes, first.announce_votes],
        workflow_runner=sandbox(),
        build_id="test",
    )
    running = asyncio.create_task(dying.run())
    handle = await start(client, queue, votes)
    async with asyncio.timeout(10):
        await reached.wait()
    await dying.shutdown()
    await running
    second = VotingActivities(ledger, publisher)
    async with Worker(
        client,
        task_queue=queue,
        workflows=[SubmitVotesWorkflow],
        activities=[second.record_votes, second.announce_votes],
        workflow_runner=sandbox(),
        build_id="test",
    ):
        assert (await handle.result()).outcomes == bytes(2)
    assert len(publisher.told) == 1
    await replays(client, handle)


async def test_nothing_of_a_vote_is_readable_in_the_history(client: Client) -> None:
    votes = batch()
    async with worker(client, Ledger(), Publisher()) as queue:
        handle = await start(client, queue, votes)
        await handle.result()
    history = (await handle.fetch_history()).to_json()
    decoded = "".join(str(event) for event in (await handle.fetch_history()).events)
    for secret in (CHOICE, votes.votes[0].nullifier):
        assert b64encode(secret).decode() not in history
        assert repr(secret)[2:-1] not in decoded
    assert datetime.now(UTC) > (await handle.describe()).start_time
