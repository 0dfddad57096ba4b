"""What voters do about each answer, with services that say what a test wants."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from comitia.demo.casting import Booth
from comitia.demo.client import HttpClient
from comitia.demo.counters import CellCounters, Counters
from comitia.demo.glasgow import Ballot
from comitia.demo.survey import PublishedElection
from comitia.demo.voters import Habit, Voter

SURVEY = PublishedElection("s_1", ("1", "2"), ({"A": "1", "B": "2"}, {"A": "3", "B": "4"}))
TOKEN = (201, {"votingToken": "t"})
CONFIRMED = (201, {"status": "confirmed", "submissionId": "x", "receipt": "R"})
REPLAYED = (201, {**CONFIRMED[1], "replayed": True})
ACCEPTED = (202, {"status": "accepted", "submissionId": "x"})
REFUSED = (409, {"code": "already_voted"})
OVERLOADED = (503, {"code": "overloaded"})
Said = tuple[int, object] | None  # None: the connection is cut


class Tokens:
    def voter(self, voter_id: str, cell: str, region: str) -> str:
        return f"{voter_id}.{cell}.{region}"


class Service:
    """Says what it was told to, by the end of the path; the last saying goes on."""

    def __init__(self, **says: list[Said]) -> None:
        self.says: dict[str, list[Said]] = {"voting-token": [TOKEN]}
        self.says |= {name.replace("_", "-"): list(said) for name, said in says.items()}
        self.heard: Counter[str] = Counter()
        self.keys: list[str] = []
        self.bodies: list[object] = []

    def answer(self, path: str, head: str, body: bytes) -> Said:
        place = path.rsplit("/", 1)[1]
        self.heard[place] += 1
        if place == "vote":
            self.keys.append(head.split("Idempotency-Key: ")[1].split("\r\n", maxsplit=1)[0])
            self.bodies.append(json.loads(body))
        said = self.says[place]
        return said.pop(0) if len(said) > 1 else said[0]


@asynccontextmanager
async def booth_at(service: Service) -> AsyncIterator[tuple[Booth, Counters]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                body = await reader.readexactly(int(head.split("Content-Length: ")[1].split("\r\n")[0]))
                said = service.answer(head.split(" ")[1], head, body)
                if said is None:
                    return
                content = json.dumps(said[1])
                extra = "Retry-After: 0\r\nLocation: /v1/submissions/x\r\n"
                writer.write(f"HTTP/1.1 {said[0]} S\r\n{extra}Content-Length: {len(content)}\r\n\r\n{content}".encode())
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = HttpClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    counters = Counters({"eu": CellCounters()})
    async with server:
        try:
            yield Booth(SURVEY, client, client, Tokens(), counters), counters  # type: ignore[arg-type]
        finally:
            client.close()


async def vote(service: Service, habit: Habit = Habit.NONE) -> Counters:
    async with booth_at(service) as (booth, counters):
        async with asyncio.timeout(20):
            await booth.serve([Voter("v_1", "eu", Ballot("ward-1", "A", ("B",)), habit)], at_once=2)
    assert counters.cells["eu"].ended == counters.cells["eu"].sent
    return counters


async def test_a_vote_is_the_paper() -> None:
    service = Service(vote=[CONFIRMED])
    counters = await vote(service)
    assert service.bodies == [{"answers": [{"question": "1", "options": ["1"]}, {"question": "2", "options": ["4"]}]}]
    assert counters.cells["eu"] == CellCounters(sent=1, accepted=1, confirmed=1)
    assert not counters.faults


async def test_a_full_queue_and_a_cut_connection_are_tried_again_with_the_same_key() -> None:
    service = Service(voting_token=[OVERLOADED, None, TOKEN], vote=[OVERLOADED, None, REPLAYED])
    counters = await vote(service)
    assert len(set(service.keys)) == 1
    assert counters.cells["eu"] == CellCounters(sent=3, unanswered=1, put_off=1, accepted=1, confirmed=1)
    assert not counters.faults


async def test_an_accepted_vote_is_followed_until_it_is_confirmed() -> None:
    stages: list[Said] = [(200, {"status": "accepted"}), None, OVERLOADED, (200, {**CONFIRMED[1]})]
    service = Service(vote=[ACCEPTED], x=stages)
    counters = await vote(service)
    assert service.heard["x"] == 4
    assert counters.cells["eu"] == CellCounters(sent=1, accepted=1, confirmed=1)
    assert not counters.faults


HABITS: list[tuple[Habit, list[Said], CellCounters]] = [
    (Habit.AGAIN, [CONFIRMED, REPLAYED], CellCounters(sent=2, accepted=1, confirmed=1, again=1)),
    (Habit.CUT_OFF, [REPLAYED], CellCounters(sent=2, unanswered=1, accepted=1, confirmed=1)),
    (Habit.DOUBLE_CLICK, [CONFIRMED, REFUSED], CellCounters(sent=2, accepted=1, confirmed=1, refused=1)),
    (Habit.SECOND_THOUGHTS, [CONFIRMED, REFUSED], CellCounters(sent=2, accepted=1, confirmed=1, refused=1)),
]


@pytest.mark.parametrize(("habit", "said", "counted"), HABITS, ids=lambda value: getattr(value, "name", ""))
async def test_habits(habit: Habit, said: list[Said], counted: CellCounters) -> None:
    service = Service(vote=said)
    counters = await vote(service, habit)
    assert counters.cells["eu"] == counted
    assert not counters.faults
    if habit in {Habit.AGAIN, Habit.CUT_OFF}:
        assert len(set(service.keys)) == 1
    else:
        assert len(set(service.keys)) == 2
    if habit is Habit.SECOND_THOUGHTS:
        assert service.bodies[0] != service.bodies[1]


FAULTS: dict[str, Callable[[], tuple[Habit, Service]]] = {
    "a repeat got another receipt": lambda: (
        Habit.AGAIN,
        Service(vote=[CONFIRMED, (201, {**CONFIRMED[1], "receipt": "S"})]),
    ),
    "a double click did not count exactly once": lambda: (Habit.DOUBLE_CLICK, Service(vote=[CONFIRMED])),
    "a second vote was not refused": lambda: (Habit.SECOND_THOUGHTS, Service(vote=[CONFIRMED])),
    "a first vote was refused": lambda: (Habit.NONE, Service(vote=[REFUSED])),
    "a repeat with the same key was refused": lambda: (Habit.AGAIN, Service(vote=[CONFIRMED, REFUSED])),
    "voting: 422 too_few_options": lambda: (Habit.NONE, Service(vote=[(422, {"code": "too_few_options"})])),
    "voting: 500 no code": lambda: (Habit.NONE, Service(vote=[(500, {})])),
    "asking for a voting token: 403 step_up_required": lambda: (
        Habit.NONE,
        Service(voting_token=[(403, {"code": "step_up_required"})]),
    ),
    "a submission was refused: vote_refused": lambda: (
        Habit.NONE,
        Service(vote=[ACCEPTED], x=[(200, {"status": "refused", "code": "vote_refused"})]),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_should_not_happen_is_counted_by_its_name(fault: str) -> None:
    habit, service = FAULTS[fault]()
    assert (await vote(service, habit)).faults == {fault: 1}
