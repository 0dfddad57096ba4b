import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.http.lean import LeanRequest, LeanRoute
from domain.errors import DomainError, ErrorCode
from tests.api.http.wire import BODY, Served, get, post, run, serving, until

Scenario = Callable[[], Coroutine[Any, Any, None]]


def on_uvloop(scenario: Scenario) -> Callable[[], None]:
    def test() -> None:
        run(scenario())

    test.__name__ = scenario.__name__
    return test


@on_uvloop
async def test_keep_alive_answers_each_with_its_own() -> None:
    async with serving() as served:
        wire = await served.connect()
        for number in range(5):
            answer = await wire.ask(post(body=b'{"n":%d}' % number))
            assert (answer.status, answer.body) == (201, b'{"n":%d}' % number)
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "connection" not in answer.headers
            assert answer.headers["date"]


@on_uvloop
async def test_what_a_handler_sees() -> None:
    seen: list[LeanRequest] = []

    def look(request: LeanRequest) -> None:
        seen.append(request)
        request.respond(200, b"{}", extra_headers=b"x-own: 1\r\n")

    async with serving([LeanRoute("PUT", "/v1/surveys/{id}/answers/finish", look, cacheable=True)]) as served:
        wire = await served.connect()
        wire.send(
            b"PUT /v1/surveys/s%5Fa/answers/finish?a=1&b=%20 HTTP/1.1\r\nHost: x\r\nX-Request-ID: caller-0001\r\n"
            b"Authorization: Bearer t\r\nX-Twice: 1\r\nx-twice: 2\r\nContent-Length: 2\r\n\r\nhi"
        )
        answer = await wire.answer()
        (request,) = seen
        assert (request.method, request.path, request.query) == (
            "PUT",
            b"/v1/surveys/s%5Fa/answers/finish",
            b"a=1&b=%20",
        )
        assert (request.parameter, request.body, request.client) == ("s_a", b"hi", "127.0.0.1")
        assert request.get(b"authorization") == b"Bearer t"
        assert request.get(b"x-twice") == b"1"
        assert request.get(b"absent") is None
        assert request.request_id == answer.headers["x-request-id"] == "caller-0001"
        assert answer.headers["x-own"] == "1"
        assert "cache-control" not in answer.headers


@pytest.mark.parametrize("offered", ["short", "x" * 65, "with space", 'quote"quote', "ünïcödé-id"])
def test_odd_request_ids_are_replaced(offered: str) -> None:
    async def scenario() -> None:
        async with serving() as served:
            wire = await served.connect()
            first = await wire.ask(post("/v1/surveys/s_1/vote", BODY, f"x-request-id: {offered}"))
            second = await wire.ask(post())
            assert first.headers["x-request-id"] not in {offered, second.headers["x-request-id"]}
            assert len(first.headers["x-request-id"]) >= 16

    run(scenario())


@on_uvloop
async def test_pipelined_requests_are_answered_in_turn() -> None:
    async with serving() as served:
        wire = await served.connect()
        wire.send(post("/v1/held") + get("/slow/0") + post("/v1/held", b'{"n":2}') + post(body=b'{"n":3}'))
        await served.holds(1)
        wire.send(get("/livez"))
        assert await served_nothing_more(served)
        served.held[0].respond(200, b"first")
        assert (await wire.answer()).body == b"first"
        assert json.loads((await wire.answer()).body) == {"slept": 0.0}
        await served.holds(2)
        assert served.held[1].body == b'{"n":2}'
        served.held[1].respond(202, b"second")
        assert [(await wire.answer()).body for _ in range(3)] == [b"second", b'{"n":3}', b"ok\n"]


async def served_nothing_more(served: Served) -> bool:
    other = await served.connect()
    await other.ask(post())  # a whole round trip of the loop has passed
    return len(served.held) == 1


@on_uvloop
async def test_a_request_that_arrives_in_halves_behind_another() -> None:
    async with serving() as served:
        wire = await served.connect()
        for second in (post(body=b"second"), post("/body", b'{"n":2}')):
            wire.send(post("/v1/held") + second[:-3])
            await served.holds(1)
            served.held.pop().respond(200, b"first")
            assert (await wire.answer()).body == b"first"
            assert (await wire.ask(second[-3:])).status in {200, 201}


