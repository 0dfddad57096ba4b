"""What waits on connections is seen while it waits: requests behind others, answers that nobody reads, the backlog."""

import socket

from api.http.backlog import waiting_to_be_accepted
from api.http.lean import LeanRoute
from domain.priorities import Work
from tests.api.http.wire import Served, get, post, run, serving, until

BIG = LeanRoute("GET", "/big", lambda request: request.respond(200, b"x" * 8_000_000), work=Work.OPERATION)


def value(served: Served, name: str) -> float | None:
    return served.telemetry.registry.get_sample_value(name)


def test_requests_that_wait_behind_another_are_seen() -> None:
    async def scenario() -> None:
        async with serving() as served:
            wire = await served.connect()
            wire.send(post("/v1/held") + post() + post())
            await served.holds(1)
            await until(lambda: value(served, "http_requests_pipelined") == 2)
            served.held[0].respond(201, b"")
            await wire.answer()
            await until(lambda: value(served, "http_requests_pipelined") == 0)

    run(scenario())


def test_a_client_that_does_not_read_is_seen_and_its_end_is_counted() -> None:
    async def scenario() -> None:
        async with serving([BIG], write_s=0.5) as served:
            wire = await served.connect()
            wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
            wire.send(get("/big"))
            await until(lambda: value(served, "http_connections_unread") == 1)
            await until(lambda: value(served, "http_connections_cut_off_total") == 1)
            await until(lambda: value(served, "http_connections_unread") == 0)

    run(scenario())


def test_connections_that_wait_to_be_accepted_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=8) as listener:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        assert waiting_to_be_accepted(listener) == 3
        listener.accept()[0].close()
        assert waiting_to_be_accepted(listener) == 2
        for client in clients:
            client.close()
    assert waiting_to_be_accepted(listener) == 0
