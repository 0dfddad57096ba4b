"""Records the histories of `SubmitVotes` that are not stored yet: `python -m tests.replay.record_submit_votes`.

Runs each case over a real server of its own, with ledgers and brokers that fail as told and votes that nobody cast.
What is stored stays as it is, since such an execution may be open: where the workflow changes, add a case.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.voting import VotingActivities
from comitia.stack.temporal import binary
from domain.contracts.voting import BatchSummary, RecordedVotes, RegionCounts, SealedVote, SubmitVotesInput
from domain.errors import DomainError, ErrorCode
from integrations.temporal.worker import sandbox
from workflows.submit_votes import SubmitVotesWorkflow

HISTORIES = Path(__file__).parent / "histories"
QUEUE = "votes"
GATEWAY = bytes(range(16))


@dataclass
class Case:
    """What fails, in order, before it works; `counted` is False where every vote of the batch was refused."""

    ledger: list[ErrorCode] = field(default_factory=list)
    broker: list[ErrorCode] = field(default_factory=list)
    counted: bool = True

    async def record(self, batch: SubmitVotesInput, accepted_at: datetime) -> RecordedVotes:
        assert accepted_at
        if self.ledger:
            raise DomainError(self.ledger.pop(0))
        outcomes = bytes(len(batch.votes)) if self.counted else bytes([2] * len(batch.votes))
        region = RegionCounts(region="ward-1", ballots=len(batch.votes), options={"1": len(batch.votes)})
        summary = BatchSummary(
            cell=batch.cell, gateway_id=batch.gateway_id, number=batch.number, survey_id="s", regions=(region,)
        )
        return RecordedVotes(outcomes=outcomes, summaries=(summary,) if self.counted else ())

    async def publish(self, summaries: tuple[BatchSummary, ...]) -> None:
        assert summaries
        if self.broker:
            raise DomainError(self.broker.pop(0))


def cases() -> Mapping[str, Case]:
    """Return every case by the name of its file."""
    return {
        "submit-votes-recorded": Case(),
        "submit-votes-all-refused": Case(counted=False),
        "submit-votes-ledger-away": Case(ledger=[ErrorCode.LEDGER_UNAVAILABLE] * 10),
        "submit-votes-broker-away": Case(broker=[ErrorCode.BROKER_UNAVAILABLE] * 3),
        "submit-votes-digest-mismatch": Case(ledger=[ErrorCode.BATCH_DIGEST_MISMATCH]),
        "submit-votes-digest-mismatch-late": Case(
            ledger=[*[ErrorCode.LEDGER_UNAVAILABLE] * 10, ErrorCode.BATCH_DIGEST_MISMATCH]
        ),
    }


def portable(node: Any) -> Any:
    """Return a history without what tells of the machine that it was made on: replay reads none of it."""
    if isinstance(node, list):
        return [portable(item) for item in node]
    if isinstance(node, dict):
        kept = {name: portable(value) for name, value in node.items() if name != "stackTrace"}
        return {**kept, "identity": "tests"} if "identity" in kept else kept
    return node


async def main() -> None:
    """Run every case that has no history and store it."""
    vote = SealedVote(
        survey_id="s", nullifier=bytes(32), evidence=bytes(64), region="ward-1", sealed_answers=b"sealed for a test"
    )
    server = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(binary()),
        dev_server_log_level="never",
        data_converter=pydantic_data_converter,
        identity="tests",
    )
    async with server:
        for name, case in cases().items():
            path = HISTORIES / f"{name}.json"
            if path.exists():
                continue
            activities = VotingActivities(case, case)
            async with Worker(
                server.client,
                task_queue=QUEUE,
                workflows=[SubmitVotesWorkflow],
                activities=[activities.record_votes, activities.announce_votes],
                workflow_runner=sandbox(),
                build_id="recorded",
                identity="tests",
            ):
                execution = await server.client.start_workflow(
                    SubmitVotesWorkflow.run,
                    SubmitVotesInput(cell="eu", gateway_id=GATEWAY, number=1, votes=(vote, vote)),
                    id=name,
                    task_queue=QUEUE,
                    task_timeout=timedelta(seconds=3),
                )
                try:
                    await execution.result()
                except WorkflowFailureError:
                    assert "mismatch" in name
            history = json.loads((await execution.fetch_history()).to_json())
            path.write_text(json.dumps(portable(history), indent=1) + "\n")


if __name__ == "__main__":
    logging.disable()  # what fails here was told to
    asyncio.run(main())
