"""Reconciliation at a million ballots: what is new, everything, evidence alone; and a planted fault of each kind."""

import secrets
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

from benchmarks.ground import CELL, Ground
from benchmarks.ledger_filling import Filler, Wrong
from benchmarks.products import services, settled, tallied_votes
from benchmarks.report import CheckFailedError, Goal, Line, check_equal, line
from benchmarks.run import Run
from comitia.reconciliation import run_pass
from comitia.stack.state import CELLS
from domain.contracts.reconciliation import DifferenceKind, ReconcileSurveyInput, ReconciliationReport
from domain.contracts.surveys import Survey
from domain.contracts.voting import BatchSummary
from domain.ids import BatchId
from integrations.kafka.summaries import SummaryProducer
from integrations.keys.evidence import EvidenceVerifier
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import OWNER
from integrations.redis.connection import open_redis
from integrations.redis.tally_keys import TallyKeys, field_of

_SERVICES = ("workers-tally", "workers-reconciliation")
_NEW = 10_000  # ballots since the last pass: some seconds of a full load
_CHECKED = 20_000
_WITHIN = timedelta(minutes=10)
_ANNOUNCED_AT_ONCE = 500
_PLANTED = 13  # kinds: twelve of the ledger's, and the tally's
_K = DifferenceKind


