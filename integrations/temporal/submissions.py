"""One vote of a batch, as staff may see it: its stage, and nothing of the others."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from temporalio.api.common.v1 import Payload, Payloads
from temporalio.client import WorkflowHistory
from temporalio.converter import PayloadCodec

from domain.cases import Step
from domain.contracts.voting import OUTCOME_ERRORS, Outcome, RecordedVotes, SubmitVotesInput
from domain.ids import submit_votes_workflow_id
from domain.submissions import SubmissionIds, claimed_place
from integrations.temporal.events import local_activity_of
from integrations.temporal.histories import Histories
from integrations.temporal.timelines import Timelines

_RECORD: Final = "record_votes"


@dataclass(frozen=True, slots=True)
class SubmissionCase:
    """One vote: `stage` is `accepted`, `confirmed` or `refused` with its `code`.

    `has_receipt` says whether its voter has, or can have, a receipt for it; the receipt itself is the voter's.
    """

    submission_id: str
    cell: str
    survey_id: str
    stage: str
    code: str = ""
    has_receipt: bool = False
    steps: tuple[Step, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class SubmittedVote:
    """What its batch's history says of one vote; `outcome` is None while nothing is recorded."""

    survey_id: str
    nullifier: bytes = field(repr=False)
    accepted_at: datetime
    outcome: Outcome | None
    history: WorkflowHistory = field(repr=False)

    @property
    def code(self) -> str:
        """Why it was refused, or nothing."""
        return OUTCOME_ERRORS[self.outcome].value if self.outcome in OUTCOME_ERRORS else ""

    @property
    def stage(self) -> str:
        """`accepted`, `confirmed` or `refused`."""
        return "accepted" if self.outcome is None else "refused" if self.code else "confirmed"


class SubmissionCases:
    """The votes of one cell, each found by its own submission id; the key of the ids shows which ones are true."""

    def __init__(
        self, cell: str, histories: Histories, timelines: Timelines, codec: PayloadCodec, ids: SubmissionIds
    ) -> None:
        """`codec` opens the cell's payloads in flight, of which this reads one vote's."""
        self._cell = cell
        self._histories = histories
        self._timelines = timelines
        self._codec = codec
        self._ids = ids

    async def find(self, submission_id: str) -> SubmissionCase | None:
        """Return one vote, or None where the id is not true, or its batch's history is gone.

        Raises:
            DomainError: `workflows_unavailable`, `key_unavailable`, `key_destroyed`.
        """
        vote = await self.vote(submission_id)
        if vote is None:
            return None
        return SubmissionCase(
            submission_id=submission_id,
            cell=self._cell,
            survey_id=vote.survey_id,
            stage=vote.stage,
            code=vote.code,
            has_receipt=vote.stage == "confirmed",
            steps=await self._timelines.of_batch(vote.history),
        )

    async def vote(self, submission_id: str) -> SubmittedVote | None:
        """Return what the history says of one vote, and of no other of its batch. As `find`."""
        place = claimed_place(submission_id)
        if place is None:
            return None
        history = await self._histories.read_sealed(submit_votes_workflow_id(self._cell, place.batch))
        if history is None:
            return None
        votes = SubmitVotesInput.model_validate_json(await self._open(_input_of(history))).votes
        if place.index >= len(votes) or self._ids.read(submission_id, votes[place.index].nullifier) is None:
            return None
        own = votes[place.index]
        accepted_at = history.events[0].event_time.ToDatetime(UTC)
        outcome = await self._outcome(history, place.index)
        return SubmittedVote(own.survey_id, own.nullifier, accepted_at, outcome, history)

    async def _outcome(self, history: WorkflowHistory, index: int) -> Outcome | None:
        recorded = _recorded_in(history)
        if recorded is None:
            return None
        return Outcome(RecordedVotes.model_validate_json(await self._open(recorded)).outcomes[index])

    async def _open(self, payload: Payload) -> bytes:
        (opened,) = await self._codec.decode([payload])
        return opened.data


def _input_of(history: WorkflowHistory) -> Payload:
    return history.events[0].workflow_execution_started_event_attributes.input.payloads[0]


def _recorded_in(history: WorkflowHistory) -> Payload | None:
    """Return what came of recording the batch, locally or later; None before."""
    scheduled: set[int] = set()
    for event in history.events:
        local = local_activity_of(event)
        if local is not None and local.name == _RECORD and local.result is not None:
            return local.result
        asked, done = event.activity_task_scheduled_event_attributes, event.activity_task_completed_event_attributes
        if asked.activity_type.name == _RECORD:
            scheduled.add(event.event_id)
        if event.HasField("activity_task_completed_event_attributes") and done.scheduled_event_id in scheduled:
            results: Payloads = done.result
            return results.payloads[0]
    return None
