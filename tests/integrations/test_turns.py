"""Who waits for a place is counted, until they have it or give up."""

import asyncio

from integrations.turns import Turns


async def test_who_waits_is_counted_and_who_has_a_place_or_gave_up_is_not() -> None:
    turns, ends = Turns(2), asyncio.Event()

    async def take() -> None:
        async with turns:
            await ends.wait()

    taking = [asyncio.create_task(take()) for _ in range(5)]
    await asyncio.sleep(0)
    assert turns.waiting == 3
    taking[-1].cancel()
    await asyncio.wait(taking[-1:])
    assert turns.waiting == 2
    ends.set()
    async with asyncio.timeout(30):
        await asyncio.gather(*taking[:-1])
    assert turns.waiting == 0