async def measure(run: Run) -> list[Line]:
    """Fill two cells, reconcile them, add what is new, then plant what must be found."""
    ground, ballots = run.ground, run.ballots
    async with AsyncExitStack() as lifetime:
        fillers = await _fillers(ground, lifetime)
        here, there = fillers
        survey = here.survey
        run.say(f"  filling: {ballots:,} ballots in {here.cell}, {ballots // 100:,} in {there.cell}")
        summaries = await here.fill(ballots)
        elsewhere = await there.fill(ballots // 100)
        await here.pool.execute("VACUUM ANALYZE voting.participation, voting.ballot, voting.batch, voting.batch_count")
        async with services(ground, _SERVICES):
            await _announce(ground, here, summaries, ballots)
            await _announce(ground, there, elsewhere, ballots // 100)
            complete = await _reconcile(ground, survey, ballots, complete=True)
            again = await _reconcile(ground, survey, ballots, complete=True)
            nothing = await _reconcile(ground, survey, ballots)
            await _announce(ground, here, await here.fill(_NEW), ballots + _NEW)
            fresh = await _reconcile(ground, survey, ballots + _NEW)
            rate = await _evidence_per_core_s(ground, here)
            found = await _planted(ground, here, there)
    seconds = [_seconds(report) for report in (complete, again)]
    checked = fresh.checked[0]
    detail = (
        f"{checked.evidence_checked:,} new ones checked; participations = ballots = counted = tallied = "
        f"{ballots + _NEW:,}; with nothing new {_seconds(nothing):.2f} s"
    )
    what = f"{ballots:,} ballots"
    return [
        line(f"incremental reconciliation at {what}", _seconds(fresh), "s", Goal(at_most=2), detail),
        line(
            f"complete reconciliation, {what}",
            max(seconds),
            "s",
            Goal(at_most=60),
            f"slower of {seconds[0]:.1f} s and {seconds[1]:.1f} s; every root, every evidence, both cells compared",
        ),
        line("evidence checked per second and core", rate, "/s", Goal(at_least=10_000), f"{_CHECKED:,} on one thread"),
        line(
            "planted faults found", found, "kinds", Goal(at_least=_PLANTED), "each by the next pass, named to the row"
        ),
    ]


async def _fillers(ground: Ground, lifetime: AsyncExitStack) -> list[Filler]:
    survey: Survey | None = None
    fillers = []
    for cell in CELLS:
        survey = await ground.open_survey(cell, survey)
        pool = await open_pool(ground.settings.cells[cell].database, ground.settings, OWNER, size=2)
        lifetime.push_async_callback(pool.close)
        filler = Filler(ground, cell, pool, survey)
        await filler.open()
        fillers.append(filler)
    return fillers


async def _announce(ground: Ground, filler: Filler, summaries: list[BatchSummary], expected: int) -> None:
    """Announce batches and wait until the tally has them."""
    producer = SummaryProducer(ground.settings.cells[filler.cell].kafka, filler.cell)
    try:
        for start in range(0, len(summaries), _ANNOUNCED_AT_ONCE):
            await producer.publish(tuple(summaries[start : start + _ANNOUNCED_AT_ONCE]))
    finally:
        await producer.close()

    async def tallied() -> dict[str, int]:
        return {"tallied": (await tallied_votes(ground, filler.survey.id, filler.cell))["tallied"]}

    check_equal(f"the tally of {filler.cell}", announced=expected, **await settled(tallied, expected))


async def _pass(
    ground: Ground, survey: Survey, *, complete: bool = False, tally_grace_s: float = 30.0
) -> ReconciliationReport:
    request = ReconcileSurveyInput(survey_id=survey.id, cells=CELLS, complete=complete, tally_grace_s=tally_grace_s)
    return await run_pass(ground.state.settings_for(), request, within=_WITHIN)


async def _reconcile(ground: Ground, survey: Survey, expected: int, *, complete: bool = False) -> ReconciliationReport:
    """Return a report that agrees and that everything is in."""
    report = await _pass(ground, survey, complete=complete)
    if not report.agrees or report.repaired:
        raise CheckFailedError(f"an honest ledger differs: {report.model_dump_json()[:2000]}")
    checked = report.checked[0]
    check_equal(
        f"reconciliation of {CELL}",
        expected=expected,
        participations=checked.participations,
        ballots=checked.ballots,
        counted=sum(region.counted for region in checked.regions),
        tallied=checked.tallied,
    )
    return report


def _seconds(report: ReconciliationReport) -> float:
    assert report.began_at is not None
    assert report.finished_at is not None
    return (report.finished_at - report.began_at).total_seconds()


async def _evidence_per_core_s(ground: Ground, filler: Filler) -> float:
    """Return how many checks a second of processor time makes, by the very check that passes use."""
    is_admitted = await EvidenceVerifier(ground.kms).check_for(filler.cell)
    people = [filler.person(number) for number in range(_CHECKED)]
    began = time.process_time()
    good = sum(is_admitted(filler.survey.id, each.nullifier, each.region, each.evidence) for each in people)
    seconds = time.process_time() - began
    check_equal("evidence", signed=_CHECKED, admitted=good)
    return _CHECKED / seconds


async def _planted(ground: Ground, here: Filler, there: Filler) -> int:
    """Plant a fault of each kind, reconcile, and return how many kinds were found.

    Raises:
        CheckFailedError: one of them was not.
    """
    survey = here.survey
    honest, _ = await here.write([here.person(0)])
    due = await _plant_rows(here, there, honest)
    await _plant_counts(ground, here)
    report = await _pass(ground, survey, tally_grace_s=0.0)
    missing = due - {found.kind for found in report.differences}
    tally = _K.TALLY_TOTALS_DIFFER
    if missing or tally not in {found.kind for found in report.repaired}:
        raise CheckFailedError(f"planted and not found: {sorted(missing) or tally}")
    complete = await _pass(ground, survey, complete=True, tally_grace_s=0.0)
    if missing := due - {found.kind for found in complete.differences}:
        raise CheckFailedError(f"planted and not found by a complete pass: {sorted(missing)}")
    return len(due) + 1


async def _plant_rows(here: Filler, there: Filler, honest: BatchId) -> set[DifferenceKind]:
    """Plant faults of the ledger; return their kinds."""
    await here.stuff_ballot(honest)
    await here.stuff_ballot(BatchId(secrets.token_bytes(16), 1))
    await here.invent(replace(here.person(0), evidence=secrets.token_bytes(64)))
    twice = secrets.token_bytes(32)
    for filler in (there, here):
        await filler.write([filler.person(0, twice)])
    for wrong in (
        Wrong(participations_root=bytes(32)),
        Wrong(ballots_root=bytes(32)),
        Wrong(without_ballot=True),
        Wrong(without_participation=True),
        Wrong(without_entry=True),
        Wrong(counted={"ward-1": 3}),
    ):
        await here.write([here.person(number) for number in range(2)], wrong)
    return {
        _K.BALLOT_OF_ANOTHER_TRANSACTION,
        _K.BALLOT_WITHOUT_BATCH,
        _K.PARTICIPATION_WITHOUT_BATCH,
        _K.EVIDENCE_INVALID,
        _K.NULLIFIER_IN_TWO_CELLS,
        _K.PARTICIPATIONS_ROOT_DIFFERS,
        _K.BALLOTS_ROOT_DIFFERS,
        _K.BATCH_BALLOTS_DIFFER,
        _K.BATCH_PARTICIPATIONS_DIFFER,
        _K.AUDIT_ENTRY_MISSING,
        _K.BATCH_COUNTS_DIFFER,
        _K.TOTALS_DIFFER,
    }


async def _plant_counts(ground: Ground, filler: Filler) -> None:
    """Make the tally say one vote more than there is."""
    redis = open_redis(ground.settings.cells[filler.cell].redis)
    try:
        totals = TallyKeys.of(filler.cell).totals(filler.survey.id)
        await redis.hincrby(totals, field_of("ward-1", "1"), 1)
    finally:
        await redis.aclose()