@on_uvloop
async def test_a_long_pipeline_behind_a_slow_request_needs_no_stack() -> None:
    async with serving() as served:
        wire = await served.connect()
        wire.send(post("/v1/held") + post(body=b"{}") * 3000)
        await served.holds(1)
        served.held[0].respond(200, b"first")
        statuses = [(await wire.answer()).status for _ in range(3001)]
        assert statuses == [200, *[201] * 3000]


@on_uvloop
async def test_chunked_body() -> None:
    async with serving() as served:
        wire = await served.connect()
        head = b"POST /v1/surveys/s_1/vote HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        assert (await wire.ask(head + b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\ntrailer: 1\r\n\r\n")).body == b"abcdefg"
        assert (await wire.ask(post())).body == BODY


@on_uvloop
async def test_arriving_byte_by_byte() -> None:
    async with serving() as served:
        wire = await served.connect()
        for byte in post() + post(body=b"2"):
            wire.send(bytes([byte]))
            await asyncio.sleep(0)
        assert [(await wire.answer()).body for _ in range(2)] == [BODY, b"2"]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("behind", [False, True])
def test_a_body_over_the_limit(chunked: bool, behind: bool) -> None:  # noqa: FBT001
    async def scenario() -> None:
        async with serving() as served:
            wire = await served.connect()
            if behind:
                wire.send(post("/v1/held"))
                await served.holds(1)
            big = b"x" * 5000
            if chunked:
                head = b"POST /v1/surveys/s_1/vote HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
                wire.send(head + b"1388\r\n" + big + b"\r\n0\r\n\r\n")
            else:
                wire.send(post(body=big))
            if behind:
                served.held[0].respond(200, b"first")
                assert (await wire.answer()).body == b"first"
            answer = await wire.answer()
            assert (answer.status, json.loads(answer.body)["code"]) == (413, "payload_too_large")
            assert answer.headers["connection"] == "close"
            assert await wire.closed()

    run(scenario())


@on_uvloop
async def test_a_body_without_end_is_cut_off() -> None:
    async with serving(linger_s=0.1) as served:
        wire = await served.connect()
        wire.send(b"POST /v1/surveys/s_1/vote HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        assert (await wire.ask(b"400\r\n" + b"x" * 1024 + b"\r\n")).status == 413
        with pytest.raises(ConnectionError):  # noqa: PT012
            while True:
                wire.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
                await wire.writer.drain()
                await asyncio.sleep(0.005)


@on_uvloop
async def test_expect_continue() -> None:
    async with serving() as served:
        wire = await served.connect()
        head = b"POST /v1/surveys/s_1/vote HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
        wire.send(head % 3)
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await wire.ask(b"abc")).body == b"abc"
        wire.send(post("/v1/held"))
        await served.holds(1)
        wire.send(head % 2)
        served.held[0].respond(200, b"")
        assert (await wire.answer()).status == 200
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await wire.ask(b"de")).body == b"de"
        assert (await wire.ask(head % 2000)).status == 413
        assert await wire.closed()


@pytest.mark.parametrize(
    "request_bytes", [post(version="1.0"), post("/v1/surveys/s_1/vote", BODY, "connection: close")]
)
def test_no_keep_alive(request_bytes: bytes) -> None:
    async def scenario() -> None:
        async with serving() as served:
            wire = await served.connect()
            answer = await wire.ask(request_bytes)
            assert (answer.status, answer.headers["connection"]) == (201, "close")
            assert await wire.closed()

    run(scenario())


@on_uvloop
async def test_a_half_closed_client_gets_its_answers() -> None:
    async with serving() as served:
        wire = await served.connect()
        wire.send(post("/v1/held") + post(body=b"2") + get("/slow/0") + b"POST /v1/held HTTP/1.1\r\ncontent-le")
        wire.writer.write_eof()
        await served.holds(1)
        await asyncio.sleep(0.01)
        served.held[0].respond(200, b"1")
        assert [(await wire.answer()).body for _ in range(3)] == [b"1", b"2", b'{"slept":0.0}']
        assert await wire.closed()
        other = await served.connect()
        other.send(b"POST /v1/held HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc")
        other.writer.write_eof()
        assert await other.closed()


