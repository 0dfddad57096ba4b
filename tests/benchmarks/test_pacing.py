"""Paced requests: an answer that takes long delays nobody else, and its wait counts from when it was due."""

import asyncio
import time

from benchmarks.pacing import paced

RATE = 50


async def test_everyone_is_due_when_the_clock_says_so_however_long_another_one_takes() -> None:
    sent: list[float] = []

    async def send(number: int) -> int:
        sent.append(time.monotonic())
        await asyncio.sleep(0.5 if number == 0 else 0)
        return number

    began = time.monotonic()
    answers = await paced(send, range(10), RATE)
    assert [answer for answer, _ in answers] == list(range(10))
    assert all(at - began >= number / RATE for number, at in enumerate(sent))
    assert sent[-1] - began < 0.5  # the first one was still waiting
    assert answers[0][1] >= 500


async def test_whoever_is_sent_late_has_waited_for_that_too() -> None:
    async def send(number: int) -> None:
        if number == 0:
            time.sleep(0.3)  # noqa: ASYNC251 - the client is held up, as by a busy machine

    answers = await paced(send, range(2), 1000)
    assert answers[1][1] >= 290
