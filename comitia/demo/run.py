"""The demo from start to end: survey, voters, votes, and whether every number agrees with the file."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from rich.console import Console

from comitia.demo import checking, display
from comitia.demo.casting import Booth
from comitia.demo.client import HttpClient
from comitia.demo.counters import CellCounters, Counters, percentiles
from comitia.demo.events import LiveResults
from comitia.demo.glasgow import Ballot, add_up, read_election
from comitia.demo.survey import PublishedElection, publish
from comitia.demo.voters import Voter, create_voters
from comitia.tokens import open_access_tokens
from domain.tally import BALLOTS
from domain.tokens import Role
from integrations.settings import Settings

COUNTED_WITHIN_S = 30.0  # from the last confirmation to the last total
_LOOK_EVERY_S = 0.1
_STAFF = "u_demo"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How large a demo is, and which: the same seed takes the same papers in the same order."""

    papers: int | None  # None: every one
    seed: int
    clients: int
    counted_within_s: float = COUNTED_WITHIN_S


@dataclass(frozen=True, slots=True)
class Place:
    """A running platform: addresses of its services by name, and settings that may create voters and read ledgers."""

    urls: Mapping[str, str]
    settings: Settings


class _Clients:
    """One client for each service that a demo calls."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.surveys = HttpClient(urls["api-surveys"])
        self.eligibility = HttpClient(urls["api-eligibility"])
        self.votes = HttpClient(urls["api-votes"])
        self.results = HttpClient(urls["api-results"])

    def close(self) -> None:
        """Hang up."""
        for client in (self.surveys, self.eligibility, self.votes, self.results):
            client.close()


async def hold_election(
    place: Place,
    wanted: Wanted,
    console: Console,
) -> list[checking.Difference]:
    """Run the demo on a platform and return every number that is not what the file says.

    Raises:
        RefusedError: the survey could not be published, or results not read.
        NoAnswerError: a service does not answer.
        PermissionError: the platform is a production one.
    """
    election = read_election()
    ballots = election.sample(election.papers if wanted.papers is None else wanted.papers, wanted.seed)
    tokens = await open_access_tokens(place.settings)
    clients = _Clients(place.urls)
    async with AsyncExitStack() as lifetime:
        lifetime.callback(clients.close)
        survey = await publish(clients.surveys, tokens.staff(_STAFF, [Role.ADMIN]), election)
        console.print(f"published {place.urls['api-surveys']}/v1/surveys/{survey.survey_id}", highlight=False)
        voters = await _create_voters(place.settings, ballots, wanted.seed, console)
        live = LiveResults(place.urls["api-streams"], survey.survey_id)
        watching = asyncio.create_task(live.run())
        lifetime.push_async_callback(_end, watching)
        counters = Counters({cell: CellCounters() for cell in place.settings.cells})
        booth = Booth(survey, clients.eligibility, clients.votes, tokens, counters)
        async with _shown(display.Display(console, counters, live, len(voters))):
            await booth.serve(voters, wanted.clients)
            took_s = time.monotonic() - counters.began_at
            recorded = sum((await checking.read_ledgers(place.settings, survey.survey_id)).values())
            await _await_totals(clients.results, survey, live, recorded, wanted.counted_within_s)
        _say_how_fast(console, counters, took_s)
        return await _check(
            place.settings, survey, clients.results, live=live, voters=voters, counters=counters, console=console
        )


async def _create_voters(settings: Settings, ballots: Sequence[Ballot], seed: int, console: Console) -> list[Voter]:
    with console.status("creating voters") as status:
        return await create_voters(
            settings, ballots, seed, lambda done: status.update(f"created {done:,} of {len(ballots):,} voters")
        )


@asynccontextmanager
async def _shown(shown: display.Display) -> AsyncIterator[None]:
    async def refresh() -> None:
        while True:
            shown.refresh()
            await asyncio.sleep(display.REFRESH_S)

    with shown:
        refreshing = asyncio.create_task(refresh())
        try:
            yield
        finally:
            await _end(refreshing)


async def _await_totals(
    results: HttpClient, survey: PublishedElection, live: LiveResults, ballots: int, within_s: float
) -> None:
    """Wait until results and stream show that many ballots, or the time is over: the comparison says which."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await live.until(ballots)
            while True:
                if (await checking.read_results(results, survey))["", 0, BALLOTS] >= ballots:
                    return
                await asyncio.sleep(_LOOK_EVERY_S)


async def _check(
    settings: Settings,
    survey: PublishedElection,
    results: HttpClient,
    *,
    live: LiveResults,
    voters: Sequence[Voter],
    counters: Counters,
    console: Console,
) -> list[checking.Difference]:
    expected = add_up(voter.ballot for voter in voters)
    regions = sorted({region for region, _, _ in expected})
    together = await checking.read_results(results, survey)
    apart = await checking.read_results(results, survey, regions)
    ledgers = await checking.read_ledgers(settings, survey.survey_id)
    streamed = checking.totals_of(survey, live.document, "") if live.document else Counter()
    console.print(display.outcome(counters, ledgers, together["", 0, BALLOTS]))
    differences = [
        *checking.compare_voters(voters, counters, ledgers),
        *checking.compare("results", checking.over_all(expected), together),
        *checking.compare("results", expected, apart),
        *checking.compare("last event of the stream", checking.over_all(expected), streamed),
    ]
    if not differences:
        console.print(
            f"results, last event and ledgers agree with the file to the vote: {len(expected):,} totals "
            f"of {len(regions)} regions, {live.events:,} events seen",
            highlight=False,
        )
    return differences


def _say_how_fast(console: Console, counters: Counters, took_s: float) -> None:
    p50, p99 = percentiles(list(counters.latencies))
    console.print(
        f"{counters.confirmed:,} votes confirmed in {took_s:.1f} s, voting tokens included: "
        f"{counters.confirmed / took_s:,.0f} votes/s; vote to answer p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms",
        highlight=False,
    )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
