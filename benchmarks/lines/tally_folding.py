"""How fast one consumer folds batch summaries: of 240 votes each, and of one vote each."""

import asyncio
import secrets
import time
from collections.abc import Iterator

from benchmarks.ground import CELL, Ground
from benchmarks.products import services, tallied_votes
from benchmarks.report import Goal, Line, check_equal, line
from benchmarks.run import Run
from benchmarks.voters import CHOICE, REGIONS
from domain.contracts.voting import BatchSummary, RegionCounts
from integrations.kafka.summaries import SummaryProducer

_BUSY_VOTES = 240
_BUSY_SUMMARIES = 20_000
_LONE_SUMMARIES = 40_000
_AT_ONCE = 1000  # messages per call of the producer
_LOOK_EVERY_S = 0.02
_WITHIN_S = 60.0
_WORKER = ("workers-tally",)


async def measure(run: Run) -> list[Line]:
    """Fold a topic full of summaries, all there before the consumer starts."""
    busy, busy_detail = await _fold(run.ground, _BUSY_SUMMARIES, _BUSY_VOTES)
    lone, lone_detail = await _fold(run.ground, _LONE_SUMMARIES, 1)
    return [
        line("tally, summaries of 240 votes", busy, "votes/s", Goal(at_least=240_000), busy_detail),
        line("tally, summaries of one vote", lone, "summaries/s", Goal(at_least=5000), lone_detail),
    ]


async def _fold(ground: Ground, count: int, votes: int) -> tuple[float, str]:
    """Return votes per second from the first change of the totals to the last, and what was compared."""
    survey = await ground.open_survey()
    async with services(ground, _WORKER):  # adopts the survey, and notes where it stopped reading
        await _until_known(ground, survey.id)
    await _produce(ground, survey.id, count, votes)
    async with services(ground, _WORKER):
        rate = await _watch(ground, survey.id, count * votes)
        counted = await tallied_votes(ground, survey.id)
    checked = check_equal("the tally", announced=count * votes, **counted)
    return rate, f"{count:,} summaries of {votes}; {checked}"


async def _watch(ground: Ground, survey_id: str, expected: int) -> float:
    began, at_first = 0.0, 0
    give_up_at = time.monotonic() + _WITHIN_S
    while time.monotonic() < give_up_at:
        now, found = time.perf_counter(), (await tallied_votes(ground, survey_id))["tallied"]
        if found and not began:
            began, at_first = now, found
        if found >= expected:
            return (found - at_first) / max(now - began, _LOOK_EVERY_S)
        await asyncio.sleep(_LOOK_EVERY_S)
    raise TimeoutError(f"the tally has {found} of {expected} votes after {_WITHIN_S:.0f} s")


async def _until_known(ground: Ground, survey_id: str) -> None:
    give_up_at = time.monotonic() + _WITHIN_S
    while time.monotonic() < give_up_at:
        if await ground.owner.fetchval("SELECT installed FROM tally.epoch WHERE survey_id = $1", survey_id):
            return
        await asyncio.sleep(_LOOK_EVERY_S)
    raise TimeoutError(f"the tally did not take up {survey_id}")


async def _produce(ground: Ground, survey_id: str, count: int, votes: int) -> None:
    producer = SummaryProducer(ground.settings.cells[CELL].kafka, CELL, timeout_s=30)
    try:
        summaries = list(_summaries(survey_id, count, votes))
        for start in range(0, count, _AT_ONCE):
            await producer.publish(tuple(summaries[start : start + _AT_ONCE]))
    finally:
        await producer.close()


def _summaries(survey_id: str, count: int, votes: int) -> Iterator[BatchSummary]:
    gateway_id = secrets.token_bytes(16)
    regions = REGIONS if votes >= len(REGIONS) else REGIONS[:1]
    share = votes // len(regions)
    counts = tuple(RegionCounts(region=region, ballots=share, options={CHOICE: share}) for region in regions)
    for number in range(1, count + 1):
        yield BatchSummary(cell=CELL, gateway_id=gateway_id, number=number, survey_id=survey_id, regions=counts)
