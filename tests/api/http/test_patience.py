"""What nobody waits for is not begun, and where that leaves nothing half done it is stopped."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

from api.composition import Service
from api.http.application import create_application
from api.http.lean import LeanRequest, LeanRoute
from api.http.patience import patience_of, remaining_s
from api.http.serving import serve
from api.http.shared import ServingLimits
from domain.errors import DomainError, ErrorCode
from integrations.deadlines import current_deadline, until, within
from integrations.telemetry.telemetry import Telemetry
from tests.api.http.wire import BODY, Served, post, run, telemetry_for_tests
from tests.api.http.wire import until as comes_true


class Work:
    """What the routes of a test did."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.stopped: list[str] = []
        self.left_s: list[float] = []
        self.go_on = asyncio.Event()

    async def do(self, name: str) -> str:
        self.begun.append(name)
        self.left_s.append(current_deadline() - time.monotonic())
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.stopped.append(name)
            raise
        self.ended.append(name)
        return name


def application(work: Work, telemetry: Telemetry) -> FastAPI:
    app = create_application("test", telemetry)

    @app.get("/v1/read")
    async def read() -> str:
        return await work.do("read")

    @app.post("/v1/surveys/s/answers")
    async def answer() -> str:
        return await work.do("answer")

    @app.post("/v1/auth/logins")
    async def log_in() -> str:
        return await work.do("login")

    @app.post("/v1/internal/surveys")
    async def manage() -> str:
        return await work.do("management")

    return app


@asynccontextmanager
async def working(*routes: LeanRoute) -> AsyncIterator[tuple[Served, Work]]:
    work, telemetry, stop = Work(), telemetry_for_tests(), asyncio.Event()
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    service = Service(application(work, telemetry), routes)
    limits = ServingLimits(sweep_s=0.02, stop_s=2)
    done = asyncio.create_task(
        serve(service, telemetry, stop, limits=limits, on_started=lambda _, port: started.set_result(port))
    )
    served = Served(await started, stop, done, telemetry, [])
    try:
        yield served, work
    finally:
        work.go_on.set()
        stop.set()
        for wire in served.wires:
            wire.writer.close()
        await done


def ask(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: x", *headers, "", ""]).encode()


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [("GET", "/v1/read", "read"), ("POST", "/v1/surveys/s/answers", "answer"), ("POST", "/v1/auth/logins", "login")],
)
def test_at_its_deadline_work_is_stopped_and_the_caller_told(method: str, path: str, name: str) -> None:
    async def scenario() -> None:
        async with working() as (served, work):
            wire = await served.connect()
            answer = await wire.ask(ask(method, path, "request-timeout: 100m"))
            assert (answer.status, json.loads(answer.body)["code"]) == (504, "deadline_exceeded")
            assert answer.headers["x-request-id"] == json.loads(answer.body)["requestId"]
            assert work.stopped == [name]
            work.go_on.set()
            assert (await wire.ask(ask(method, path, "request-timeout: 20S"))).status == 200
            assert 15 < work.left_s[-1] <= 20
            assert (await wire.ask(ask(method, path))).status == 200
            assert work.left_s[-1] == float("inf")

    run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [("GET", "/v1/read", "read"), ("POST", "/v1/surveys/s/answers", "answer"), ("POST", "/v1/auth/logins", "login")],
)
def test_when_the_caller_goes_work_is_stopped(method: str, path: str, name: str) -> None:
    async def scenario() -> None:
        async with working() as (served, work):
            wire = await served.connect()
            wire.send(ask(method, path))
            await comes_true(lambda: work.begun == [name])
            wire.reset()
            await comes_true(lambda: work.stopped == [name])

    run(scenario())


def test_who_closes_a_connection_in_order_has_left_a_login_and_waits_for_a_read() -> None:
    async def scenario() -> None:
        async with working() as (served, work):
            login, read, late = [await served.connect() for _ in range(3)]
            login.send(ask("POST", "/v1/auth/logins"))
            read.send(ask("GET", "/v1/read"))
            await comes_true(lambda: len(work.begun) == 2)
            login.writer.write_eof()
            read.writer.write_eof()
            await comes_true(lambda: work.stopped == ["login"])
            late.send(ask("POST", "/v1/auth/logins"))
            late.writer.write_eof()
            assert (await late.answer()).status == 504
            work.go_on.set()
            assert (await read.answer()).status == 200
            assert work.ended == ["read"]

    run(scenario())


def test_what_staff_began_is_finished_whoever_waits() -> None:
    async def scenario() -> None:
        async with working() as (served, work):
            path = "/v1/internal/surveys"
            gone, slow = await served.connect(), await served.connect()
            gone.send(ask("POST", path))
            slow.send(ask("POST", path, "request-timeout: 500m"))
            await comes_true(lambda: len(work.begun) == 2)
            gone.reset()
            await asyncio.sleep(0.6)  # longer than it is waited for, which a busy machine needs to begin
            work.go_on.set()
            assert (await slow.answer()).status == 200
            await comes_true(lambda: len(work.ended) == 2)

    run(scenario())


@pytest.mark.parametrize(("timeout", "status"), [("0m", 504), ("1.5S", 400), ("soon", 400)])
def test_what_is_late_when_it_comes_is_not_begun(timeout: str, status: int) -> None:
    async def scenario() -> None:
        async with working() as (served, work):
            wire = await served.connect()
            for path in ("/v1/surveys/s/answers", "/v1/internal/surveys"):
                assert (await wire.ask(ask("POST", path, f"request-timeout: {timeout}"))).status == status
            assert work.begun == []

    run(scenario())


def test_a_lean_request_knows_how_long_it_is_waited_for() -> None:
    seen: list[float] = []

    def look(request: LeanRequest) -> None:
        seen.append(patience_of(request))
        request.respond(200, b"")

    async def scenario() -> None:
        async with working(LeanRoute("POST", "/look", look)) as (served, _):
            wire = await served.connect()
            assert (await wire.ask(post("/look"))).status == 200
            assert (await wire.ask(post("/look", BODY, "request-timeout: 9S"))).status == 200
            assert (await wire.ask(post("/look", BODY, "request-timeout: 0S"))).status == 504
            assert seen[0] == float("inf")
            assert 5 < seen[1] <= 9

    run(scenario())


def test_a_call_takes_no_longer_than_its_caller_waits() -> None:
    assert within(2.0) == 2.0
    with until(time.monotonic() + 1):
        assert 0 < within(2.0) <= 1
        assert within(0.1) == 0.1
    with until(time.monotonic() - 1), pytest.raises(DomainError) as raised:
        within(2.0)
    assert raised.value.code is ErrorCode.DEADLINE_EXCEEDED
    assert within(2.0) == 2.0
    assert remaining_s(None, 0.0) == float("inf")
