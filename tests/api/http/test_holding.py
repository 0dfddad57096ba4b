"""What may have to be refused is looked at when the process has time, and soon even where it has none."""

import asyncio
import time

import pytest

from api.http import holding
from api.http.holding import HeldRequests
from api.http.lean import LeanRoute
from api.http.protocol import HELD_BYTES_MAX
from domain.priorities import Work
from tests.api.http.wire import Served, Wire, echo, post, run, serving


class Connection:
    def __init__(self) -> None:
        self.looked_at: list[float] = []

    def look(self) -> None:
        self.looked_at.append(time.perf_counter())


def keep_busy(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def test_a_process_that_has_time_looks_at_everything_in_turn_and_once() -> None:
    held, connections = HeldRequests(), [Connection() for _ in range(300)]
    for connection in connections:
        held.add(connection)
    assert len(held) == 300
    async with asyncio.timeout(30):
        while held:
            await asyncio.sleep(0.001)
    assert [len(connection.looked_at) for connection in connections] == [1] * 300
    looked_at = [connection.looked_at[0] for connection in connections]
    assert looked_at == sorted(looked_at)  # what has waited longest goes first
    await asyncio.sleep(0.1)
    assert all(len(connection.looked_at) == 1 for connection in connections)
    held.add(connections[0])  # and it begins again after everything was looked at
    async with asyncio.timeout(30):
        while len(connections[0].looked_at) < 2:
            await asyncio.sleep(0.001)


async def test_a_process_without_time_leaves_them_alone_for_a_moment_and_no_longer() -> None:
    held, connection = HeldRequests(), Connection()
    began = time.perf_counter()
    held.add(connection)
    async with asyncio.timeout(30):
        while not connection.looked_at:
            keep_busy(0.005)  # every timer comes late
            await asyncio.sleep(0)
    assert connection.looked_at[0] - began >= 0.025


def cold() -> LeanRoute:
    """Return a route of a full gate that lets `cold` in, after a look."""

    class Gate:
        full = True

        def refuses(self, parameter: str, authorization: bytes) -> bool:
            del authorization
            return parameter != "cold"

    return LeanRoute("POST", "/v1/bounded/{id}", echo, body_limit_bytes=1000, work=Work.VOTE, gate=Gate())


TAKEN, REFUSED = post("/v1/bounded/cold"), post("/v1/bounded/hot")


@pytest.fixture
def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is held stay so unless something else calls for a look."""
    monkeypatch.setattr(holding, "_LOOK_EVERY_S", 60.0)


async def held(served: Served, wire: Wire, request: bytes) -> None:
    """Send a request, and return when it is held: what came later on other connections has been seen as well."""
    wire.send(request)
    for _ in range(3):
        await served.connect()
        await asyncio.sleep(0.02)


@pytest.mark.usefixtures("nobody_looks")
@pytest.mark.parametrize(("request_bytes", "status"), [(TAKEN, 201), (REFUSED, 503)])
def test_what_is_held_is_answered_when_its_client_sends_no_more(request_bytes: bytes, status: int) -> None:
    async def scenario() -> None:
        async with serving([cold()]) as served:
            wire = await served.connect()
            await held(served, wire, request_bytes)
            wire.writer.write_eof()
            assert (await wire.answer()).status == status
            assert await wire.closed()

    run(scenario())


@pytest.mark.usefixtures("nobody_looks")
def test_no_client_makes_a_process_hold_more_than_it_would_read() -> None:
    async def scenario() -> None:
        async with serving([cold()]) as served:
            wire = await served.connect()
            head = TAKEN.partition(b"\r\n\r\n")[0].replace(b"content-length: ", b"content-length: 9999")
            await held(served, wire, head + b"\r\n\r\n")
            wire.send(bytes(HELD_BYTES_MAX))
            assert (await wire.answer()).status == 413

    run(scenario())


def test_what_came_behind_a_held_request_is_answered_in_its_turn() -> None:
    async def scenario() -> None:
        async with serving([cold()]) as served:
            wire = await served.connect()
            wire.send(TAKEN)
            await wire.writer.drain()
            wire.send(REFUSED + TAKEN[:30])
            await wire.writer.drain()
            wire.send(TAKEN[30:])
            assert [(await wire.answer()).status for _ in range(3)] == [201, 503, 201]

    run(scenario())


@pytest.fixture
def looks_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "_LOOK_EVERY_S", 0.5)


@pytest.mark.usefixtures("looks_late")
def test_a_connection_whose_request_is_held_is_not_closed_to_make_room() -> None:
    async def scenario() -> None:
        async with serving([cold()], connections=1) as served:
            wire = await served.connect()
            wire.send(TAKEN)
            await asyncio.sleep(0.1)
            assert (await (await served.connect()).answer()).status == 503  # there is nobody to close
            assert (await wire.answer()).status == 201

    run(scenario())


@pytest.mark.usefixtures("looks_late")
@pytest.mark.parametrize(("request_bytes", "status"), [(TAKEN, 201), (REFUSED, 503)])
def test_a_process_that_stops_answers_what_it_held_and_that_is_all(request_bytes: bytes, status: int) -> None:
    async def scenario() -> None:
        async with serving([cold()], idle_s=0.1) as served:
            wire = await served.connect()
            wire.send(request_bytes)
            await asyncio.sleep(0.1)
            served.stop.set()
            answer = await wire.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")

    run(scenario())