@on_uvloop
async def test_a_half_closed_client_gets_no_answer_to_half_a_request() -> None:
    async with serving() as served:
        wire = await served.connect()
        wire.send(post("/v1/held") + post("/v1/held", b'{"n":2}')[:-2])
        await served.holds(1)
        wire.writer.write_eof()
        await asyncio.sleep(0.01)
        served.held[0].respond(200, b"1")
        assert (await wire.answer()).body == b"1"
        assert await wire.closed()
        assert len(served.held) == 1


@on_uvloop
async def test_half_an_answer_ends_the_connection() -> None:
    async with serving() as served:
        wire = await served.connect()
        wire.send(get("/half"))
        assert (await wire.answer()).status == 200
        assert await wire.reader.read() == b"3\r\none\r\n"
        assert served.count("GET", "/half", "500") == 1


@on_uvloop
async def test_slow_clients_are_told_and_closed() -> None:
    async with serving(head_s=0.05, request_s=0.1, keep_alive_s=0.05) as served:
        for start in (b"POST /v1/held HTTP/1.1\r\nhos", post("/v1/held")[:-3], post("/body")[:-3]):
            wire = await served.connect()
            answer = await wire.ask(start)
            assert (answer.status, json.loads(answer.body)["code"]) == (408, "request_timeout")
            assert await wire.closed()
        silent = await served.connect()
        assert await silent.closed()
        idle = await served.connect()
        assert (await idle.ask(post())).status == 201
        assert await idle.closed()
        waiting = await served.connect()
        waiting.send(post("/v1/held"))
        await served.holds(1)
        await asyncio.sleep(0.2)
        served.held[0].respond(200, b"late, but it was ours to be late")
        assert (await waiting.answer()).status == 200


@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/held HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/held HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        b"POST /v1/held HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
        b"POST /v1/held HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /body HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nname: a\x00b\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\n\r\n",
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_what_cannot_be_read_is_400(nonsense: bytes, behind: bool) -> None:  # noqa: FBT001
    async def scenario() -> None:
        async with serving() as served:
            wire = await served.connect()
            if behind:
                wire.send(post("/v1/held"))
                await served.holds(1)
            wire.send(nonsense)
            if behind:
                await asyncio.sleep(0.01)
                served.held[0].respond(200, b"first")
                assert (await wire.answer()).body == b"first"
            answer = await wire.answer()
            assert (answer.status, json.loads(answer.body)["code"]) == (400, "malformed_request")
            assert answer.headers["content-type"] == "application/problem+json"
            assert await wire.closed()

    run(scenario())


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/held HTTP/1.1\r\nlong: " + b"x" * 300_000,
        b"POST /v1/held HTTP/1.1\r\n" + b"".join(b"h%d: y\r\n" % number for number in range(5000)),
        b"POST /" + b"x" * 300_000,
    ],
)
def test_heads_have_a_limit(head: bytes) -> None:
    async def scenario() -> None:
        async with serving() as served:
            wire = await served.connect()
            wire.send(head)
            answer = await wire.answer()
            assert (answer.status, json.loads(answer.body)["code"]) == (431, "headers_too_large")
            assert await wire.closed()

    run(scenario())


@on_uvloop
async def test_handlers_that_raise() -> None:
    def refuse(_: LeanRequest) -> None:
        raise DomainError(ErrorCode.OVERLOADED, "full", retry_after_s=3)

    def fail(_: LeanRequest) -> None:
        raise ValueError("choice 7")

    async with serving([LeanRoute("POST", "/refuse", refuse), LeanRoute("POST", "/fail", fail)]) as served:
        wire = await served.connect()
        refused = await wire.ask(post("/refuse"))
        assert (refused.status, refused.headers["retry-after"]) == (503, "3")
        assert json.loads(refused.body) == {
            "type": "urn:comitia:problem:overloaded",
            "title": "Too busy; nothing was recorded",
            "status": 503,
            "code": "overloaded",
            "detail": "full",
            "requestId": refused.headers["x-request-id"],
        }
        failed = await wire.ask(post("/fail"))
        assert (failed.status, json.loads(failed.body)["code"]) == (500, "internal")
        assert b"choice" not in failed.body
        assert (await wire.ask(post())).status == 201


