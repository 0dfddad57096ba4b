"""Clients that are slow, silent, huge or many: the process stays, and others are served meanwhile."""

import asyncio
import resource
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import uvloop
from fastapi import Depends, FastAPI
from starlette.responses import StreamingResponse

from api.http.descriptors import RESERVE, connections_within, raise_limit
from api.http.held_places import holding
from api.http.lean import LeanRoute
from domain.limits import Policy, Subject
from domain.priorities import RULES, Work
from integrations.telemetry.telemetry import Telemetry
from tests.api.http.few_descriptors import LEFT
from tests.api.http.wire import BODY, PIECE, Answer, Served, Wire, get, post, run, serving, until
from tests.limits_world import lonely_limits

IDLE = 2000
ROOT = Path(__file__).parents[3]


@pytest.fixture
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_limit()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def everyone_else_is_served(served: Served, times: int = 10) -> None:
    wires = [await served.connect() for _ in range(5)]
    for number in range(times):
        body = b'{"n":%d}' % number
        answers = await asyncio.gather(*(wire.ask(post(body=body)) for wire in wires))
        assert [(answer.status, answer.body) for answer in answers] == [(201, body)] * len(wires)
    for wire in wires:
        wire.writer.close()


async def drip(wire: Wire, data: bytes) -> Answer:
    """Send a byte at a time until there is an answer."""
    answer = asyncio.ensure_future(wire.answer())
    for byte in data:
        if answer.done():
            break
        wire.send(bytes([byte]))
        await asyncio.sleep(0.02)
    return await answer


