"""Decisions on identities with what they were made from, out of the histories that made them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Final

from temporalio.client import WorkflowHistory

from domain.cases import Step, StepKind
from domain.contracts.registration import (
    CaseFinding,
    CaseReference,
    IdentityDecision,
    VerifiedIdentity,
    VerifyIdentityInput,
)
from domain.errors import DomainError
from domain.proofing import ProofingState
from domain.rejudging import Kept, KeptIdentity, Unreadable
from domain.replay import HISTORY_GONE, Execution
from domain.signatures import Signature, Signatures
from integrations.temporal.codec import PayloadChangedError
from integrations.temporal.replay_pool import ReadableHistories
from integrations.temporal.steps import StepReader

PROCESS: Final = "VerifyIdentity"
_LOOKED: Final = "read_case"
_SIGNATURES: Final = Signatures(
    activities={_LOOKED: Signature(CaseReference, CaseFinding)},
    workflows={PROCESS: Signature(VerifyIdentityInput, VerifiedIdentity)},
)
_READ_AT_ONCE: Final = 16

Find = Callable[[datetime, datetime, str], AsyncIterator[Execution]]


class IdentityDecisions:
    """Implements `KeptDecisions`: the proofings that began in a period and have decided."""

    def __init__(self, histories: ReadableHistories, find: Find) -> None:
        """`find` returns the executions of a type that started in a period, from the server or an archive."""
        self._histories = histories
        self._find = find

    async def between(self, since: datetime, until: datetime, most: int | None) -> Sequence[Kept] | None:
        """Return the decisions of proofings that began in a stretch of time; None where there are more than `most`."""
        found: list[Execution] = []
        async for execution in self._find(since, until, PROCESS):
            found.append(execution)
            if most is not None and len(found) > most:
                return None
        at_once = asyncio.Semaphore(_READ_AT_ONCE)

        async def one(execution: Execution) -> Kept | None:
            async with at_once:
                return await self._read(execution)

        return [kept for kept in await asyncio.gather(*map(one, found)) if kept is not None]

    async def _read(self, execution: Execution) -> Kept | None:
        try:
            history = await self._histories.read(execution.workflow_id, execution.run_id)
        except DomainError as error:
            if error.spec.retryable and not isinstance(error, PayloadChangedError):
                raise
            return Unreadable(execution.workflow_id, error.code.value)
        if history is None:
            return Unreadable(execution.workflow_id, HISTORY_GONE)
        return decision_in(history)


def decision_in(history: WorkflowHistory) -> KeptIdentity | None:
    """Return what a proofing decided and from what; None where it is open, was ended, or only looked once more."""
    steps = StepReader(history, _SIGNATURES).steps()
    given = steps[0].given if steps else None
    decided = next((step for step in steps if step.kind is StepKind.ENDED), None)
    if not isinstance(given, VerifyIdentityInput) or given.recheck:
        return None
    if decided is None or not isinstance(decided.came, VerifiedIdentity):
        return None
    return KeptIdentity(
        workflow_id=history.workflow_id,
        at=decided.at,
        rules=given.rules,
        decided=decided.came,
        finding=_finding(steps, decided.came),
    )


def _finding(steps: Sequence[Step], decided: VerifiedIdentity) -> CaseFinding | None:
    """Return the finding that was decided on: the last one, or of an approval the last that approved somebody."""
    found = [step.came for step in steps if step.name == _LOOKED and isinstance(step.came, CaseFinding)]
    by_us = decided.decision in {IdentityDecision.APPROVED, IdentityDecision.REFUSED}
    fitting = [each for each in found if not by_us or (each.state is ProofingState.APPROVED and each.documents)]
    return next(reversed(fitting or found), None)
