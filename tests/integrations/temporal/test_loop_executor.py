"""What runs on the loop's own thread leaves the loop as it was."""

import asyncio
import threading

import pytest

from integrations.temporal.loop_executor import LoopExecutor


async def test_it_runs_on_the_thread_of_the_loop_and_outside_of_every_task() -> None:
    loop = asyncio.get_running_loop()

    def where() -> tuple[int, asyncio.Task[object] | None]:
        return threading.get_ident(), asyncio.current_task(loop)

    assert await loop.run_in_executor(LoopExecutor(), where) == (threading.get_ident(), None)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_loop_that_was_run_inside_is_gone_afterwards(*, fails: bool) -> None:
    loop = asyncio.get_running_loop()

    def of_another_loop() -> int:
        asyncio._set_running_loop(None)
        if fails:
            raise ValueError("in the workflow")
        return 7

    running = loop.run_in_executor(LoopExecutor(), of_another_loop)
    if fails:
        with pytest.raises(ValueError, match="in the workflow"):
            await running
    else:
        assert await running == 7
    assert asyncio.get_running_loop() is loop


async def test_what_was_given_up_before_its_turn_does_not_run() -> None:
    ran: list[int] = []
    executor = LoopExecutor()

    given_up = executor.submit(ran.append, 1)
    assert given_up.cancel()
    await asyncio.wrap_future(executor.submit(ran.append, 2))

    assert ran == [2]