@pytest.mark.parametrize("idle", [IDLE // 4, pytest.param(IDLE, marks=pytest.mark.long)])
def test_thousands_of_silent_connections_and_hundreds_of_slow_ones(many_files: None, idle: int) -> None:
    # More than the kernel takes to send for a client that reads nothing
    big = LeanRoute("GET", "/big", lambda request: request.respond(200, b"x" * 12_000_000), work=Work.OPERATION)

    async def scenario() -> None:
        async with serving([big], head_s=0.5, request_s=0.7, write_s=0.5, keep_alive_s=60, linger_s=5) as served:
            for _ in range(0, idle, 100):
                await asyncio.gather(*(served.connect() for _ in range(100)))
            slow = [await served.connect() for _ in range(60)]
            heads = [asyncio.create_task(drip(wire, b"POST /v1/held HTTP/1.1\r\n" + b"x" * 400)) for wire in slow[:20]]
            bodies = [asyncio.create_task(drip(wire, post("/v1/held", b"x" * 400))) for wire in slow[20:40]]
            for wire in slow[40:]:
                wire.transport.pause_reading()  # and never read
                wire.send(get("/big"))
            huge = [await served.connect() for _ in range(20)]
            for wire in huge:
                wire.send(post(body=b"x" * 50_000))
            await everyone_else_is_served(served)
            assert {answer.status for answer in await asyncio.gather(*heads, *bodies)} == {408}
            assert {(await wire.answer()).status for wire in huge} == {413}
            # Who reads nothing is cut off; of the answer no more is kept than what was already on its way
            while (served.connections() or 0) > idle + 10:
                await asyncio.sleep(0.05)
            await everyone_else_is_served(served)

    async def bounded() -> None:
        async with asyncio.timeout(120):
            await scenario()

    uvloop.run(bounded())


FILE = get("/v1/surveys/s_1/ballots/400")  # 25 MB: more than the kernel takes for a client that does not read


async def asking_for_a_file(served: Served) -> Wire:
    """Ask for it with little room to receive, as a client has that is far away."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    sock.connect(("127.0.0.1", served.port))
    wire = Wire(*await asyncio.open_connection(sock=sock, limit=32 * 1024))
    served.wires.append(wire)
    wire.send(FILE)
    return wire


async def read_on(wire: Wire, *, every_s: float) -> int:
    """Take what is there, or 2 KB now and then, until nothing more comes; return how much came."""
    taken = 0
    while taken < 400 * PIECE:
        try:
            piece = await wire.reader.read(2000 if every_s else PIECE)
        except ConnectionError:
            break
        if not piece:
            break
        taken += len(piece)
        await asyncio.sleep(every_s)
    return taken


def test_whoever_reads_files_slowly_takes_no_place_of_other_readers_and_is_ended(many_files: None) -> None:
    places = RULES[Work.DOWNLOAD].in_flight_max

    async def scenario() -> None:
        async with serving(write_s=5.0, write_bytes_per_s=1_000_000) as served:
            assert await read_on(await asking_for_a_file(served), every_s=0.0) >= 400 * PIECE
            idle = [await asking_for_a_file(served) for _ in range(places - 1)]
            for wire in idle:
                wire.transport.pause_reading()
            slow = asyncio.create_task(read_on(await asking_for_a_file(served), every_s=0.02))
            reading = {"work": Work.DOWNLOAD.value}
            value = served.telemetry.registry.get_sample_value
            await until(lambda: value("work_in_flight", reading) == places)
            one = await served.connect()
            refused = await one.ask(FILE)
            assert (refused.status, refused.headers["retry-after"]) in {(503, str(seconds)) for seconds in (1, 2, 3)}
            assert (await one.ask(get("/client"))).status == 200
            await until(lambda: value("http_connections_cut_off_total") == places)
            slow.cancel()
            assert (await (await served.connect()).ask(get("/v1/surveys/s_1/ballots/1"))).body == bytes(PIECE)

    run(scenario(), within_s=60)  # a hundred connections, on a machine that is busy


def test_an_address_reads_so_many_files_at_once_and_one_more_when_one_is_read() -> None:
    async def scenario() -> None:
        ends = asyncio.Event()

        def with_file(app: FastAPI, telemetry: Telemetry) -> None:
            held = holding(lonely_limits(telemetry.registry), Policy("test-held", Subject.ADDRESS, 2, 1))

            @app.get("/file", dependencies=[Depends(held)])
            async def file() -> StreamingResponse:
                async def pieces() -> AsyncIterator[bytes]:
                    yield b"one"
                    await ends.wait()

                return StreamingResponse(pieces())

        async with serving(extend=with_file) as served:
            first, second, third = [await served.connect() for _ in range(3)]
            for wire in (first, second):
                wire.send(get("/file"))
                await wire.reader.readuntil(b"one")
            answer = await third.ask(get("/file"))
            assert (answer.status, answer.headers["retry-after"]) == (429, "30")
            assert answer.headers["ratelimit-policy"] == '"test-held";q=2;qu="concurrent-requests"'
            assert answer.headers["ratelimit"] == '"test-held";r=0'
            first.reset()
            while not await is_reading(served):  # its place is free a moment after its connection is
                await asyncio.sleep(0.01)
            ends.set()

    run(scenario())


async def is_reading(served: Served) -> bool:
    """Tell whether one more may read the file."""
    wire = await served.connect()
    wire.send(get("/file"))
    return b" 200 " in await wire.reader.readline()


@asynccontextmanager
async def few_descriptors() -> AsyncIterator[tuple[int, psutil.Process]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.api.http.few_descriptors", cwd=ROOT, stdin=-1, stdout=-1, stderr=-1
    )
    assert process.stdout is not None
    try:
        line = b""
        while not line.strip().isdigit():  # the server's own log comes before
            line = await process.stdout.readline()
            assert line, (await process.communicate())[1].decode()
        yield int(line), psutil.Process(process.pid)
        assert process.returncode is None
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        await asyncio.wait_for(process.wait(), 30)


async def served_at(port: int) -> tuple[Wire | None, int]:
    """Ask for a sign of life; return the connection and 200, or what became of it."""
    wire = None
    try:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
        async with asyncio.timeout(10):
            return wire, (await wire.ask(get("/livez"))).status
    except (ConnectionError, asyncio.IncompleteReadError):
        if wire is not None:
            wire.writer.close()
        return None, 0


def test_a_process_without_descriptors_serves_whom_it_has_and_recovers() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(90), few_descriptors() as (port, process):
            asked = [await served_at(port) for _ in range(2 * LEFT)]
            served = [wire for wire, status in asked if wire is not None and status == 200]
            try:
                assert 10 <= len(served) <= LEFT + 2
                for wire in served:
                    assert (await wire.ask(post(body=BODY))).status == 201
                before = process.cpu_times()
                await asyncio.sleep(1)
                after = process.cpu_times()
                # it does not spin on what it cannot do
                assert after.user + after.system - before.user - before.system < 0.8
            finally:
                for wire in served:
                    wire.writer.close()
            while (await served_at(port))[1] != 200:
                await asyncio.sleep(0.1)

    uvloop.run(scenario())


def test_connections_stay_within_the_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1000, hard) if hard != resource.RLIM_INFINITY else 1000, hard))
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert connections_within(20_000) == limit - RESERVE
        assert connections_within(100) == 100
        assert connections_within(2) == 2
        raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
