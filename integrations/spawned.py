"""Processes for arithmetic that one core cannot do in time, and that threads would do one after the other."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

from integrations.death import die_with

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class SpawnedProcesses(Executor):
    """One process per core, from the first piece of work on; all of them anew after one has died.

    Spawned, not forked: ours has threads, connections and keys that a copy must not have. They end with us however we
    end. Use it from the thread that lives as long as the process: the kernel takes that one's end for ours.
    """

    def __init__(self, processes: int = 0) -> None:
        """`processes` 0 is one per core that we may use."""
        self.processes = processes or len(os.sched_getaffinity(0))
        self._pool: ProcessPoolExecutor | None = None

    def submit(
        self, fn: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        """Run a function of a module. The future raises `BrokenProcessPool` where its process dies before the end."""
        try:
            return self._opened().submit(fn, *args, **kwargs)
        except BrokenProcessPool:  # one died since the last time
            self.shutdown(wait=False)
            return self._opened().submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as inherited
        """End the processes, and whatever they know; the next piece of work starts others."""
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)
            self._pool = None

    def _opened(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.processes, mp_context=get_context("spawn"), initializer=_end_with, initargs=(os.getpid(),)
            )
        return self._pool


def _end_with(parent: int) -> None:
    """End this process with its parent: it would wait for work for ever."""
    die_with(parent, signal.SIGKILL)()
