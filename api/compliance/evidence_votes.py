"""One vote as evidence: what its batch's history says of it alone, and what its voter's receipt is made of."""

from typing import Final

from activities.log_reading import LogReading
from api.compliance.evidence import VoteEvidence
from domain.certificates import instant
from domain.errors import DomainError, ErrorCode
from domain.log_proofs import ProvedEntry
from domain.receipts import batch_of, participations_of, prove_leaf
from integrations.postgres.participation_proofs import PostgresParticipationProofs, ProvableParticipation
from integrations.temporal.submissions import SubmissionCases

_SEALED_WITHIN_S: Final = 60
_CONFIRMED: Final = "confirmed"


class CellVotes:
    """Implements `Votes` for one cell. No choice is read: there is no key of ballots in this process."""

    def __init__(
        self, cell: str, submissions: SubmissionCases, proofs: PostgresParticipationProofs, log: LogReading
    ) -> None:
        self._cell = cell
        self._submissions = submissions
        self._proofs = proofs
        self._log = log

    async def of(self, submission_id: str) -> VoteEvidence | None:
        """Return what proves a vote; the batch of the entry is the one that recorded it, maybe an earlier one."""
        vote = await self._submissions.vote(submission_id)
        if vote is None:
            return None
        if vote.stage != _CONFIRMED:
            raise DomainError(ErrorCode.CASE_STAGE, f"the vote is {vote.stage} {vote.code}".rstrip())
        own = await self._proofs.of(vote.survey_id, vote.nullifier)
        if own is None:
            raise DomainError(ErrorCode.AUDIT_LOG_CONTRADICTED, "confirmed, and not in the ledger")
        proved = await self._sealed(own)
        try:
            hashes = await self._proofs.leaf_hashes(own.participation, participations_of(proved.entry))
            receipt = prove_leaf(self._cell, own.participation, hashes, proved)
        except ValueError as error:
            raise DomainError(ErrorCode.AUDIT_LOG_CONTRADICTED, str(error)) from error
        record = {
            "stage": vote.stage,
            "survey": vote.survey_id,
            "region": own.participation.region,
            "batch": batch_of(proved.entry),
            "acceptedAt": instant(vote.accepted_at),
        }
        return VoteEvidence(record, receipt.file, proved)

    async def _sealed(self, own: ProvableParticipation) -> ProvedEntry:
        head = None if own.place is None else await self._log.first_over(own.place)
        if own.place is None or head is None:
            raise DomainError(ErrorCode.NOT_SEALED_YET, retry_after_s=_SEALED_WITHIN_S)
        return await self._log.prove(own.place, head)
