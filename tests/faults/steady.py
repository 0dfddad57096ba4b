"""Clients that go on asking while processes come and go; each repeats a request once, and says what failed then."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.end_to_end.house import House, OpenSurvey, claims_of, eventually, nullifier_of

_ASK_EVERY_S = 0.2
_AWAY = frozenset({502, 503, 504})  # what a client repeats, after `Retry-After`
_FIRST_WAIT_S = 0.05
_LOST = (httpx.TransportError, httpx.StreamError)


@dataclass
class Steady:
    """A bounded load on every service: `failures` is what a client that repeats once would have seen fail."""

    house: House
    survey: OpenSurvey
    voters: list[str] = field(default_factory=list)  # access tokens; who they are is admission's to know
    streams: int = 4
    voters_at_once: int = 4
    vote_every_s: float = 0.1  # each of them
    acknowledged: dict[str, httpx.Response] = field(default_factory=dict)  # by voting token
    answered: Counter[str] = field(default_factory=Counter)  # requests by service
    repeated: Counter[str] = field(default_factory=Counter)  # what made a client repeat
    failures: list[str] = field(default_factory=list)
    watchers: "list[Watcher]" = field(default_factory=list)
    cells: tuple[str, ...] = ("eu", "us")
    _stopping: bool = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask until the end of the block; then let everyone have the last answer. Raises what broke in a client."""
        self._stopping = False
        self.watchers = [Watcher(self, number) for number in range(self.streams)]
        async with asyncio.TaskGroup() as clients:
            for number in range(self.voters_at_once):
                clients.create_task(self._again(lambda number=number: self._vote(number), self.vote_every_s))  # type: ignore[misc]
            for ask in (self._results, self._surveys, self._admission):
                clients.create_task(self._again(ask, _ASK_EVERY_S))
            watching = [clients.create_task(watcher.watch()) for watcher in self.watchers]
            try:
                yield
            finally:
                self._stopping = True
                for task in watching:
                    task.cancel()

    async def more_votes(self, votes: int) -> None:
        """Wait until so many more votes are acknowledged."""
        enough = len(self.acknowledged) + votes

        async def reached() -> bool:
            return len(self.acknowledged) >= enough or bool(self.failures)

        await eventually(reached, what=f"{votes} more votes")

    async def watched(self, responses: int) -> None:
        """Wait until every stream shows so many responses."""

        async def shown() -> bool:
            return all(watcher.responses >= responses for watcher in self.watchers)

        await eventually(shown, what=f"{responses} responses on every stream")

    async def all_recorded_once(self) -> None:
        """Wait until ledger and tally have exactly what was acknowledged."""
        await self.house.settled(self.survey, len(self.acknowledged))
        assert await self.house.participations(self.survey) == {nullifier_of(token) for token in self.acknowledged}

    async def _again(self, ask: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while not self._stopping:
            await ask()
            await asyncio.sleep(pause_s)

    async def _vote(self, number: int) -> None:
        token = self.house.token(self.survey, self.cells[len(self.acknowledged) % len(self.cells)])
        path, body = f"/v1/surveys/{self.survey.id}/vote", self.survey.ballot(number % len(self.survey.options))
        headers = {"authorization": f"Bearer {token}", "idempotency-key": f"key-{token[-40:]}"}
        answer = await self._ask("votes", "POST", path, json=body, headers=headers)
        if answer is not None and self._expect("votes", answer, 201, 202):
            self.acknowledged[token] = answer

    async def _results(self) -> None:
        answer = await self._ask("results", "GET", f"/v1/surveys/{self.survey.id}/results")
        if answer is not None:
            self._expect("results", answer, 200)

    async def _surveys(self) -> None:
        answer = await self._ask("surveys", "GET", f"/v1/surveys/{self.survey.id}")
        if answer is not None:
            self._expect("surveys", answer, 200)

    async def _admission(self) -> None:
        if not self.voters:
            return
        self.voters.append(access := self.voters.pop(0))
        path, headers = f"/v1/surveys/{self.survey.id}/voting-token", {"authorization": f"Bearer {access}"}
        answer = await self._ask("eligibility", "POST", path, headers=headers)
        if answer is not None and self._expect("eligibility", answer, 201):
            assert claims_of(answer.json()["votingToken"])["survey"] == self.survey.id

    def _expect(self, service: str, answer: httpx.Response, *statuses: int) -> bool:
        self.answered[service] += 1
        if answer.status_code not in statuses:
            self.failures.append(f"{service}: {answer.status_code} {answer.text}")
        return answer.status_code in statuses

    async def _ask(self, service: str, method: str, path: str, **request: Any) -> httpx.Response | None:
        """Ask, and once more where that broke or nobody could serve it; None where that failed as well."""
        for attempt in (1, 2):
            wait_s = _FIRST_WAIT_S
            try:
                answer = await self.house.clients[service].request(method, path, **request)
            except _LOST as error:
                why = f"{service}: {error!r}"
            else:
                if answer.status_code not in _AWAY:
                    return answer
                why = f"{service}: {answer.status_code} {answer.text}"
                wait_s = float(answer.headers.get("retry-after", _FIRST_WAIT_S))
            if attempt == 1:
                self.repeated[why] += 1
                await asyncio.sleep(wait_s)
        self.failures.append(why)
        return None


@dataclass
class Watcher:
    """One stream, followed as a browser does: back after `retry`, from the last event that it has."""

    steady: Steady
    number: int
    responses: int = -1
    connections: int = 0
    last_id: str = ""
    retry_s: float = 3.0
    retries: list[float] = field(default_factory=list)  # the wait before each coming back

    async def watch(self) -> None:
        """Watch until cancelled."""
        failed = 0
        while True:
            try:
                await self._read()
                failed = 0
            except _LOST as error:
                failed += 1
                self.steady.repeated[f"streams: {error!r}"] += 1
                if failed > 1:
                    self.steady.failures.append(f"streams: {error!r}")
            self.retries.append(self.retry_s)
            await asyncio.sleep(self.retry_s)

    async def _read(self) -> None:
        """Read one connection to its end; one that broke after it had begun is no failure."""
        headers = {"last-event-id": self.last_id} if self.last_id else {}
        path = f"/v1/surveys/{self.steady.survey.id}/results/stream"
        request = self.steady.house.clients["streams"].stream("GET", path, headers=headers, timeout=None)
        async with request as stream:
            if stream.status_code != 200:
                await stream.aread()
                self.steady.failures.append(f"streams: {stream.status_code} {stream.text}")
                return
            self.connections += 1
            try:
                await self._follow(stream)
            except _LOST as error:
                self.steady.repeated[f"streams, open: {error!r}"] += 1

    async def _follow(self, stream: httpx.Response) -> None:
        event: dict[str, str] = {}
        async for line in stream.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "retry":
                self.retry_s = int(value) / 1000
            elif line:
                event[name] = value
            elif event.get("event") == "results":
                self._take(event)
                event = {}
            else:
                event = {}

    def _take(self, event: dict[str, str]) -> None:
        responses = json.loads(event["data"])["totalResponses"]
        if responses < self.responses or older(event["id"], self.last_id):
            self.steady.failures.append(
                f"stream {self.number}: {self.last_id} ({self.responses}) then {event['id']} ({responses})"
            )
        self.responses, self.last_id = responses, event["id"]


def positions(event_id: str) -> dict[str, tuple[int, int]]:
    """Return epoch and number by cell of an event's id."""
    found = {}
    for part in filter(None, event_id.split(",")):
        cell, _, place = part.partition(":")
        epoch, _, number = place.partition("-")
        found[cell] = (int(epoch), int(number))
    return found


def older(event_id: str, than: str) -> bool:
    """Tell whether an event shows less of some cell than another one did."""
    shown = positions(event_id)
    return any(shown.get(cell, (-1, -1)) < place for cell, place in positions(than).items())
