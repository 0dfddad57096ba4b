"""Runs workflow tasks on the thread of the event loop, between its other steps."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class LoopExecutor(Executor):
    """For workflows whose tasks take less time than handing them over to a thread and back.

    A thread gets the interpreter when the busy loop lets go of it, up to 5 ms later, four times per execution. What
    runs here holds up the loop for as long as it takes, and the SDK cannot tell when it never ends.
    """

    def submit(
        self, fn: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        """Run `fn` in the next round of the running loop; outside of every task, since a workflow enters its own."""
        future: Future[Result] = Future()
        loop = asyncio.get_running_loop()
        loop.call_soon(_run, loop, future, partial(fn, *args, **kwargs))
        return future


def _run(loop: asyncio.AbstractEventLoop, future: Future[Result], fn: Callable[[], Result]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn()
    except BaseException as error:  # noqa: BLE001 - whoever waits for the future hears of it
        future.set_exception(error)
    else:
        future.set_result(result)
    finally:
        asyncio._set_running_loop(loop)  # noqa: SLF001 - for makers of loops; the workflow's leaves none behind
