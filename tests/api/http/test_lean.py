import asyncio
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.server import ServerState

from api.http.client_addresses import ClientAddresses
from api.http.lean import LeanRequest, LeanRoute, LeanRoutes
from api.http.protocol import LeanProtocol
from api.http.shared import ServingLimits, Shared
from api.http.shedding import LoadShedder
from integrations.telemetry.http_metrics import HttpMetrics
from integrations.telemetry.work_metrics import WorkMetrics
from tests.api.http.wire import echo, post, telemetry_for_tests


def ignore(_: LeanRequest) -> None:
    return None


VOTE = LeanRoute("POST", "/v1/surveys/{id}/vote", ignore)
STREAM = LeanRoute("GET", "/v1/surveys/{id}/results/stream", ignore)
SUBMISSION = LeanRoute("GET", "/v1/submissions/{id}", ignore)
SHORT = LeanRoute("POST", "/vote", ignore)
ROUTES = LeanRoutes([VOTE, STREAM, SUBMISSION, SHORT])


@pytest.mark.parametrize(
    ("method", "path", "route", "parameter"),
    [
        (b"POST", b"/vote", SHORT, ""),
        (b"POST", b"/v1/surveys/s_1/vote", VOTE, "s_1"),
        (b"POST", b"/v1/surveys/s%5F1/vote", VOTE, "s_1"),
        (b"POST", b"/v1/surveys/%FF/vote", VOTE, "\ufffd"),
        (b"GET", b"/v1/surveys/s_1/results/stream", STREAM, "s_1"),
        (b"GET", b"/v1/submissions/abc", SUBMISSION, "abc"),
    ],
)
def test_matches(method: bytes, path: bytes, route: LeanRoute, parameter: str) -> None:
    assert ROUTES.match(method, path) == (route, parameter)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (b"GET", b"/vote"),
        (b"POST", b"/vote/"),
        (b"POST", b"/v1/surveys//vote"),
        (b"POST", b"/v1/surveys/vote"),
        (b"POST", b"/v1/surveys/a/b/vote"),
        (b"POST", b"/v1/surveys/a%2Fb/vote"),
        (b"POST", b"/v1/surveys/s_1%00/vote"),
        (b"GET", b"/v1/surveys/%00/results/stream"),
        (b"GET", b"/v1/surveys/s_1%0a/results/stream"),
        (b"GET", b"/v1/surveys/%7F/results/stream"),
        (b"GET", b"/v1/submissions/"),
        (b"GET", b"/v1/submissions/a/b"),
        (b"DELETE", b"/v1/submissions/a"),
        (b"POST", b""),
    ],
)
def test_goes_to_the_application(method: bytes, path: bytes) -> None:
    assert ROUTES.match(method, path) is None


def test_a_table_has_no_doubts() -> None:
    with pytest.raises(ValueError, match="two lean routes"):
        LeanRoutes([VOTE, LeanRoute("POST", "/v1/surveys/{id}/vote", ignore)])
    for path in ("/a/{id}/{id}", "/a/{other}"):
        with pytest.raises(ValueError, match="at most one parameter"):
            LeanRoutes([LeanRoute("GET", path, ignore)])


class Sink(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def nobody(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError


def connection(loop: asyncio.AbstractEventLoop) -> tuple[LeanProtocol, Sink]:
    config = Config(nobody, log_config=None, access_log=False, lifespan="off", ws="none", http="httptools")
    config.load()
    routes = LeanRoutes([LeanRoute("POST", "/v1/surveys/{id}/vote", echo, body_limit_bytes=64)])
    registry = telemetry_for_tests().registry
    shedder = LoadShedder(WorkMetrics(registry))
    shared = Shared(routes, ServingLimits(head_bytes=500), HttpMetrics(registry), ClientAddresses(), shedder)
    protocol = LeanProtocol(config, ServerState(), {}, loop, shared=shared)
    sink = Sink()
    protocol.connection_made(sink)
    return protocol, sink


def feed(pieces: list[bytes]) -> bytes:
    loop = asyncio.new_event_loop()
    try:
        protocol, sink = connection(loop)
        for piece in pieces:
            if not sink.closing:
                protocol.data_received(piece)
        return bytes(sink.written)
    finally:
        loop.close()


def statuses(written: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", written)]


CHUNKED = b"POST /v1/surveys/s_1/vote HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
STREAM_BYTES = post(body=b"one") + CHUNKED + post(body=b"") + post("/v1/surveys/s_9/vote", b"four")


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.integers(0, len(STREAM_BYTES)), max_size=30))
def test_where_the_bytes_are_cut_does_not_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM_BYTES)]
    pieces = [STREAM_BYTES[start:end] for start, end in pairwise(edges) if start < end]
    bodies = [part.partition(b"\r\n\r\n")[2] for part in feed(pieces).split(b"HTTP/1.1 201 Created\r\n")[1:]]
    assert bodies == [b"one", b"abcde", b"s_1", b"four"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.sampled_from([STREAM_BYTES, CHUNKED[:70], b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"content-length: 9\r\n"]),
        ),
        max_size=8,
    )
)
def test_no_bytes_make_a_5xx(pieces: list[bytes]) -> None:
    found = statuses(feed([piece for piece in pieces if piece]))
    assert {status for status in found if status != 201} <= {400, 408, 413, 431, 100}
    assert len([status for status in found if status in {400, 413, 431}]) <= 1


def test_a_bad_request_ends_the_connection() -> None:
    assert statuses(feed([post(body=b"1"), b"nonsense\r\n\r\n", post(body=b"2")])) == [201, 400]
