"""Proves to a voter that the vote's participation is recorded: from the ledger, and from what of its log is sealed."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from activities.log_reading import LogReading
from api.votes.cells import VotingCells
from api.votes.submissions import Submissions
from domain.errors import DomainError, ErrorCode
from domain.receipts import participations_of, prove_participation
from domain.tokens import VotingClaims

_AT_ONCE: Final = 2  # connections of the four beside those that votes are recorded with
_WAITING_MAX: Final = 64
_SEALED_WITHIN_S: Final = 60  # of its recording an entry is under a tree head, if nothing holds that up


class Receipts:
    """Reads what is recorded and sealed; recording a vote does nothing for it, and waits for none of it."""

    def __init__(self, cells: VotingCells, submissions: Submissions, logs: Mapping[str, LogReading]) -> None:
        """`logs` are those of the cells, none where the settings name no store of them."""
        self._cells = cells
        self._submissions = submissions
        self._logs = logs
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._asking: set[bytes] = set()  # nullifiers, each once: nobody's many requests fill the line

    async def prove(self, submission_id: str, claims: VotingClaims) -> bytes:
        """Return the file that proves a confirmed submission's participation: always the same one.

        Raises:
            DomainError: `submission_not_found` also where it is somebody else's, `not_sealed_yet` where it is not
                recorded yet or its batch's entry is under no tree head, the code of a submission that was refused,
                `overloaded`, `ledger_unavailable`, `workflows_unavailable`, `objects_unavailable`, `key_unavailable`,
                and `audit_log_contradicted` where ledger and log are not of each other.
        """
        async with self._place(claims.nullifier):
            found = await self._submissions.read(submission_id, claims)
            if found["status"] == "refused":
                raise DomainError(ErrorCode(str(found["code"])))
            if found["status"] != "confirmed":
                raise _not_yet()
            return await self._prove(claims)

    async def _prove(self, claims: VotingClaims) -> bytes:
        log, ledger = self._logs.get(claims.cell), self._cells.of(claims.cell).participations
        if log is None:
            raise DomainError(ErrorCode.OBJECTS_UNAVAILABLE, "no store of audit logs is set")
        own = await ledger.of(claims.survey_id, claims.nullifier)
        if own is None:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE, "confirmed, and not in the ledger")
        index = await ledger.place_of_batch(own.transaction)
        head = None if index is None else await log.first_over(index)
        if index is None or head is None:
            raise _not_yet()
        proved = await log.prove(index, head)
        try:
            of_batch = await ledger.of_batch(own, participations_of(proved.entry))
            return prove_participation(claims.cell, own.participation, of_batch, proved).file
        except ValueError as error:
            raise DomainError(ErrorCode.AUDIT_LOG_CONTRADICTED, str(error)) from error

    @asynccontextmanager
    async def _place(self, nullifier: bytes) -> AsyncIterator[None]:
        """Wait for one of few places, in a line that has an end and in which everybody stands once."""
        if nullifier in self._asking or len(self._asking) == _WAITING_MAX:
            raise DomainError(ErrorCode.OVERLOADED)
        self._asking.add(nullifier)
        try:
            async with self._room:
                yield
        finally:
            self._asking.discard(nullifier)


def _not_yet() -> DomainError:
    return DomainError(ErrorCode.NOT_SEALED_YET, retry_after_s=_SEALED_WITHIN_S)