@on_uvloop
async def test_a_client_that_is_gone_is_noticed() -> None:
    async with serving() as served:
        wire = await served.connect()
        wire.send(post("/v1/held"))
        await served.holds(1)
        wire.reset()
        await until(lambda: served.held[0].disconnected)
        served.held[0].respond(200, b"nobody reads this")
        with pytest.raises(ConnectionError):
            served.held[0].detach(lambda: None)


@on_uvloop
async def test_a_client_that_is_gone_in_the_middle_of_its_pipeline() -> None:
    async with serving() as served:
        wire = await served.connect()
        wire.send(post("/v1/held") + post(body=b"2") + get("/slow/0"))
        await served.holds(1)
        wire.reset()
        served.held[0].respond(200, b"nobody reads this")
        await until(lambda: served.connections() == 0)


@on_uvloop
async def test_only_the_first_answer_counts() -> None:
    async with serving() as served:
        wire = await served.connect()
        wire.send(post("/v1/held"))
        await served.holds(1)
        served.held[0].respond(200, b"1")
        served.held[0].respond(500, b"2")
        with pytest.raises(ConnectionError):
            served.held[0].detach(lambda: None)
        assert (await wire.answer()).body == b"1"
        assert (await wire.ask(post())).body == BODY


@on_uvloop
async def test_a_client_that_does_not_read_is_not_read_either() -> None:
    calls: list[int] = []

    def big(request: LeanRequest) -> None:
        calls.append(1)
        request.respond(200, b"x" * 200_000)

    async with serving([LeanRoute("GET", "/big", big)], write_s=10) as served:
        wire = await served.connect()
        wire.transport.pause_reading()
        wire.send(get("/big") * 2000)
        await asyncio.sleep(0.1)
        waiting = len(calls)
        assert 0 < waiting < 200
        wire.transport.resume_reading()
        for _ in range(200):
            assert len((await wire.answer()).body) == 200_000


@on_uvloop
async def test_a_client_that_never_reads_is_cut_off() -> None:
    route = LeanRoute("GET", "/big", lambda request: request.respond(200, b"x" * 4_000_000))
    async with serving([route], write_s=0.1) as served:
        wire = await served.connect()
        wire.transport.pause_reading()
        wire.send(get("/big") * 20)
        await until(lambda: served.connections() == 0)


@on_uvloop
async def test_upgrades_are_plain_requests() -> None:
    async with serving() as served:
        wire = await served.connect()
        headers = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__")
        assert (await wire.ask(post("/v1/surveys/s_1/vote", b"", *headers))).status == 201
        other = await served.connect()
        assert (
            await other.ask(b"GET /livez HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        ).status == 200


@on_uvloop
async def test_lean_answers_are_counted_by_template() -> None:
    async with serving() as served:
        wire = await served.connect()
        await wire.ask(post("/v1/surveys/s_1/vote"))
        await wire.ask(post("/v1/surveys/s_2/vote"))
        text = (await wire.ask(get("/metrics"))).body.decode()
        found = {
            (sample.labels["route"], sample.labels["status"]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "http_requests_total"
        }
        assert found == {("/v1/surveys/{id}/vote", "201"): 2}
        assert "http_connections 1.0" in text


@on_uvloop
async def test_other_methods_and_paths_go_to_the_application() -> None:
    async with serving() as served:
        wire = await served.connect()
        assert (await wire.ask(get("/v1/surveys/s_1/vote"))).status == 404
        assert (await wire.ask(post("/v1/surveys//vote"))).status == 404
        assert (await wire.ask(post("/v1/surveys/a/b/vote"))).status == 404
        assert (await wire.ask(post("/body", b'{"a":1}'))).body == b'{"a":1}'
        assert (await wire.ask(post("http://x/body", b'{"a":1}'))).body == b'{"a":1}'
