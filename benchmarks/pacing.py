"""Requests that are due when the clock says so, however long the ones before take, each with how long it waited."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


async def paced(
    send: Callable[[Request], Awaitable[Answer]], requests: Sequence[Request], rate: float
) -> list[tuple[Answer, float]]:
    """Send `rate` a second; return the answers, and the milliseconds from when each was due, in order."""
    began = time.monotonic()

    async def one(number: int, request: Request) -> tuple[Answer, float]:
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        answer = await send(request)
        return answer, (time.monotonic() - due) * 1000

    return await asyncio.gather(*(one(number, request) for number, request in enumerate(requests)))
