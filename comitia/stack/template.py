"""Applications forked from one process that has imported what all of them need.

Sixteen interpreters that each import the same for more than a second are most of what the start of a platform takes.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from comitia.stack.process import ManagedProcess, StartError

NAME = "template"


class ForkedProcess:
    """A process that the template forked: like one of asyncio's, whose parent is another."""

    def __init__(self) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self._told = asyncio.Event()
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        """Wait for its end; return the exit status, negative for a signal."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal. Raises ProcessLookupError where it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    async def begun(self) -> None:
        """Wait until it runs, or has ended before it could say so."""
        await self._told.wait()

    def tell(self, *, pid: int | None = None, status: int | None = None) -> None:
        """Take down what the template or the process itself says."""
        self.pid = self.pid if pid is None else pid
        if status is not None:
            self.returncode = status
            self._ended.set()
        self._told.set()


class Template:
    """The template process, started with its first order; what it forked ends with it, and it with us.

    `modules` are what it imports, and `environment` its own variables, which no child keeps.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._modules, self._environment, self._log = tuple(modules), environment, log
        self._process: ManagedProcess | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._forked: dict[int, ForkedProcess] = {}
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The id of the template process while it runs."""
        return self._process.pid if self._process else None

    async def fork(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, death_signal: signal.Signals
    ) -> ForkedProcess:
        """Return a new process that runs as `python -m` with these arguments would, its output at the end of `log`.

        Raises:
            StartError: the template is gone, and with it whatever it forked.
        """
        async with self._starting:
            if self._writer is None:
                await self._start()
        writer = self._writer
        assert writer is not None
        number, forked = next(self._numbers), ForkedProcess()
        self._forked[number] = forked
        order = {
            "id": number,
            "arguments": list(arguments),
            "environment": dict(environment),
            "log": str(log),
            "death_signal": int(death_signal),
        }
        writer.write(json.dumps(order).encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # told by who reads
            await writer.drain()
        await forked.begun()
        if not forked.pid:
            raise StartError(f"{' '.join(arguments)} was not forked")
        return forked

    async def close(self) -> None:
        """End the template, after what it forked was stopped. Safe to repeat."""
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            await self._process.stop()
        if self._reading is not None:
            await self._reading

    async def _start(self) -> None:
        ours, its = socket.socketpair()
        with its:
            command = (sys.executable, "-m", "comitia.stack.template_process", str(its.fileno()), *self._modules)
            self._process = ManagedProcess(
                NAME, command, self._log, environment=self._environment, inherited=(its.fileno(),)
            )
            await self._process.start()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.create_task(self._read(reader), name=NAME)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                told = json.loads(line)
                forked = self._forked[told["id"]]
                forked.tell(pid=told.get("pid"), status=told.get("status"))
                if forked.returncode is not None:
                    del self._forked[told["id"]]
        self._starting_anew()

    def _starting_anew(self) -> None:
        """The template is gone: the kernel ends what it forked, and the next order starts another."""
        self._writer = None
        for forked in self._forked.values():
            forked.tell(status=-signal.SIGKILL)
        self._forked.clear()
