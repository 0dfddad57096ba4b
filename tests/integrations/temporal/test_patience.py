"""Calls to Temporal that are made for somebody take no longer than that person waits."""

import asyncio
import time
from typing import Any, cast

import pytest
from temporalio.client import Client

from domain.errors import DomainError, ErrorCode
from integrations.deadlines import until
from integrations.temporal.starting import start_once
from integrations.temporal.updates import answered

ENDED = DomainError(ErrorCode.LOGIN_NOT_FOUND)


class SilentServer:
    """A client whose server answers nobody."""

    def __init__(self) -> None:
        self.asked = 0

    async def start_workflow(self, *_: Any, **__: Any) -> None:
        self.asked += 1
        await asyncio.Event().wait()

    async def begin(self) -> None:
        await start_once(cast("Client", self), "Some", None, workflow_id="some/1", queue="some", patience_s=600)

    async def tell(self) -> None:
        async with answered(600, ENDED):
            await self.start_workflow()


@pytest.mark.parametrize("call", [SilentServer.begin, SilentServer.tell])
async def test_whoever_waits_for_less_hears_sooner(call: Any) -> None:
    server = SilentServer()
    with until(time.monotonic() + 0.05), pytest.raises(DomainError) as raised:
        await asyncio.wait_for(call(server), 30)
    assert raised.value.code is ErrorCode.WORKFLOWS_UNAVAILABLE
    assert server.asked == 1


@pytest.mark.parametrize("call", [SilentServer.begin, SilentServer.tell])
async def test_for_whoever_waits_no_longer_nothing_is_begun(call: Any) -> None:
    server = SilentServer()
    with until(time.monotonic() - 1), pytest.raises(DomainError) as raised:
        await call(server)
    assert raised.value.code is ErrorCode.DEADLINE_EXCEEDED
    assert server.asked == 0
