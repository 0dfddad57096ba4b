"""Keeps the search of every audit log behind what is sealed; that it cannot holds up no sealing."""

import asyncio

import structlog

from activities.log_indexing import LogIndexing
from domain.errors import DomainError

EVERY_S = 10.0  # a log is sealed once a minute

log = structlog.get_logger()


async def keep_searchable(name: str, indexing: LogIndexing, every_s: float = EVERY_S) -> None:
    """Follow a log until it is cancelled; whatever is away is asked again."""
    while True:
        try:
            await indexing.follow()
        except DomainError as error:
            log.warning("audit_log_not_indexed", log_name=name, code=error.code, detail=error.detail)
        await asyncio.sleep(every_s)
