"""Forgets the answer sessions of surveys that are over: what was never cast is nobody's any more."""

import asyncio

import structlog

from domain.errors import DomainError
from integrations.postgres.answer_sessions import AnswerSessions

_EVERY_S = 600.0

log = structlog.get_logger()


async def purge_answer_sessions(cell: str, sessions: AnswerSessions) -> None:
    """Purge now and every ten minutes, until cancelled; what fails is tried again then."""
    while True:
        try:
            while purged := await sessions.purge():
                log.info("answer_sessions_purged", cell=cell, sessions=purged)
        except DomainError as error:
            log.warning("answer_sessions_not_purged", cell=cell, error=str(error))
        await asyncio.sleep(_EVERY_S)
