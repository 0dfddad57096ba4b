"""A refusal is an answer like any other: its connection goes on, whichever way the request came in."""

import json
import tracemalloc

import pytest
from prometheus_client import CollectorRegistry

from api.http.lean import LeanRequest, LeanRoute, LeanRoutes, by_framework
from api.http.refusing import Refusals
from api.http.request_ids import RequestIds
from api.http.shedding import LoadShedder
from domain.priorities import Work
from integrations.telemetry.work_metrics import WorkMetrics
from tests.api.http.wire import BODY, Served, get, post, run, serving, until

PATH = "/v1/bounded/hot"


class Gate:
    full = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []

    def refuses(self, parameter: str, authorization: bytes) -> bool:
        self.asked.append((parameter, authorization))
        return parameter == "hot"


def bounded(gate: Gate) -> LeanRoute:
    def answer(request: LeanRequest) -> None:
        request.respond(201, request.body)

    return LeanRoute("POST", "/v1/bounded/{id}", answer, body_limit_bytes=1000, work=Work.VOTE, gate=gate)


PLAIN = post(PATH)
CHUNKED = b"POST /v1/bounded/hot HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [PLAIN],
        [PLAIN[:10], PLAIN[10:]],
        [PLAIN[:-3], PLAIN[-3:]],
        [post(PATH, b"")],
        [post(PATH + "?a=1")],
        [CHUNKED],
        [post(PATH, BODY, "Connection: keep-alive")],
        [post(PATH, BODY, "authorization: Bearer a.b.c")],
        [post(PATH, BODY, "authorization: Bearer a.b.c", "Authorization: Bearer d.e.f")],
    ],
)
def test_a_refusal_says_when_to_come_again_and_the_connection_goes_on(pieces: list[bytes]) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with serving([bounded(gate)]) as served:
            wire = await served.connect()
            for _ in range(2):
                for piece in pieces[:-1]:
                    wire.send(piece)
                    await wire.writer.drain()
                    other = await served.connect()
                    await other.ask(get("/livez"))  # the first piece has been read
                answer = await wire.ask(pieces[-1])
                assert answer.status == 503
                assert answer.headers["retry-after"] in {"1", "2", "3"}
                assert "connection" not in answer.headers
                assert answer.headers["cache-control"] == "no-store"
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["x-request-id"]
                assert json.loads(answer.body)["code"] == "overloaded"
            gate.full = False
            assert (await wire.ask(PLAIN)).body == BODY
            assert served.count("POST", "/v1/bounded/{id}", "503") == 2

    run(scenario())


def test_the_gate_hears_what_the_request_claims() -> None:
    async def scenario() -> None:
        gate = Gate()
        async with serving([bounded(gate)]) as served:
            wire = await served.connect()
            await wire.ask(post(PATH, BODY, "x-other: 1", "Authorization:  Bearer a.b.c"))
            assert (await wire.ask(post("/v1/bounded/cold"))).status == 201
            await wire.ask(post(PATH, BODY, "x-authorization: no"))
            # Who is not refused by the look at the bytes is asked for again behind the parser
            assert gate.asked == [("hot", b"Bearer a.b.c"), ("cold", b""), ("cold", b""), ("hot", b"")]

    run(scenario())


async def test_what_is_remembered_of_requests_has_a_bound() -> None:
    gate, shedder = Gate(), LoadShedder(WorkMetrics(CollectorRegistry()))
    refusals = Refusals(LeanRoutes([bounded(gate)]), shedder, RequestIds())
    tracemalloc.start()
    try:
        for number in range(4000):
            assert refusals.of(post(f"{PATH}?a={number}", BODY, f"x-{number}{'n' * 100}: 1"))
            gate.asked.clear()
        remembered_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert remembered_bytes < 500_000  # 256 lines and 256 shapes of heads at most


def test_refusals_keep_their_place_in_a_pipeline() -> None:
    async def scenario() -> None:
        async with serving([bounded(Gate())]) as served:
            wire = await served.connect()
            wire.send(post("/v1/held") + PLAIN + post("/v1/bounded/cold", b"2") + PLAIN + get("/slow/0"))
            await served.holds(1)
            served.held[0].respond(200, b"1")
            assert [(await wire.answer()).status for _ in range(5)] == [200, 503, 201, 503, 200]

    run(scenario())


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /v1/bounded/hot HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400),
        (b"POST /v1/bounded/hot HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc", 400),
        (b"POST /v1/bounded/hot HTTP/1.1\r\ncontent-length: 2x\r\n\r\nab", 400),
        (b"POST /v1/bounded/hot HTTP/1.1\r\nbad header\r\ncontent-length: 2\r\nx: 1\x00\r\n\r\nab", 400),
    ],
)
def test_what_cannot_be_read_is_not_refused_for_load(request_bytes: bytes, status: int) -> None:
    async def scenario() -> None:
        async with serving([bounded(Gate())]) as served:
            wire = await served.connect()
            answer = await wire.ask(request_bytes)
            assert answer.status in {status, 503}
            if answer.status == 503:  # the look at the bytes saw one whole request: nothing may be left of it
                assert (await wire.ask(post("/v1/bounded/cold"))).status == 201

    run(scenario())


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_route_of_the_framework_is_refused_like_a_lean_one_and_else_answered_by_the_framework(pieces: int) -> None:
    async def scenario() -> None:
        gate = Gate()
        gate.refuses = lambda parameter, authorization: gate.full  # type: ignore[method-assign]
        route = LeanRoute("POST", "/body", by_framework, work=Work.LOGIN, gate=gate)
        async with serving([route]) as served:
            wire, request = await served.connect(), post("/body")
            half = len(request) // pieces
            for _ in range(2):
                wire.send(request[:half])
                await wire.writer.drain()
                other = await served.connect()
                await other.ask(get("/livez"))
                if pieces > 1:
                    wire.send(request[half:])
                answer = await wire.answer()
                assert (answer.status, json.loads(answer.body)["code"]) == (503, "overloaded")
                assert answer.headers["retry-after"] in {"1", "2", "3"}
                assert "connection" not in answer.headers
            gate.full = False
            assert (await wire.ask(request)).status == 200
            assert served.count("POST", "/body", "503") == 2
            assert served.count("POST", "/body", "200") == 1

    run(scenario())


@pytest.mark.parametrize("last", [post(PATH, BODY, version="1.0"), post(PATH, BODY, "connection: close")])
def test_who_wants_to_leave_is_refused_and_let_go(last: bytes) -> None:
    async def scenario() -> None:
        async with serving([bounded(Gate())]) as served:
            wire = await served.connect()
            answer = await wire.ask(last)
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert await wire.closed()

    run(scenario())


def reads(served: Served) -> float | None:
    return served.telemetry.registry.get_sample_value("work_in_flight", {"work": "read"})


def test_requests_of_the_framework_are_counted_until_they_end() -> None:
    async def scenario() -> None:
        async with serving() as served:
            wires = [await served.connect() for _ in range(64)]
            for wire in wires:
                wire.send(get("/slow/20"))
            await until(
                lambda: (served.telemetry.registry.get_sample_value("work_in_flight", {"work": "read"}) or 0) >= 64
            )
            other = await served.connect()
            assert (await other.ask(get("/livez"))).status == 200
            for wire in wires:
                wire.reset()  # whose reads are then stopped: nobody waits for them
            await until(lambda: reads(served) == 0)

    run(scenario())
