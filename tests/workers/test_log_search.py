"""A search follows its log whatever is away meanwhile."""

import asyncio
from contextlib import suppress
from typing import cast

import pytest

from activities.log_indexing import LogIndexing
from domain.errors import DomainError, ErrorCode
from workers.log_search import keep_searchable


class Following:
    """A search that cannot follow at first."""

    def __init__(self) -> None:
        self.fails = [ErrorCode.OBJECTS_UNAVAILABLE, ErrorCode.AUDIT_LOG_UNAVAILABLE, ErrorCode.AUDIT_LOG_CONTRADICTED]
        self.followed = asyncio.Event()

    async def follow(self) -> int:
        if self.fails:
            raise DomainError(self.fails.pop(), "away")
        self.followed.set()
        return 1


async def test_what_is_away_is_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    search = Following()
    following = asyncio.create_task(keep_searchable("eu", cast("LogIndexing", search), every_s=0.001))
    try:
        async with asyncio.timeout(10):
            await search.followed.wait()
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
    assert capsys.readouterr().out.count("audit_log_not_indexed") == 3
