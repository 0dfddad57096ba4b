"""Compares what was counted with what the file says, to the vote."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from comitia.demo.client import HttpClient
from comitia.demo.counters import Counters
from comitia.demo.glasgow import Totals
from comitia.demo.survey import PublishedElection, RefusedError, problem_code
from comitia.demo.voters import Voter
from domain.tally import BALLOTS
from integrations.postgres import roles
from integrations.postgres.pool import open_pool
from integrations.postgres.tally import LedgerSnapshots
from integrations.settings import Settings

_NAMED_MAX = 20  # differences that are shown one by one


@dataclass(frozen=True, slots=True)
class Difference:
    """One number that is not what it should be."""

    where: str
    expected: int
    found: int

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.where}: {self.found:,} where {self.expected:,} were expected"


def totals_of(survey: PublishedElection, document: Mapping[str, Any], region: str) -> Totals:
    """Return the totals in a results document, under `region`."""
    party_of = {option: party for options in survey.options for party, option in options.items()}
    totals: Totals = Counter({(region, 0, BALLOTS): document["totalResponses"]})
    for question in document["questions"]:
        number = survey.questions.index(question["id"]) + 1
        for option in question["options"]:
            totals[region, number, party_of[option["id"]]] += option["votes"]
    return totals


def over_all(totals: Totals) -> Totals:
    """Return the totals of all regions together, under the region `""`."""
    together: Totals = Counter()
    for (_, question, party), votes in totals.items():
        together["", question, party] += votes
    return together


async def read_results(results: HttpClient, survey: PublishedElection, regions: Iterable[str] = ("",)) -> Totals:
    """Return what the results call says of each region, `""` being all of them.

    Raises:
        RefusedError: it does not answer with results.
        NoAnswerError: it does not answer.
    """
    totals: Totals = Counter()
    for region in regions:
        query = f"?region={region}" if region else ""
        answer = await results.request("GET", survey.results_path + query)
        if answer.status != 200:  # noqa: PLR2004 - OK
            raise RefusedError(f"reading results: {answer.status} {problem_code(answer)}")
        totals.update(totals_of(survey, answer.json(), region))
    return totals


async def read_ledgers(settings: Settings, survey_id: str) -> dict[str, int]:
    """Return how many ballots the ledger of each cell has counted."""
    found = {}
    async with AsyncExitStack() as opened:
        for cell, addresses in settings.cells.items():
            pool = await open_pool(addresses.database, settings, roles.TALLY, size=1)
            opened.push_async_callback(pool.close)
            async with LedgerSnapshots(pool).open() as snapshot:
                counts = await snapshot.counts(survey_id)
            found[cell] = sum(votes for (_, option), votes in counts.items() if option == BALLOTS)
    return found


def compare(source: str, expected: Totals, found: Totals) -> list[Difference]:
    """Return where two totals differ."""
    return [
        Difference(f"{source}{_place(*key)}", expected[key], found[key])
        for key in sorted({*expected, *found})
        if expected[key] != found[key]
    ]


def compare_voters(voters: Iterable[Voter], counters: Counters, ledgers: Mapping[str, int]) -> list[Difference]:
    """Return where voters, answers and ledgers of the cells differ; and requests without an ending."""
    expected = Counter(voter.cell for voter in voters)
    differences = []
    for cell, counted in counters.cells.items():
        for what, found in (
            ("accepted", counted.accepted),
            ("confirmed", counted.confirmed),
            ("counted", ledgers[cell]),
        ):
            if found != expected[cell]:
                differences.append(Difference(f"cell {cell}, {what}", expected[cell], found))
        if counted.ended != counted.sent:
            differences.append(Difference(f"cell {cell}, vote requests with one ending", counted.sent, counted.ended))
    differences += [Difference(f"voters told: {fault}", 0, times) for fault, times in counters.faults.items()]
    return differences


def described(differences: list[Difference]) -> list[str]:
    """Return a line for each difference, up to a number that a person reads."""
    lines = [str(difference) for difference in differences[:_NAMED_MAX]]
    left = len(differences) - len(lines)
    return [*lines, f"and {left} more"] if left else lines


def _place(region: str, question: int, party: str) -> str:
    what = f"question {question}, {party}" if question else "ballots"
    return f", {region}, {what}" if region else f", {what}"
