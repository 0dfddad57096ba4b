"""Spawned processes are replaced when one dies, and end with whoever spawned them."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from integrations.spawned import SpawnedProcesses

_PARENT = """
import os, sys, time
from integrations.spawned import SpawnedProcesses

processes = SpawnedProcesses(1)
print(processes.submit(os.getpid).result(), flush=True)
processes.submit(time.sleep, 60)
time.sleep(60)
"""
_GONE_WITHIN_S = 10


def test_one_that_dies_takes_its_work_with_it_and_the_next_piece_finds_another() -> None:
    processes = SpawnedProcesses(1)
    try:
        first = processes.submit(os.getpid).result()
        running = processes.submit(time.sleep, 60)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(BrokenProcessPool):
            running.result()
        assert processes.submit(os.getpid).result() != first
    finally:
        processes.shutdown()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not tell children")
def test_they_end_with_a_parent_that_was_killed() -> None:
    with subprocess.Popen((sys.executable, "-c", _PARENT), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert _lives(child)
        parent.kill()

    deadline = time.monotonic() + _GONE_WITHIN_S
    while _lives(child):
        assert time.monotonic() < deadline, "it outlives its parent"
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
