"""What became of a submission, told to its own voter only."""

from api.votes.cells import VotingCells
from domain.contracts.voting import OUTCOME_ERRORS, Outcome
from domain.errors import DomainError, ErrorCode
from domain.tokens import VotingClaims


class Submissions:
    """Reads the stage of a submission from the ledger and, before it is there, from its execution."""

    def __init__(self, cells: VotingCells) -> None:
        self._cells = cells

    async def read(self, submission_id: str, claims: VotingClaims) -> dict[str, object]:
        """Return the submission's stage: `accepted`, `confirmed` with the receipt, or `refused` with the code.

        Raises:
            DomainError: `submission_not_found` also where it is somebody else's; `ledger_unavailable`,
                `workflows_unavailable`.
        """
        cell = self._cells.of(claims.cell)
        submission = cell.submission_ids.read(submission_id, claims.nullifier)
        if submission is None:
            raise DomainError(ErrorCode.SUBMISSION_NOT_FOUND)
        recorded = await cell.ledger.find(claims.cell, submission.batch)
        if recorded is None:
            if not await cell.batches.is_known(submission.batch):
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
