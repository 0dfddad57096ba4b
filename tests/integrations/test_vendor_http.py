"""A vendor that fails in every way it can, seen through the one way in which vendors are called."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from domain.errors import DomainError, ErrorCode
from integrations.deadlines import until
from integrations.sandboxes.faults import Faults, FaultSwitches, fault_routes
from integrations.sandboxes.mounting import mount
from integrations.sandboxes.serving import serve_sandboxes
from integrations.settings import Environment, Settings
from integrations.telemetry.span_names import SpanName
from integrations.telemetry.telemetry import make_telemetry
from integrations.telemetry.tracing import Tracing, request_context
from integrations.telemetry.vendor_metrics import VendorMetrics
from integrations.vendor_http import VendorHttp, open_vendor_client

TIMEOUT_S = 0.3
BOUND_S = 3.0  # far less than what a vendor could take, on a busy machine


async def vendor(request: Request) -> Response:
    match request.path_params["path"]:
        case "bomb":
            packed = gzip.compress(b'{"a": "' + b" " * 2**20 + b'"}')
            return Response(packed, headers={"content-encoding": "gzip", "content-type": "application/json"})
        case "elsewhere":
            return RedirectResponse("/one/here")
        case "list":
            return JSONResponse([1])
        case "deep":
            return Response(b"[" * 100_000)
        case _:
            return JSONResponse(
                {"body": (await request.body()).decode(), "encodings": request.headers["accept-encoding"]}
            )


def faulty(faults: Faults) -> ASGIApp:
    app = FastAPI()
    app.include_router(fault_routes(faults))
    app.add_route("/{path}", vendor, methods=["GET", "POST"])
    return FaultSwitches(app, faults, lambda status: {"status": status})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def control() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve_sandboxes(mount({"one": faulty(Faults())})) as address,
        httpx.AsyncClient(base_url=f"{address}/one") as client,
    ):
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def http(control: httpx.AsyncClient) -> AsyncIterator[VendorHttp]:
    async with open_vendor_client(str(control.base_url)) as client:
        yield VendorHttp(client, ErrorCode.DEVICES_UNAVAILABLE, timeout_s=5.0)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hasty(control: httpx.AsyncClient) -> AsyncIterator[VendorHttp]:
    async with open_vendor_client(str(control.base_url)) as client:
        yield VendorHttp(client, ErrorCode.DEVICES_UNAVAILABLE, timeout_s=TIMEOUT_S)


async def test_an_answer_of_any_status_is_an_answer(control: httpx.AsyncClient, http: VendorHttp) -> None:
    _, content = await http.send_for_json("POST", "/here", content=b"hello")
    assert content == {"body": "hello", "encodings": "identity"}
    await control.post("/_control/faults", json={"kind": "status", "status": 429, "retryAfterS": 7})
    answer, content = await http.send_for_json("GET", "/here")
    assert (answer.status, answer.retry_after_s, content) == (429, 7, {"status": 429})
    assert answer.content_type == "application/json"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "html"},
        {"kind": "garbage"},
        {"kind": "huge"},
        {"kind": "truncated"},
        {"kind": "never"},
        {"kind": "drop"},
        {"kind": "drop", "after": True},
        {"kind": "slow", "delayS": 4},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
async def test_what_is_no_answer_is_unavailable_in_time(
    control: httpx.AsyncClient, http: VendorHttp, hasty: VendorHttp, fault: dict[str, object]
) -> None:
    await control.post("/_control/faults", json=fault)
    began = time.monotonic()
    with pytest.raises(DomainError) as raised:
        await hasty.send_for_json("GET", "/here")
    assert raised.value.code is ErrorCode.DEVICES_UNAVAILABLE
    assert time.monotonic() - began < BOUND_S
    assert (await http.send_for_json("GET", "/here"))[0].status == 200


@pytest.mark.parametrize("path", ["/bomb", "/elsewhere", "/list", "/deep"])
async def test_what_is_packed_or_no_object_or_elsewhere_is_unavailable(http: VendorHttp, path: str) -> None:
    with pytest.raises(DomainError) as raised:
        await http.send_for_json("GET", path)
    assert raised.value.code is ErrorCode.DEVICES_UNAVAILABLE


async def test_a_byte_now_and_then_is_no_answer() -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        for _ in range(100):
            writer.write(b" ")
            await asyncio.sleep(0.05)

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_vendor_client(f"http://127.0.0.1:{port}") as client:
        began = time.monotonic()
        with pytest.raises(DomainError, match="mail_unavailable"):
            await VendorHttp(client, ErrorCode.MAIL_UNAVAILABLE, timeout_s=TIMEOUT_S).send("GET", "/")
        assert time.monotonic() - began < BOUND_S


async def test_nobody_home_and_no_http_are_unavailable() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with open_vendor_client(f"http://127.0.0.1:{port}") as client:
        http = VendorHttp(client, ErrorCode.MAIL_UNAVAILABLE, timeout_s=TIMEOUT_S)
        async with server:
            with pytest.raises(DomainError, match="mail_unavailable"):
                await http.send("GET", "/")
        with pytest.raises(DomainError, match="mail_unavailable"):
            await http.send("GET", "/")


async def test_no_call_outlives_the_caller(control: httpx.AsyncClient, http: VendorHttp) -> None:
    await control.post("/_control/faults", json={"kind": "never"})
    began = time.monotonic()
    with until(began + 0.05), pytest.raises(DomainError):
        await http.send("GET", "/here")
    assert time.monotonic() - began < BOUND_S
    with until(time.monotonic() - 1), pytest.raises(DomainError, match="deadline_exceeded"):
        await http.send("GET", "/here")


async def test_every_call_is_timed_and_those_without_an_answer_are_counted(control: httpx.AsyncClient) -> None:
    telemetry = make_telemetry(Settings(environment=Environment.TEST), "asking")
    metrics = VendorMetrics(telemetry.registry, telemetry.tracing.tracer)

    def found(name: str) -> float | None:
        return telemetry.registry.get_sample_value(f"external_{name}", {"vendor": "one"})

    async with open_vendor_client(str(control.base_url), calls=metrics.of("one")) as client:
        http = VendorHttp(client, ErrorCode.DEVICES_UNAVAILABLE, timeout_s=TIMEOUT_S)
        await http.send("GET", "/here")
        assert (found("request_seconds_count"), found("errors_total")) == (1, 0)
        await control.post("/_control/faults", json={"kind": "status", "status": 503, "count": 1})
        assert (await http.send("GET", "/here")).status == 503
        await control.post("/_control/faults", json={"kind": "never", "count": 1})
        with pytest.raises(DomainError):
            await http.send("GET", "/here")
    async with open_vendor_client("http://127.0.0.1:1", calls=metrics.of("one")) as client:
        with pytest.raises(DomainError):
            await VendorHttp(client, ErrorCode.DEVICES_UNAVAILABLE, timeout_s=TIMEOUT_S).send("GET", "/here")
    assert (found("request_seconds_count"), found("errors_total")) == (4, 3)


async def test_a_call_within_a_request_is_a_step_of_it(control: httpx.AsyncClient) -> None:
    spans = InMemorySpanExporter()
    tracing = Tracing(
        service="asking", environment="test", region="r", build="b", ratio=1.0, processors=[SimpleSpanProcessor(spans)]
    )
    calls = VendorMetrics(CollectorRegistry(), tracing.tracer).of("one")
    async with open_vendor_client(str(control.base_url), calls=calls) as client:
        http = VendorHttp(client, ErrorCode.DEVICES_UNAVAILABLE, timeout_s=5.0)
        request = tracing.begin_request(None, time.perf_counter())
        with request_context(request):
            await http.send("GET", "/here")
        request.finish(200)
        with tracing.tracer.start_as_current_span("an activity"):
            await http.send("GET", "/here")
        await http.send("GET", "/here")  # of nobody: no trace begins here
    assert [span.name for span in spans.get_finished_spans()] == [
        "external.one",
        SpanName.HTTP_REQUEST,
        "external.one",
        "an activity",
    ]
