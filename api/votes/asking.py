"""What a vote must ask the ledger before the gateway can have it: bounded as waiting there is, and brief."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from api.votes.intake import VoteIntake
from domain.errors import DomainError, ErrorCode

_WITHIN_S = 1.0

Answer = TypeVar("Answer")


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
