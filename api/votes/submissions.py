"""What became of a submission, told to its own voter only."""

from collections.abc import Mapping
from typing import Protocol

from api.votes.endpoint import VotingCell
from domain.contracts.voting import OUTCOME_ERRORS, Outcome, RecordedVotes
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId
from domain.tokens import VotingClaims


class Executions(Protocol):
    """The executions of one cell's batches."""

    async def is_known(self, batch_id: BatchId) -> bool:
        """Tell whether a batch was ever started."""
        ...


class Rows(Protocol):
    """The ledger's batches."""

    async def find(self, cell: str, batch_id: BatchId) -> RecordedVotes | None:
        """Return a recorded batch, or None."""
        ...


class Submissions:
    """Reads the stage of a submission from the ledger and, before it is there, from its execution."""

    def __init__(
        self, cells: Mapping[str, VotingCell], rows: Mapping[str, Rows], executions: Mapping[str, Executions]
    ) -> None:
        self._cells = cells
        self._rows = rows
        self._executions = executions

    async def read(self, submission_id: str, claims: VotingClaims) -> dict[str, object]:
        """Return the submission's stage: `accepted`, `confirmed` with the receipt, or `refused` with the code.

        Raises:
            DomainError: `submission_not_found` also where it is somebody else's; `ledger_unavailable`,
                `workflows_unavailable`.
        """
        cell = self._cells.get(claims.cell)
        submission = None if cell is None else cell.submission_ids.read(submission_id, claims.nullifier)
        if cell is None or submission is None:
            raise DomainError(ErrorCode.SUBMISSION_NOT_FOUND)
        recorded = await self._rows[claims.cell].find(claims.cell, submission.batch)
        if recorded is None:
            if not await self._executions[claims.cell].is_known(submission.batch):
                raise DomainError(ErrorCode.SUBMISSION_NOT_FOUND)
            return {"submissionId": submission_id, "status": "accepted"}
        if submission.index >= len(recorded.outcomes):
            raise DomainError(ErrorCode.SUBMISSION_NOT_FOUND)
        outcome = Outcome(recorded.outcomes[submission.index])
        if outcome in OUTCOME_ERRORS:
            return {"submissionId": submission_id, "status": "refused", "code": OUTCOME_ERRORS[outcome]}
        survey = await cell.surveys.get(claims.survey_id)
        if survey is None:
            raise DomainError(ErrorCode.SURVEY_NOT_FOUND)
        return {
            "submissionId": submission_id,
            "status": "confirmed",
            "receipt": survey.seal.receipt(claims.nullifier),
            "replayed": outcome is Outcome.REPLAYED,
        }
