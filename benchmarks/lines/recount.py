"""A survey of a million sealed ballots counted again: opened, checked, added up, and every row in a tree."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from benchmarks.ground import CELL, Ground
from benchmarks.report import CheckFailedError, Goal, Line, check_equal, line
from benchmarks.run import Run
from benchmarks.voters import REGIONS
from domain.ballots import Answer, BallotRules
from domain.contracts.certification import CellRecount, RecountCellInput, RecountProgress
from domain.contracts.surveys import Survey
from domain.recount import counts_of
from domain.tally import BALLOTS
from integrations.keys.sealing import SurveySeal
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.pool import open_pool
from integrations.postgres.recount import RecountLedger
from integrations.postgres.roles import CERTIFICATION
from integrations.recount.recounter import LedgerRecounter

BALLOTS_IN_ALL = 1_000_000
_BATCH = 500
_COPIED = 50_000  # rows at a time


async def measure(run: Run, ballots: int = BALLOTS_IN_ALL) -> list[Line]:
    """Fill a ledger with sealed ballots, count them again on every core, and compare with what was sealed."""
    ground = run.ground
    survey = await ground.open_survey()
    expected = await _fill(ground, survey, ballots)
    recount, seconds = await _recount(ground, survey)
    if recount.differences:
        raise CheckFailedError(f"the recount found {recount.differences[:3]}")
    counted = counts_of(recount.regions)
    for key in expected.keys() | counted.keys():
        check_equal(f"votes of {key}", sealed=expected[key], recounted=counted.get(key, 0))
    checked = check_equal(
        "the ballots", sealed=ballots, recounted=recount.ballots, participations=recount.participations
    )
    detail = f"{ballots / seconds:,.0f} ballots/s with the trees over participations, ballots and batches; {checked}"
    return [line(f"recount of {ballots:,} ballots", seconds, "s", Goal(at_most=60), detail)]


async def _recount(ground: Ground, survey: Survey) -> tuple[CellRecount, float]:
    settings = ground.state.settings_for(CERTIFICATION)
    async with AsyncExitStack() as lifetime:
        pool = await open_pool(settings.cells[CELL].database, settings, CERTIFICATION, command_timeout=60)
        lifetime.push_async_callback(pool.close)
        objects = FileObjectStore(ground.folder / "objects")
        recounter = LedgerRecounter({CELL: RecountLedger(pool)}, ground.kms, objects)
        request = RecountCellInput(cell=CELL, survey=survey)
        began = time.perf_counter()
        recount = await recounter.recount(request, RecountProgress(), lambda _: None)
        return recount, time.perf_counter() - began


async def _fill(ground: Ground, survey: Survey, ballots: int) -> Counter[tuple[str, str]]:
    """Write sealed ballots with their participations and batches, and seal the survey; return what was sealed."""
    wrapped = await ground.owner.fetchval(
        "SELECT wrapped_ballot_key FROM voting.survey WHERE survey_id = $1", survey.id
    )
    seal, rules = SurveySeal(survey.id, await ground.kms.unwrap(wrapped, survey.id)), BallotRules(survey)
    gateway = uuid4().bytes
    batches = -(-ballots // _BATCH)
    sealed: Counter[tuple[str, str]] = Counter()
    counts: dict[tuple[int, str], Counter[str]] = {}
    options = [option.id for option in survey.questions[0].options]

    def rows(first: int) -> Iterator[tuple[Any, ...]]:
        for n in range(first, min(first + _COPIED, ballots)):
            region, option = REGIONS[n % len(REGIONS)], options[n // 7 % len(options)]
            number = n // _BATCH + 1
            for key in (BALLOTS, option):
                sealed[region, key] += 1
                counts.setdefault((number, region), Counter())[key] += 1
            yield survey.id, uuid4(), gateway, number, seal.seal(rules.pack(region, [Answer("1", (option,))]))

    async with ground.owner.acquire() as connection:
        copy = connection.copy_records_to_table
        await connection.execute("INSERT INTO voting.gateway (gateway_id, build) VALUES ($1, 'benchmark')", gateway)
        now, empty = datetime.now(UTC), bytes(32)
        await copy(
            "batch",
            schema_name="voting",
            columns=("gateway_id", "number", "input_digest", "outcomes", "participations_root", "ballots_root",
                     "accepted_at"),
            records=((gateway, n, empty, bytes(_BATCH), empty, empty, now) for n in range(1, batches + 1)),
        )  # fmt: skip
        for first in range(0, ballots, _COPIED):
            await copy(
                "ballot",
                schema_name="voting",
                columns=("survey_id", "ballot_id", "gateway_id", "number", "sealed"),
                records=rows(first),
            )
            await copy(
                "participation",
                schema_name="voting",
                columns=("survey_id", "nullifier", "region", "evidence", "key_mac"),
                records=(
                    (survey.id, hashlib.sha256(f"{survey.id}{n}".encode()).digest(), REGIONS[0], bytes(64), b"")
                    for n in range(first, min(first + _COPIED, ballots))
                ),
            )
        await copy(
            "batch_count",
            schema_name="voting",
            columns=("gateway_id", "number", "survey_id", "region", "ballots", "options"),
            records=(
                (gateway, number, survey.id, region, found.pop(BALLOTS), json.dumps(found))
                for (number, region), found in counts.items()
            ),
        )
        await connection.execute(
            "UPDATE voting.survey SET finish_at = clock_timestamp(), sealed_at = clock_timestamp() "
            "WHERE survey_id = $1",
            survey.id,
        )
        await connection.execute("VACUUM ANALYZE voting.ballot, voting.participation, voting.batch_count")
    return sealed
