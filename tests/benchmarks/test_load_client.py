"""The load client alone, against a server that answers as the test says."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.load.client import Load
from benchmarks.load.spec import LoadResult, LoadSpec, percentile, read_journal

Answer = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"


def response(body: bytes, status: bytes = b"201 Created") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    seen = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                seen += 1
                await answer(seen, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()


async def load(port: int, requests: int, **more: float | str) -> LoadResult:
    options = {"connections": 1, "duration_s": 5.0, "drain_s": 0.5, **more}
    spec = LoadSpec(ports=[port], requests="", **options)  # type: ignore[arg-type]
    return await Load(spec, [REQUEST] * requests).run()


async def test_answers_are_counted_by_status_and_word() -> None:
    bodies = [
        response(b'{"status":"confirmed","receipt":"a","submissionId":"1"}'),
        response(b'{"status":"confirmed","receipt":"a","submissionId":"2"}'),
        response(b'{"status":"confirmed","receipt":"c","submissionId":"3","replayed":true}'),
        response(b'{"type":"about:blank","status":409,"code":"already_voted"}', b"409 Conflict"),
        response(b"not json", b"500 Oops"),
    ]

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(bodies[number - 1])

    async with serving(answer) as port:
        result = await load(port, len(bodies))

    assert result.counts == {
        "201/confirmed": 2,
        "201/replayed": 1,
        "409/already_voted": 1,
        "500/unreadable": 1,
    }
    assert (result.sent, result.answered, result.good, result.exhausted) == (5, 5, 2, True)
    assert (result.distinct_receipts, result.distinct_submissions) == (2, 3)


async def test_an_answer_in_pieces_is_read_as_one() -> None:
    async def answer(_: int, writer: asyncio.StreamWriter) -> None:
        for piece in (b"HTTP/1.1 201 Created\r\ncontent-", b'length: 22\r\n\r\n{"status":', b'"confirmed"}'):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    async with serving(answer) as port:
        result = await load(port, 3)

    assert result.counts == {"201/confirmed": 3}


async def test_what_a_broken_connection_had_in_flight_is_unanswered_and_the_load_goes_on() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 2:
            writer.transport.abort()
            raise ConnectionError
        writer.write(response(b'{"status":"confirmed"}'))

    async with serving(answer) as port:
        result = await load(port, 4)

    assert (result.sent, result.answered, result.unanswered, result.good) == (4, 3, 1, 3)


async def test_a_silent_server_ends_the_load_with_unanswered_requests() -> None:
    async def answer(_: int, writer: asyncio.StreamWriter) -> None:
        await writer.drain()

    async with serving(answer) as port:
        result = await load(port, 10, duration_s=0.2, drain_s=0.1)

    assert (result.sent, result.answered, result.unanswered) == (1, 0, 1)


async def test_the_journal_says_what_became_of_each_request(tmp_path: Path) -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 2:
            writer.transport.abort()
            raise ConnectionError
        writer.write(response(b"{}", [b"201 Created", b"", b"202 Accepted", b"503 Later"][number - 1]))

    journal = tmp_path / "journal"
    began = time.perf_counter()
    async with serving(answer) as port:
        await load(port, 4, journal=str(journal))

    entries = read_journal(journal)
    assert [entry.status for entry in entries] == [201, 0, 202, 503]
    assert entries[1].answered == 0
    answered = [entry for entry in entries if entry.status]
    assert all(began < entry.due < entry.answered < time.perf_counter() for entry in answered)


async def test_a_paced_load_counts_the_wait_for_a_free_connection() -> None:
    gate = asyncio.Event()

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            await gate.wait()
        writer.write(response(b'{"status":"confirmed"}'))

    async with serving(answer) as port:
        asyncio.get_running_loop().call_later(0.3, gate.set)
        result = await load(port, 30, rate=100.0)

    assert result.good == 30
    assert result.latency_ms.p50 > 50  # most were due while the only connection waited for the first answer


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 51.0), (0.99, 100.0), (1.0, 100.0)])
def test_percentiles_are_values_that_occurred(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], share) == expected


def test_the_percentile_of_nothing_is_nothing() -> None:
    assert percentile([], 0.99) == 0.0
