"""Our own processes under load, and the proof that every vote they confirmed is recorded and counted, once."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import asyncpg

from benchmarks.ground import CELL, Ground
from benchmarks.load.spec import LoadResult, LoadSpec, write_requests
from benchmarks.processes import CpuWatch, run_load
from benchmarks.report import check_equal
from benchmarks.voters import CHOICE, Polling
from comitia.stack.applications import APPLICATIONS
from comitia.stack.supervisor import Supervisor
from domain.contracts.surveys import Survey
from domain.tally import BALLOTS
from integrations.redis.connection import open_redis
from integrations.redis.tally_keys import TallyKeys, parse_totals

SERVICES = ("workers-voting", "workers-tally", "api-votes")
_SETTLED_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.2
_EXPECTED = ("201/confirmed", "202/accepted", "503/overloaded")  # a load of good votes hears nothing else
_SHOWN = 0.005  # cores

_LEDGER = """
SELECT (SELECT count(*) FROM voting.participation WHERE survey_id = $1) AS participations,
       (SELECT count(*) FROM voting.ballot WHERE survey_id = $1) AS ballots,
       (SELECT coalesce(sum(ballots), 0) FROM voting.batch_count WHERE survey_id = $1) AS counted
"""


@dataclass(frozen=True, slots=True)
class VoteLoad:
    """How votes are cast: `rate` 0 is a closed loop; `expected` bounds the requests made beforehand (per second)."""

    clients: int = 256
    seconds: float = 10.0
    warmup_s: float = 2.0
    rate: float = 0.0
    expected: float = 6000.0
    bound: bool = False
    timeline: str = ""


@dataclass(frozen=True, slots=True)
class VotesMeasured:
    """A checked load: what the client saw, cores per process, and what was compared."""

    load: LoadResult
    cores: dict[str, float]
    checked: str
    survey_id: str

    @property
    def others(self) -> float:
        """Cores that neither we nor the client took: what this machine was busy with besides."""
        ours = sum(cores for name, cores in self.cores.items() if name != "machine")
        return max(0.0, self.cores["machine"] - ours - self.load.client_cpu)

    @property
    def summary(self) -> str:
        """The run in one line, for the details of a figure."""
        taken = {name: cores for name, cores in sorted(self.cores.items()) if name != "machine" and cores >= _SHOWN}
        cores = ", ".join(f"{name} {value:.2f}" for name, value in taken.items())
        latency, cpu_us = self.load.latency_ms, 1e6 * sum(taken.values()) / max(self.load.rate, 1)
        ended = "; the requests ran out" if self.load.exhausted else ""
        return (
            f"{self.load.rate:,.0f}/s at {self.load.connections} clients, p50 {latency.p50:.1f} ms, "
            f"p99 {latency.p99:.1f} ms; cores: {cores}, client {self.load.client_cpu:.2f}, others {self.others:.2f}; "
            f"{cpu_us:.0f} us CPU per vote{ended}"
        )


# A few keys stand for the devices of all voters (`benchmarks/voters.py`); what counting them costs stays
_MANY_DEVICES = {"COMITIA_LIMITS__VOTE_DEVICE": "[1000000, 10]"}


@asynccontextmanager
async def services(
    ground: Ground, names: Sequence[str] = SERVICES, more: Mapping[str, str] | None = None
) -> AsyncIterator[Supervisor]:
    """Run some of our processes until the end of the block, ready when it begins."""
    chosen = [application for application in APPLICATIONS if application.name in names]
    async with Supervisor(ground.state, applications=chosen, more={**_MANY_DEVICES, **(more or {})}) as supervisor:
        yield supervisor


async def cast_votes(
    ground: Ground, supervisor: Supervisor, load: VoteLoad, survey: Survey | None = None
) -> VotesMeasured:
    """Cast votes of different people in a survey that nobody voted in yet; without one, in a fresh one.

    Raises:
        CheckFailedError: accepted, recorded and counted are not the same number.
    """
    survey = survey or await ground.open_survey()
    polling = Polling(CELL, survey.id, supervisor.url("votes"))
    wanted = int((load.rate or load.expected) * load.seconds) + load.clients
    path = ground.folder / f"requests-{survey.id}"
    spec = LoadSpec(
        ports=[urlsplit(polling.url).port or 0],
        requests=str(path),
        connections=load.clients,
        duration_s=load.seconds,
        warmup_s=load.warmup_s,
        rate=load.rate,
        timeline=load.timeline,
    )
    try:
        await asyncio.to_thread(write_requests, path, ground.voters.requests(polling, wanted, bound=load.bound))
        watch = CpuWatch(pids(ground, supervisor))
        watch.start()
        result = await run_load(spec)
        cores = watch.cores()
    finally:
        path.unlink(missing_ok=True)
    return VotesMeasured(result, cores, await check(ground, supervisor, survey.id, result), survey.id)


def pids(ground: Ground, supervisor: Supervisor) -> dict[str, int]:
    """Return every process that may work during a load: ours and the servers."""
    return {**ground.state.pids, **supervisor.pids}


async def check(ground: Ground, supervisor: Supervisor, survey_id: str, result: LoadResult) -> str:
    """Compare what the client was told with the ledger and the tally, once both stand still.

    Raises:
        CheckFailedError: they differ.
    """
    confirmed = result.counts.get("201/confirmed", 0)
    check_equal("receipts", confirmed=confirmed, receipts=result.distinct_receipts)
    check_equal("answers", sent=result.sent, answered=result.answered)
    expected = sum(result.counts.get(kind, 0) for kind in _EXPECTED)
    check_equal(f"answers {result.counts}", sent=result.sent, expected=expected)
    accepted = confirmed + result.counts.get("202/accepted", 0)
    counts = await settled(lambda: recorded_votes(ground, survey_id), accepted)
    if "workers-tally" in supervisor.processes:
        counts |= await settled(lambda: tallied_votes(ground, survey_id), accepted)
    return check_equal(f"survey {survey_id}", accepted=accepted, **counts)


async def recorded_votes(ground: Ground, survey_id: str) -> dict[str, int]:
    """Return what the ledger has of a survey: participations, ballots, and the ballots that its batches count."""
    return await recorded_in(ground.owner, survey_id)


async def recorded_in(owner: asyncpg.Pool, survey_id: str) -> dict[str, int]:
    """Return the same of the ledger whose owner this is."""
    row = await owner.fetchrow(_LEDGER, survey_id)
    assert row is not None
    return {name: int(row[name]) for name in ("participations", "ballots", "counted")}


async def tallied_votes(ground: Ground, survey_id: str, cell: str = CELL) -> dict[str, int]:
    """Return what the tally has of a survey: its ballots, and the votes of the one option that everybody chose."""
    redis = open_redis(ground.settings.cells[cell].redis)
    try:
        pairs = await redis.hgetall(TallyKeys.of(cell).totals(survey_id))
        _, counts = parse_totals(cast("dict[bytes, bytes]", pairs))
    finally:
        await redis.aclose()
    chosen = {BALLOTS: "tallied", CHOICE: "chosen"}
    return {name: sum(n for (_, option), n in counts.items() if option == key) for key, name in chosen.items()}


async def settled(read: Callable[[], Awaitable[dict[str, int]]], expected: int) -> dict[str, int]:
    """Read until every count is the expected one, or time is up: the caller compares."""
    give_up_at = time.monotonic() + _SETTLED_WITHIN_S
    while True:
        found = await read()
        if all(count >= expected for count in found.values()) or time.monotonic() > give_up_at:
            return found
        await asyncio.sleep(_LOOK_EVERY_S)
