"""A process with as many connections as it may have closes idle ones for new ones, and never one that is at work."""

from dataclasses import dataclass
from random import Random

from api.http.evicting import AT_ONCE, make_room
from tests.api.http.wire import get, post, run, serving, until


def test_idle_connections_make_room_and_busy_ones_stay() -> None:
    async def scenario() -> None:
        async with serving(connections=20) as served:
            busy = [await served.connect() for _ in range(4)]
            for wire in busy:
                wire.send(post("/v1/held"))
            await served.holds(4)
            idle = [await served.connect() for _ in range(16)]
            for wire in idle:
                assert (await wire.ask(get("/livez"))).status == 200
            new = await served.connect()
            assert (await new.ask(get("/livez"))).status == 200
            for wire in idle:
                assert await wire.closed()
            for number, request in enumerate(served.held):
                request.respond(200, b"%d" % number)
            assert {(await wire.answer()).body for wire in busy} == {b"0", b"1", b"2", b"3"}
            assert served.telemetry.registry.get_sample_value("http_connections_evicted_total") == 16

    run(scenario())


def test_with_nothing_idle_the_new_one_is_refused() -> None:
    async def scenario() -> None:
        async with serving(connections=5) as served:
            busy = [await served.connect() for _ in range(5)]
            for wire in busy:
                wire.send(post("/v1/held"))
            await served.holds(5)
            answer = await (await served.connect()).answer()
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert answer.headers["retry-after"]
            served.held[0].respond(200, b"")
            assert (await busy[0].answer()).status == 200
            assert (await (await served.connect()).ask(get("/livez"))).status == 200

    run(scenario())


def test_hundreds_of_new_connections_find_room_one_after_the_other() -> None:
    async def scenario() -> None:
        async with serving(connections=50) as served:
            for _ in range(300):
                wire = await served.connect()
                assert (await wire.ask(get("/livez"))).status == 200
            await until(lambda: (served.connections() or 0) <= 50)

    run(scenario())


@dataclass
class Idle:
    since: float
    idle: bool = True
    evicted: bool = False

    def evict(self) -> None:
        self.evicted = True


def test_those_go_first_that_have_been_idle_for_longest() -> None:
    connections = [Idle(since=float(number), idle=number % 3 > 0) for number in range(3 * AT_ONCE)]
    newest = Idle(since=-1.0)
    Random(7).shuffle(connections)
    assert make_room([*connections, newest], newest) == AT_ONCE
    gone = sorted(connection.since for connection in connections if connection.evicted)
    assert gone == sorted(connection.since for connection in connections if connection.idle)[:AT_ONCE]
    assert not newest.evicted
