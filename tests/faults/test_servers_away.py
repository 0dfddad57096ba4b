"""Temporal, Kafka and Redis away for a while: what goes on meanwhile, and that everything agrees afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest

from comitia.stack.ports import HOST
from comitia.stack.state import CELLS
from integrations.addresses import RedisAddress
from integrations.redis.connection import open_redis
from tests.end_to_end.house import House, Json, OpenSurvey, eventually
from tests.faults.load import Load


class Watcher:
    """Somebody who watches a survey's stream; `seen` are the documents, in order."""

    def __init__(self) -> None:
        self.seen: list[Json] = []

    @property
    def totals(self) -> list[int]:
        return [document["totalResponses"] for document in self.seen]

    async def until(self, total: int) -> None:
        """Wait until a document with so many ballots came."""

        async def came() -> bool:
            return bool(self.totals) and self.totals[-1] >= total

        await eventually(came, what=f"{total} ballots on the stream; seen {self.totals[-3:]}")


@asynccontextmanager
async def watching(house: House, survey: OpenSurvey) -> AsyncIterator[Watcher]:
    """Watch the live results of a survey until the end of the block; a stream that breaks fails it."""
    watcher = Watcher()

    async def read() -> None:
        async with house.clients["streams"].stream(
            "GET", f"/v1/surveys/{survey.id}/results/stream", timeout=120
        ) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                if line.startswith("data:") and "totalResponses" in line:
                    watcher.seen.append(json.loads(line[5:]))

    reading = asyncio.create_task(read())
    try:
        yield watcher
        assert not reading.done(), "the stream ended"
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_without_temporal_votes_are_refused_and_everything_else_goes_on(house: House) -> None:
    survey = await house.open_survey()
    load = Load.of(house, survey, 40, ("eu", "us"))
    await load.run(load.tokens[:4])
    await house.settled(survey, 4)
    before = load.statuses()

    async with watching(house, survey) as watcher:
        await watcher.until(4)
        with house.frozen("temporal"):
            await load.run(load.tokens[4:])
            assert before == {201: 4}
            assert load.statuses() == {201: 4, 503: 36}  # never a promise that nothing stands behind
            for answer in load.answers.values():
                if answer.status_code == 503:
                    assert int(answer.headers["retry-after"]) >= 1
                    assert answer.json()["code"] in {"outcome_unknown", "overloaded"}
            assert (await house.results(survey))["totalResponses"] == 4
            public = await house.clients["surveys"].get(f"/v1/surveys/{survey.id}")
            assert public.status_code == 200
            _, access = await house.voter()
            assert (await house.ask_to_vote(survey.id, access)).status_code == 201
        await load.insist()
        await house.settled(survey, 40)
        await watcher.until(40)
    assert watcher.totals == sorted(watcher.totals)


async def test_without_kafka_votes_confirm_and_results_stand_still_until_it_is_back(house: House) -> None:
    survey = await house.open_survey()
    load = Load.of(house, survey, 60, ("eu", "us"))
    await load.run(load.tokens[:10])
    await house.settled(survey, 10)

    with house.frozen("kafka"):
        await load.run(load.tokens[10:])
        assert len(load.acknowledged) == 60
        await load.confirmed()
        assert await house.counts(survey) == (60, 60, 60)
        still = await eventually(lambda: _stands_still(house, survey), what="asOf stands still")
        assert still["totalResponses"] == 10

    await house.settled(survey, 60)
    await eventually(lambda: _moved_on(house, survey, still["asOf"]), what="asOf goes on")
    assert (await house.results(survey))["totalResponses"] == 60


async def test_without_redis_votes_confirm_and_voters_are_admitted(house: House) -> None:
    survey = await house.open_survey()
    load = Load.of(house, survey, 40, ("eu", "us"))
    await load.run(load.tokens[:10])
    await house.settled(survey, 10)

    with house.frozen("redis"):
        await load.run(load.tokens[10:])
        assert len(load.acknowledged) == 40
        await load.confirmed()
        for cell in ("eu", "us"):
            _, access = await house.voter(cell)
            admitted = await house.ask_to_vote(survey.id, access)
            assert admitted.status_code == 201, admitted.text
        seen = await house.clients["results"].get(f"/v1/surveys/{survey.id}/results")
        assert seen.status_code in {200, 503}
        if seen.status_code == 200:
            assert seen.json()["totalResponses"] == 10
            assert seen.json()["missingCells"] == ["eu", "us"]
        else:
            assert int(seen.headers["retry-after"]) >= 1

    await house.settled(survey, 40)


async def _stands_still(house: House, survey: OpenSurvey) -> Json | None:
    """Return the results where the instant that they speak for no longer follows the clock."""
    results = await house.results(survey)
    if results["asOf"] is None:
        return results
    as_of = datetime.fromisoformat(results["asOf"])
    return results if (datetime.now(as_of.tzinfo) - as_of).total_seconds() > 4 else None


async def _moved_on(house: House, survey: OpenSurvey, before: str | None) -> bool:
    results = await house.results(survey)
    return results["asOf"] is not None and (before is None or results["asOf"] > before)


async def flush(house: House) -> None:
    """Take everything out of Redis, in every cell."""
    for number, _ in enumerate(CELLS):
        redis = open_redis(RedisAddress(host=HOST, port=house.state.ports["redis"], database=number), connections=1)
        await redis.flushdb()
        await redis.aclose()


async def restart(house: House) -> None:
    """Kill Redis, and start it with what its file has."""
    await house.servers.processes["redis"].kill()
    await house.servers.start("redis")


async def lose_all(house: House) -> None:
    """Kill Redis, and start it with nothing."""
    await flush(house)
    await restart(house)


@pytest.mark.parametrize("loss", [flush, restart, lose_all])
async def test_results_come_back_from_the_ledger_and_never_count_backwards(house: House, loss: object) -> None:
    assert callable(loss)
    survey = await house.open_survey()
    load = Load.of(house, survey, 60, ("eu", "us"))
    await load.run(load.tokens[:30])
    await house.settled(survey, 30)

    async with watching(house, survey) as watcher:
        await watcher.until(30)
        public: list[int] = []
        await loss(house)
        await load.run(load.tokens[30:])
        assert len(load.acknowledged) == 60
        await load.confirmed()

        async def rebuilt() -> bool:
            found = await house.clients["results"].get(f"/v1/surveys/{survey.id}/results")
            if found.status_code == 200:
                public.append(found.json()["totalResponses"])
            return bool(public) and public[-1] == 60 and not found.json()["missingCells"]

        await eventually(rebuilt, what="60 votes in the public results")
        await watcher.until(60)
    await house.settled(survey, 60)
    assert min(public) >= 30
    assert public == sorted(public)
    assert min(watcher.totals) >= 30
    assert watcher.totals == sorted(watcher.totals)
