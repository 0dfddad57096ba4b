"""Requests that are made to be read in two ways: by a balancer and here, before a judgement and after it."""

import asyncio
from typing import Any

import pytest

from api.http.lean import LeanRequest, LeanRoute
from domain.priorities import Work
from tests.api.http.test_lean import connection
from tests.api.http.test_refusing import PATH, Gate, bounded
from tests.api.http.wire import BODY, Served, get, post, run, serving

SAMPLED = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRAILERS = b"\r\n".join([b"authorization: Bearer a.b.c", SAMPLED, b"x-forwarded-for: 192.0.2.9"])


def chunked(path: bytes, trailers: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n" % path
    return head + b"2\r\n{}\r\n0\r\n" + trailers + b"\r\n\r\n"


async def answered(served: Served, *pieces: bytes) -> bytes:
    """Send pieces, each once the one before has been read; return all that comes until the server closes."""
    wire = await served.connect()
    for piece in pieces:
        wire.send(piece)
        await wire.writer.drain()
        await (await served.connect()).ask(get("/livez"))
    try:
        return await wire.reader.read()
    except ConnectionResetError:
        return b""


def test_a_trailer_is_no_header() -> None:
    seen: list[list[bytes]] = []

    def note(request: LeanRequest) -> None:
        seen.append([name for name, _ in request.headers])
        request.respond(200, b"{}")

    async def scenario() -> None:
        async with serving([LeanRoute("POST", "/v1/noted", note, work=Work.OPERATION)]) as served:
            wire = await served.connect()
            assert (await wire.ask(chunked(b"/v1/noted", TRAILERS))).status == 200
            assert seen == [[b"host", b"content-type", b"transfer-encoding"]]
            # A sampled trace is one that nobody outside may ask for; in a header the flag is taken away
            answer = await wire.ask(chunked(b"/body", TRAILERS))
            assert (answer.status, answer.body) == (200, b"{}")
            assert "0af7651916cd43dd8448eb211c80319c" not in answer.headers["traceparent"]

    run(scenario())


@pytest.mark.parametrize("path", ["/v1/surveys/s_1/vote", "/body"])
@pytest.mark.parametrize("second", ["host: x", "Host: other.example", "HOST:"])
def test_a_request_names_one_host(path: str, second: str) -> None:
    async def scenario() -> None:
        async with serving() as served:
            answer = await (await served.connect()).ask(post(path, BODY, second))
            assert (answer.status, answer.headers["connection"]) == (400, "close")

    run(scenario())


@pytest.mark.parametrize("path", [b"/v1/surveys/s_1/vote", b"/body"])
@pytest.mark.parametrize("endless", [b"x: ", b"0;"])
def test_what_follows_a_body_has_a_limit(path: bytes, endless: bytes) -> None:
    async def scenario() -> None:
        async with serving() as served:
            wire = await served.connect()
            start = chunked(path, b"")[: -len(b"\r\n\r\n")]
            wire.send(start if endless == b"x: " else start[: -len(b"0\r\n")])
            wire.send(endless)
            for _ in range(64):
                wire.send(b"a" * 16_384)
                await asyncio.sleep(0)
            assert (await wire.answer()).status == 431

    run(scenario())


@pytest.mark.parametrize("target", ["http://x/v1/surveys/s_1/vote", "http://x/v1/surveys/s_1/vote?a=1#b", "/vote#b"])
def test_a_target_of_another_form_is_the_same_route(target: str) -> None:
    def see(request: LeanRequest) -> None:
        request.respond(201, request.path)

    async def scenario() -> None:
        async with serving([LeanRoute("POST", "/vote", see, work=Work.OPERATION)]) as served:
            answer = await (await served.connect()).ask(post(target))
            assert (answer.status, answer.body) == (201, b"/vote" if "surveys" not in target else BODY)

    run(scenario())


@pytest.mark.parametrize("path", ["/body%0A", "/body%0a", "/bo%0Ddy", "/v1/surveys/s_1/vote%0A", "/%7F"])
def test_no_path_has_control_characters(path: str) -> None:
    async def scenario() -> None:
        async with serving() as served:
            assert (await (await served.connect()).ask(post(path))).status == 400

    run(scenario())


@pytest.mark.parametrize("target", [b"/v1/auth/%6Cogins", b"/v1%2Fauth/logins", b"http://x/v1/auth/logins"])
def test_an_odd_target_gets_no_other_place_in_the_order_of_work(target: bytes) -> None:
    async def scenario() -> None:
        protocol, sink = connection(asyncio.get_running_loop())
        work: list[Work] = []

        async def note(scope: dict[str, Any], _receive: Any, _send: Any) -> None:
            work.append(scope["state"]["work"])

        protocol.app = note
        protocol.data_received(b"POST %b HTTP/1.1\r\nhost: x\r\n\r\n" % target)
        await asyncio.gather(*protocol.tasks)
        sink.close()
        assert work == [Work.LOGIN]

    asyncio.run(scenario())


@pytest.mark.parametrize("headers", [("content-length: 4",), ("transfer-encoding: chunked",)])
def test_a_body_that_an_upgrade_hides_is_refused(headers: tuple[str, ...]) -> None:
    lines = ["POST /v1/surveys/s_1/vote HTTP/1.1", "host: x", "connection: upgrade", "upgrade: h2c", *headers]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    body = b"abcd" if headers[0].startswith("content") else b"4\r\nabcd\r\n0\r\n\r\n"

    async def scenario() -> None:
        async with serving(linger_s=0.1) as served:
            answer = await answered(served, head + body, get("/livez"))
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert answer.count(b"HTTP/1.1 ") == 1

    run(scenario())


def test_a_request_that_was_answered_before_its_body_is_answered_once() -> None:
    async def scenario() -> None:
        async with serving(linger_s=0.1) as served:
            head = chunked(b"/livez", b"").partition(b"2\r\n{}")[0].replace(b"POST", b"GET")
            answer = await answered(served, head, b"no chunk\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.count(b"HTTP/1.1 ") == 1

    run(scenario())


LINES = [
    b"content-length : 44",
    b"x: 1\nContent-Length: 44",
    b"x: 1\rContent-Length: 44",
    b"content-length\x0b: 44",
    b"content-length: " + b"4" * 5_000,
]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_under_load_no_request_ends_where_another_reader_sees_its_body(line: bytes) -> None:
    """A balancer that reads these lines leniently sends what it takes for a body: here that is no second request."""
    smuggled = get("/livez")

    async def scenario() -> None:
        async with serving([bounded(Gate())], linger_s=0.1) as served:
            head = b"POST %b HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % (PATH.encode(), line)
            answer = await answered(served, head, smuggled)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert answer.count(b"HTTP/1.1 ") == 1

    run(scenario())
