"""Who was refused is read from again when the process has time, and soon even where it has none."""

import asyncio
import time

from api.http.resting import RestingConnections


class Connection:
    def __init__(self) -> None:
        self.read_at: list[float] = []

    def read_again(self) -> None:
        self.read_at.append(time.perf_counter())


def keep_busy(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def test_a_process_that_has_time_reads_from_everybody_at_once_and_once() -> None:
    resting, connections = RestingConnections(), [Connection() for _ in range(300)]
    for connection in connections:
        resting.rest(connection)
    assert len(resting) == 300
    async with asyncio.timeout(30):
        while resting:
            await asyncio.sleep(0.001)
    assert [len(connection.read_at) for connection in connections] == [1] * 300
    read_at = [connection.read_at[0] for connection in connections]
    assert read_at == sorted(read_at)  # whoever has rested longest goes first
    await asyncio.sleep(0.1)
    assert all(len(connection.read_at) == 1 for connection in connections)
    resting.rest(connections[0])  # and it begins again after everybody was read from
    async with asyncio.timeout(30):
        while len(connections[0].read_at) < 2:
            await asyncio.sleep(0.001)


async def test_a_process_without_time_leaves_them_alone_for_a_moment_and_no_longer() -> None:
    resting, connection = RestingConnections(), Connection()
    began = time.perf_counter()
    resting.rest(connection)
    async with asyncio.timeout(30):
        while not connection.read_at:
            keep_busy(0.005)  # every timer comes late
            await asyncio.sleep(0)
    rested_s = connection.read_at[0] - began
    assert rested_s >= 0.025
