"""Live results as their readers get them: from the vote to the event, resumed, slow, idle, and over."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from api.composition import Service
from api.http.held_places import HeldPlaces
from api.http.serving import serve
from api.streams.app import create_app, lean_routes
from api.streams.channel import Channel
from api.streams.heartbeat import HeartbeatWheel
from api.streams.hub import StreamHub
from domain.contracts.surveys import Survey, Visibility
from domain.limits import held_streams
from domain.tally import positions_of
from integrations.postgres.roles import TALLY
from integrations.redis.changes import TallyChanges
from integrations.results.opening import open_results
from integrations.settings import Environment
from integrations.telemetry.metrics import LimitMetrics, StreamMetrics
from integrations.telemetry.telemetry import Telemetry, make_telemetry
from tests.limits_world import lonely_limits
from tests.workers.tally_cells import DEADLINE_S, TallyCell, make_survey, until


@dataclass
class Event:
    id: str = ""
    name: str = ""
    data: Any = None


@dataclass
class Reader:
    """A client of one stream."""

    incoming: asyncio.StreamReader
    outgoing: asyncio.StreamWriter
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    heartbeats: int = 0
    retry_ms: int = 0

    async def event(self) -> Event:
        """Return the next event, counting heartbeats on the way."""
        event = Event()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                line = (await self.incoming.readline()).decode()
                if not line:
                    raise EOFError
                name, _, value = line.rstrip("\n").partition(": ")
                if name == "id":
                    event.id = value
                elif name == "event":
                    event.name = value
                elif name == "data":
                    event.data = json.loads(value)
                elif name == "retry":
                    self.retry_ms = int(value)
                elif name == ":":
                    self.heartbeats += 1
                elif not name and event.name:
                    return event

    async def until_votes(self, votes: int) -> list[int]:
        """Read until this many responses are shown; return what was shown on the way."""
        shown: list[int] = []
        while not shown or shown[-1] != votes:
            event = await self.event()
            if event.name == "results":
                shown.append(event.data["totalResponses"])
        return shown


@dataclass
class World:
    cells: list[TallyCell]
    hub: StreamHub
    telemetry: Telemetry
    metrics: StreamMetrics
    address: tuple[str, int]
    stop: asyncio.Event

    async def install(self, **fields: Any) -> Survey:
        survey = make_survey(**fields)
        for cell in self.cells:
            await cell.install(survey)
        return survey

    @asynccontextmanager
    async def stream(self, survey_id: str, query: str = "", **headers: str) -> AsyncIterator[Reader]:
        incoming, outgoing = await asyncio.open_connection(*self.address, limit=1 << 20)
        try:
            lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
            outgoing.write(
                f"GET /v1/surveys/{survey_id}/results/stream{query} HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode()
            )
            reader = Reader(incoming, outgoing)
            async with asyncio.timeout(DEADLINE_S):
                reader.status = int((await incoming.readline()).split()[1])
                while line := (await incoming.readline()).decode().strip():
                    name, _, value = line.partition(": ")
                    reader.headers[name] = value
            yield reader
        finally:
            outgoing.close()

    async def refusal(self, survey_id: str, query: str = "") -> tuple[int, str]:
        async with self.stream(survey_id, query) as reader:
            body = await reader.incoming.readexactly(int(reader.headers["content-length"]))
            return reader.status, json.loads(body)["code"]

    def metric(self, name: str) -> float:
        value = self.telemetry.registry.get_sample_value(name)
        assert value is not None, name
        return value


@pytest_asyncio.fixture(loop_scope="session")
async def world(make_cells: Callable[[], Awaitable[list[TallyCell]]]) -> AsyncIterator[World]:
    cells = await make_cells()
    settings = cells[0].settings
    telemetry = make_telemetry(settings, "streams")
    metrics = StreamMetrics(telemetry.registry, "local")
    assert settings.environment is Environment.TEST
    async with AsyncExitStack() as opened:
        for cell in cells:
            await opened.enter_async_context(cell.folding())
        results = await open_results(settings, opened, TALLY)
        changes = [TallyChanges(cell.redis, cell.name) for cell in cells]
        wheel = HeartbeatWheel(2, stuck_max_s=0.5, turn_s=0.1)
        working = [asyncio.create_task(listener.run()) for listener in changes]
        working.append(asyncio.create_task(wheel.run()))
        limits = lonely_limits(telemetry.registry)
        held = HeldPlaces(held_streams(1000), limits.strangers.metrics)
        hub = StreamHub(results.results, changes, metrics, wheel, limits=limits, held=held)
        service = Service(create_app(telemetry), lean_routes(hub))
        listening: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        serving = asyncio.create_task(
            serve(service, telemetry, stop, on_started=lambda host, port: listening.set_result((host, port)))
        )
        for cell in cells:
            await cell.watermarked()
        yield World(cells, hub, telemetry, metrics, await listening, stop)
        stop.set()
        await serving
        hub.close()
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)


async def test_votes_of_every_cell_arrive(world: World) -> None:
    survey = await world.install()
    async with world.stream(survey.id) as reader:
        assert reader.status == 200
        assert reader.headers["content-type"].startswith("text/event-stream")
        first = await reader.event()
        assert (first.name, first.data["totalResponses"], first.data["survey"]["id"]) == ("results", 0, survey.id)
        assert 1000 <= reader.retry_ms <= 5000
        await world.cells[0].vote(survey.id, "1")
        await world.cells[1].vote(survey.id, "2")
        assert (await reader.until_votes(2))[-1] == 2


async def test_the_id_names_epoch_and_number_of_each_cell(world: World) -> None:
    survey = await world.install()
    async with world.stream(survey.id) as reader:
        await world.cells[0].vote(survey.id)
        event = await reader.event()
        while event.data["totalResponses"] != 1:
            event = await reader.event()
    first, second = (re.escape(name) for name in sorted(cell.name for cell in world.cells))
    assert re.fullmatch(rf"{first}:\d+-\d+,{second}:\d+-\d+", event.id)


async def test_resuming_with_the_newest_id_waits_and_with_another_does_not(world: World) -> None:
    survey = await world.install()
    async with world.stream(survey.id) as reader:
        await world.cells[0].vote(survey.id)
        event = await reader.event()
        while event.data["totalResponses"] != 1:
            event = await reader.event()
        async with world.stream(survey.id, last_event_id="long-ago") as other:
            assert (await other.event()).data["totalResponses"] == 1
        async with world.stream(survey.id, last_event_id=event.id) as resumed:
            await world.cells[0].vote(survey.id)
            assert await resumed.until_votes(2) == [2]  # not the one it had
    assert world.metric("stream_reconnects_total") == 2


async def test_who_has_seen_more_elsewhere_waits_for_as_much(world: World) -> None:
    survey = await world.install()
    await world.cells[0].vote(survey.id)
    await world.cells[0].tallied(survey.id)
    async with world.stream(survey.id) as reader:
        event = await reader.event()
        while event.data["totalResponses"] != 1:
            event = await reader.event()
        ahead = {
            cell: (epoch, seq + (cell == world.cells[0].name)) for cell, (epoch, seq) in positions_of(event.id).items()
        }
        seen = ",".join(f"{cell}:{epoch}-{seq}" for cell, (epoch, seq) in ahead.items())
        async with world.stream(survey.id, last_event_id=seen) as resumed:
            for _ in range(2):  # a heartbeat shows nothing older either
                assert await resumed.incoming.readline()
            await world.cells[0].vote(survey.id)
            assert await resumed.until_votes(2) == [2]


@pytest.mark.parametrize(
    ("seen", "missing", "waited_s", "behind"),
    [
        ({"eu": (1, 5)}, (), 0, False),
        ({"eu": (1, 6)}, (), 0, True),
        ({"eu": (2, 0), "us": (1, 1)}, (), 59, True),
        ({"eu": (2, 0)}, (), 61, False),
        ({"eu": (2, 0)}, ("eu",), 3600, True),
        ({"eu": (1, 5), "us": (1, 1)}, ("us",), 3600, True),
        ({"elsewhere": (9, 9)}, (), 0, False),
        ({}, ("us",), 0, False),
    ],
)
def test_what_is_older_than_what_was_seen(
    seen: dict[str, tuple[int, int]], missing: tuple[str, ...], waited_s: float, *, behind: bool
) -> None:
    channel = Channel.__new__(Channel)
    channel.positions = {"eu": (1, 5)} | ({} if "us" in missing else {"us": (1, 1)})
    channel.missing = missing
    assert channel.behind(seen, waited_s) is behind


async def test_an_idle_stream_shows_that_it_lives(world: World) -> None:
    survey = await world.install()
    async with world.stream(survey.id) as reader:
        await reader.event()
        async with asyncio.timeout(DEADLINE_S):
            while reader.heartbeats < 2:
                line = await reader.incoming.readline()
                reader.heartbeats += line == b":\n"


async def test_a_slow_reader_gets_the_newest_and_never_a_queue(world: World) -> None:
    options = make_survey().questions[0].options
    wide = [option.model_copy(update={"id": str(n), "text": "x" * 200}) for n in range(600) for option in options[:1]]
    survey = await world.install(questions=(make_survey().questions[0].model_copy(update={"options": tuple(wide)}),))
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)  # noqa: FBT003 - positional only
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, world.address)
        await loop.sock_sendall(
            slow, f"GET /v1/surveys/{survey.id}/results/stream HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        )
        votes = 0

        async def coalesced() -> bool:
            nonlocal votes
            votes += 1
            await world.cells[0].vote(survey.id, "1")
            return (
                world.metric("stream_messages_coalesced_total") > 0
                or world.metric("stream_connections_dropped_total") > 0
            )

        async with world.stream(survey.id) as quick:
            await until(coalesced, "a snapshot was left out")
            assert (await quick.until_votes(votes))[-1] == votes  # nobody else waits for the slow one

            async def dropped() -> bool:
                return world.metric("stream_connections_dropped_total") == 1

            await until(dropped, "the slow reader is dropped")


async def test_a_lost_redis_shows_nobody_less_than_before(world: World) -> None:
    survey = await world.install()
    for _ in range(5):
        await world.cells[0].vote(survey.id)
    await world.cells[0].tallied(survey.id)
    async with world.stream(survey.id) as reader:
        shown = await reader.until_votes(5)
        await world.cells[0].redis.flushdb()
        await world.cells[0].vote(survey.id)
        shown += await reader.until_votes(6)
    assert shown == sorted(shown)


async def test_the_end_of_a_survey_is_told_with_every_vote(world: World) -> None:
    survey = await world.install(minimum_step=10)
    async with world.stream(survey.id) as reader:
        await reader.event()
        await world.cells[0].vote(survey.id)
        await world.cells[0].tallied(survey.id)
        for cell in world.cells:
            await cell.owner.execute("UPDATE voting.survey SET finish_at = now() WHERE survey_id = $1", survey.id)
        results = await reader.event()
        assert (results.name, results.data["totalResponses"]) == ("results", 1)
        assert (await reader.event()).name == "closed"


@pytest.mark.parametrize(
    ("visibility", "finish_at"),
    [
        (Visibility.AFTER_CLOSE, None),
        (Visibility.AFTER_CLOSE, datetime(2020, 1, 1, tzinfo=UTC)),
        (Visibility.STAFF, None),
    ],
)
async def test_what_is_not_live_has_no_stream(world: World, visibility: Visibility, finish_at: datetime | None) -> None:
    survey = await world.install(visibility=visibility, finish_at=finish_at)
    assert await world.refusal(survey.id) == (403, "results_not_visible")


async def test_other_refusals(world: World) -> None:
    assert await world.refusal("s_aaaaaaaaaaaaaaaa") == (404, "survey_not_found")
    survey = await world.install()
    assert await world.refusal(survey.id, "?region=north") == (400, "malformed_request")


async def test_subscriptions_end_with_the_last_stream(world: World) -> None:
    survey = await world.install()
    name = f"{world.cells[0].name}:tally:{{{world.cells[0].name}}}:changes:{survey.id}"

    async def subscribed() -> int:
        ((_, number),) = await world.cells[0].redis.pubsub_numsub(name)
        return int(number)

    async def alone() -> bool:
        return await subscribed() == 1

    async def gone() -> bool:
        return await subscribed() == 0

    async with world.stream(survey.id) as first, world.stream(survey.id) as second:
        await first.event()
        await second.event()
        await until(alone, "one subscription for both")
        assert world.telemetry.registry.get_sample_value("stream_connections_active", {"region": "local"}) == 2
    await until(gone, "no subscription without a stream")
    async with world.stream(survey.id) as again:
        await again.event()


async def test_stopping_ends_streams(world: World) -> None:
    survey = await world.install()
    async with world.stream(survey.id) as reader:
        await reader.event()
        world.stop.set()
        async with asyncio.timeout(DEADLINE_S):
            rest = await reader.incoming.read()  # to its end
    farewell = re.search(rb"retry: (\d+)\nevent: handover\ndata: {}\n\n\Z", rest)
    assert farewell is not None, rest
    assert 100 <= int(farewell[1]) <= 2000


async def test_an_address_holds_so_many_streams_and_one_more_when_one_leaves(world: World) -> None:
    survey = await world.install()
    world.hub._held = HeldPlaces(held_streams(2), LimitMetrics(CollectorRegistry()))
    async with world.stream(survey.id) as staying:
        assert staying.status == 200
        assert staying.headers["ratelimit-policy"].startswith('"stream-address"')
        async with world.stream(survey.id) as leaving:
            assert leaving.status == 200
            async with world.stream(survey.id) as third:
                assert third.status == 429
                assert third.headers["ratelimit-policy"] == '"stream-held";q=2;qu="concurrent-requests"'
                assert third.headers["ratelimit"] == '"stream-held";r=0'
                assert int(third.headers["retry-after"]) >= 1
                body = await third.incoming.readexactly(int(third.headers["content-length"]))
                assert json.loads(body)["code"] == "rate_limited"

        async def room() -> bool:
            async with world.stream(survey.id) as another:
                return another.status == 200

        await until(room, "the place of the one that left")
    await until(lambda: _nothing(world.hub._held._held), "every place given back")


async def _nothing(held: dict[bytes, int]) -> bool:
    return not held
