"""A client that votes for many, in parallel, and writes down every answer that it gets."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.end_to_end.house import House, OpenSurvey, eventually, nullifier_of

ACKNOWLEDGED = frozenset({201, 202})
AT_ONCE = 60


@dataclass
class Load:
    """Distinct voters of one survey, each with an idempotency key of its own; `answers` are the last by voter."""

    house: House
    survey: OpenSurvey
    tokens: list[str]
    answers: dict[str, httpx.Response] = field(default_factory=dict)
    interrupted: set[str] = field(default_factory=set)  # whose connection broke before an answer

    @classmethod
    def of(cls, house: House, survey: OpenSurvey, voters: int, cells: Iterable[str] = ("eu",)) -> "Load":
        """Return a load of so many voters, spread over cells."""
        names = list(cells)
        return cls(house, survey, [house.token(survey, names[n % len(names)]) for n in range(voters)])

    @property
    def acknowledged(self) -> list[str]:
        """The voters who hold a 201 or a 202."""
        return [token for token, answer in self.answers.items() if answer.status_code in ACKNOWLEDGED]

    @property
    def accepted(self) -> list[str]:
        """The voters who hold a 202."""
        return [token for token, answer in self.answers.items() if answer.status_code == 202]

    def statuses(self) -> dict[int, int]:
        """Return how many answers have each status."""
        found = [answer.status_code for answer in self.answers.values()]
        return {status: found.count(status) for status in set(found)}

    async def run(self, tokens: Iterable[str] | None = None) -> None:
        """Let each of these voters vote once; a broken connection is written down, not raised."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def vote(number: int, token: str) -> None:
            async with gate:
                body = self.survey.ballot(number % len(self.survey.options))
                try:
                    self.answers[token] = await self._cast(token, body)
                except httpx.TransportError:
                    self.interrupted.add(token)

        chosen = self.tokens if tokens is None else list(tokens)
        await asyncio.gather(*(vote(number, token) for number, token in enumerate(chosen)))

    async def _cast(self, token: str, body: dict[str, Any]) -> httpx.Response:
        """Cast a vote; once more where a kept connection was closed just then, as every client does."""
        key = f"key-{token[-40:]}"
        try:
            return await self.house.cast(self.survey, token, body, key=key)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            return await self.house.cast(self.survey, token, body, key=key)

    async def acknowledge(self, votes: int) -> None:
        """Wait until so many voters hold a 201 or a 202."""

        async def enough() -> bool:
            return len(self.acknowledged) >= votes

        await eventually(enough, what=f"{votes} acknowledged votes")

    async def insist(self) -> None:
        """Let everyone without a 201 or a 202 try again until they have one, as a real client does."""

        async def everyone() -> bool:
            missing = set(self.tokens).difference(self.acknowledged)
            await self.run(missing)
            unexpected = {status for status in self.statuses() if status not in {*ACKNOWLEDGED, 503}}
            assert not unexpected, self.statuses()
            return len(self.acknowledged) == len(self.tokens)

        await eventually(everyone, what="every voter acknowledged")

    async def confirmed(self) -> None:
        """Wait until everyone who was promised a vote is in the ledger, and see that nobody is there twice."""
        promised = {nullifier_of(token) for token in self.acknowledged}

        async def recorded() -> bool:
            return promised <= await self.house.participations(self.survey)

        await eventually(recorded, what="every acknowledged vote in the ledger")
        participations, ballots, counted = await self.house.counts(self.survey)
        assert participations == ballots == counted
