"""`comitia up` as a person uses it: another process, two starts on one folder, a power cut and an orderly end."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from comitia.stack import postgres
from comitia.stack.ports import HOST
from comitia.stack.probes import exchange
from comitia.stack.state import StackState, read_state
from integrations.postgres.roles import OWNER
from tests.comitia.stack.processes import alive, family_of, gone

STARTED_WITHIN_S = 60


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="comitia-up-") as name:
        yield Path(name)
        state = read_state(Path(name))
        if state is not None:
            postgres.forget(state.stack_id)


@contextmanager
def running(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`comitia up` on free ports, from when it says that all is up; what it said so far."""
    command = [
        sys.executable,
        "-m",
        "comitia.cli",
        "up",
        "--servers-only",
        "--free-ports",
        "--data",
        str(folder),
        *options,
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMITIA_")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as up:
        try:
            assert up.stdout is not None
            said: list[str] = []
            for line in up.stdout:
                said.append(line)
                if "Ctrl-C" in line:
                    break
            yield up, said
        finally:
            up.kill()


def state_of(folder: Path) -> StackState:
    state = read_state(folder)
    assert state is not None
    return state


async def write(state: StackState) -> None:
    connection = await connect(state)
    await connection.execute(
        "CREATE SCHEMA kept; CREATE TABLE kept.word (word text); INSERT INTO kept.word VALUES ('here')"
    )
    await connection.close()
    assert await exchange(HOST, state.ports["redis"], b"SET word here\r\n") == b"+OK\r\n"


async def connect(state: StackState) -> asyncpg.Connection:
    address = state.database("eu")
    return await asyncpg.connect(
        host=address.host,
        port=address.port,
        database=address.name,
        user=OWNER,
        password=state.password(OWNER),
        ssl="disable",
    )


async def test_data_and_addresses_outlive_a_power_cut_and_no_process_does(folder: Path) -> None:
    with running(folder) as (up, said):
        first = state_of(folder)
        family = family_of(up.pid)
        assert set(first.pids) == {"postgres", "kafka", "temporal", "redis"}
        assert {*first.pids.values(), first.supervisor_pid} <= family
        assert all(alive(pid) for pid in family)
        assert any(f"http://{HOST}:{first.ports['temporal-ui']}" in line for line in said)
        await write(first)
        up.kill()
        up.wait(timeout=STARTED_WITHIN_S)
        assert not gone(family)

    with running(folder) as (up, _):
        second = state_of(folder)
        family = family_of(up.pid)
        assert (second.ports, second.settings) == (first.ports, first.settings)
        connection = await connect(second)
        assert await connection.fetchval("SELECT word FROM kept.word") == "here"
        await connection.close()
        assert await exchange(HOST, second.ports["redis"], b"GET word\r\n") == b"$4\r\nhere\r\n"
        up.send_signal(signal.SIGINT)
        assert up.wait(timeout=STARTED_WITHIN_S) == 0
        assert not gone(family, within_s=1)
    assert (state_of(folder).pids, state_of(folder).supervisor_pid) == ({}, 0)


def test_a_start_that_is_interrupted_leaves_nothing(folder: Path) -> None:
    command = [sys.executable, "-m", "comitia.cli", "up", "--servers-only", "--free-ports", "--data", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        try:
            while not (folder / "logs" / "redis.log").exists():
                assert up.poll() is None
                time.sleep(0.02)
            family = family_of(up.pid)
            up.send_signal(signal.SIGTERM)
            assert up.wait(timeout=STARTED_WITHIN_S) == 0
            assert not gone(family, within_s=1)
        finally:
            up.kill()
