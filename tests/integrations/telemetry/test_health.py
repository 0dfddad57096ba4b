import asyncio
import json

import pytest

from integrations.settings import Environment, Settings
from integrations.telemetry.health import health_server
from integrations.telemetry.readiness import Readiness
from integrations.telemetry.telemetry import Telemetry, make_telemetry


@pytest.fixture
def telemetry() -> Telemetry:
    return make_telemetry(Settings(environment=Environment.TEST), "tally")


async def ask(port: int, request: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    if b"\r\n\r\n" not in request:
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if head else 0, body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


async def test_a_worker_is_asked(telemetry: Telemetry) -> None:
    async with health_server("127.0.0.1", 0, telemetry) as (_, port):
        assert await ask(port, get("/livez")) == (200, b"ok\n")
        assert (await ask(port, get("/readyz")))[0] == 503
        telemetry.readiness.start()
        assert (await ask(port, get("/readyz?verbose")))[0] == 200
        status, body = await ask(port, get("/metrics"))
        assert status == 200
        assert b"comitia_build_info" in body
        telemetry.readiness.stop()
        status, body = await ask(port, get("/readyz"))
        assert (status, json.loads(body)) == (503, {"ready": False, "checks": {"process": "stopping"}})


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/nothing"), 404),
        (b"POST /livez HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /livez SPDY/3\r\n\r\n", 400),
        (b"GET /livez", 0),
        (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n", 0),
        (b"\x00\xff\x80 \r\n\r\n", 400),
    ],
)
async def test_nonsense_gets_no_5xx(telemetry: Telemetry, request_bytes: bytes, status: int) -> None:
    async with health_server("127.0.0.1", 0, telemetry) as (_, port):
        assert (await ask(port, request_bytes))[0] == status
        assert (await ask(port, get("/livez")))[0] == 200


async def test_readiness_names_what_is_wrong() -> None:
    readiness = Readiness(timeout_s=0.05, keep_s=0.0)
    broken = {"raises": False}

    async def good() -> None:
        if broken["raises"]:
            raise ConnectionError("postgresql://u:secret@h")

    async def late() -> None:
        await asyncio.Event().wait()

    async def no() -> bool:
        return False

    readiness.add("ledger", good)
    assert (await readiness.examine()).checks == {"process": "starting"}
    readiness.start()
    assert (await readiness.examine()).ready
    broken["raises"] = True
    assert (await readiness.examine()).checks == {"ledger": "failing"}
    broken["raises"] = False
    assert (await readiness.examine()).ready
    readiness.add("broker", late)
    readiness.add("keys", no)
    report = await readiness.examine()
    assert not report.ready
    assert report.checks == {"ledger": "ok", "broker": "late", "keys": "failing"}
    with pytest.raises(ValueError, match="ledger"):
        readiness.add("ledger", good)
    assert not readiness.stopping
    readiness.stop()
    assert readiness.stopping


async def test_many_askers_are_one_round_of_checks() -> None:
    readiness = Readiness(keep_s=60)
    rounds: list[int] = []

    async def check() -> None:
        rounds.append(1)

    readiness.add("ledger", check)
    readiness.start()
    reports = await asyncio.gather(*(readiness.examine() for _ in range(50)))
    assert all(report.ready for report in reports)
    assert len(rounds) == 1


async def test_a_check_that_does_not_end_holds_no_answer_up_and_is_not_begun_again() -> None:
    readiness = Readiness(timeout_s=0.05, keep_s=0.0)
    server_is_back, begun = asyncio.Event(), 0

    async def stubborn() -> None:
        """Wait, as a driver does, until the server has heard of the cancellation."""
        nonlocal begun
        begun += 1
        try:
            await server_is_back.wait()
        except asyncio.CancelledError:
            await server_is_back.wait()
            raise

    async def good() -> bool:
        return True

    readiness.add("database", stubborn)
    readiness.add("broker", good)
    readiness.start()
    async with asyncio.timeout(5):
        for _ in range(3):
            report = await readiness.examine()
            assert report.checks == {"database": "late", "broker": "ok"}
    assert begun == 1
    server_is_back.set()
    async with asyncio.timeout(5):
        while not (await readiness.examine()).ready:
            await asyncio.sleep(0.01)
