"""What must be known before the gateway can have a vote: asking the ledger is bounded as waiting there, and brief."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from api.votes.cells import VotingCell
from api.votes.intake import VoteIntake
from domain.contracts.voting import Outcome
from domain.errors import DomainError, ErrorCode
from domain.tokens import VotingClaims
from integrations.postgres.voting_surveys import VotingSurvey

PAUSED_RETRY_AFTER_S = 10
_WITHIN_S = 1.0

Answer = TypeVar("Answer")


def window_refusal(survey: VotingSurvey) -> DomainError | None:
    """Return why no new vote is taken now: `survey_not_open`, `survey_closed` or `survey_paused`; None where it is.

    A good error early: of the window recording has the truth; a pause is held here alone, since what was accepted
    before is recorded.
    """
    refusal = survey.window.refusal(datetime.now(UTC))
    if refusal is Outcome.SURVEY_NOT_OPEN:
        return DomainError(ErrorCode.SURVEY_NOT_OPEN)
    if refusal is not None:
        return DomainError(ErrorCode.SURVEY_CLOSED)
    if survey.is_paused:
        return DomainError(ErrorCode.SURVEY_PAUSED, retry_after_s=PAUSED_RETRY_AFTER_S)
    return None


def may_repeat(closed: DomainError, key: bytes) -> bool:
    """Tell whether a refused vote may still be answered: by its key it may be one that was recorded in time."""
    return bool(key) and closed.code is ErrorCode.SURVEY_CLOSED


def enter(intake: VoteIntake, survey_id: str) -> None:
    """Take a place among the votes of the cell, before anything is begun; `asked` gives it back.

    Raises:
        DomainError: `overloaded`.
    """
    if not intake.takes(survey_id):
        raise DomainError(ErrorCode.OVERLOADED)
    intake.enter(survey_id)


async def asked(intake: VoteIntake, survey_id: str, question: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return what the ledger says within a second, to a vote that has entered; its place is free again then.

    Raises:
        DomainError: `ledger_unavailable`, and what `question` raises.
    """
    try:
        async with asyncio.timeout(_WITHIN_S):
            return await question()
    except TimeoutError:
        raise DomainError(ErrorCode.LEDGER_UNAVAILABLE, "no answer in time") from None
    finally:
        intake.leave(survey_id, answered=False)


async def known_survey(cell: VotingCell, claims: VotingClaims) -> VotingSurvey:
    """Return the survey of a vote, from the ledger where this process has not read it yet.

    Raises:
        DomainError: `survey_not_found`, or why it could not be read.
    """
    survey = await cell.surveys.get(claims.survey_id)
    if survey is None:
        raise DomainError(ErrorCode.SURVEY_NOT_FOUND)
    return survey


async def is_recorded(cell: VotingCell, claims: VotingClaims, survey: VotingSurvey, key: bytes) -> bool:
    """Tell whether this person's vote is recorded, and came with this idempotency key.

    Raises:
        DomainError: `ledger_unavailable`.
    """
    key_mac = survey.seal.key_mac(key, claims.nullifier)
    return await cell.ledger.is_recorded(claims.survey_id, claims.nullifier, key_mac)
