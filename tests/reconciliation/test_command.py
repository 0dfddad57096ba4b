"""`comitia reconcile` as the person on call uses it."""

import os
import subprocess
import sys
from datetime import timedelta
from io import StringIO

from rich.console import Console

from comitia.reconciliation import run_pass, said, show
from domain.contracts.reconciliation import Difference, DifferenceKind, ReconcileSurveyInput
from tests.reconciliation_world import World

WITHIN = timedelta(seconds=60)


async def report_of(world: World, *, complete: bool = False) -> tuple[bool, str]:
    request = ReconcileSurveyInput(survey_id=world.survey.id, cells=tuple(world.places), complete=complete)
    for place in world.places.values():
        await place.everything_is_final()
    report = await run_pass(world.settings, request, within=WITHIN, queue=world.queue)
    printed = StringIO()
    show(report, Console(file=printed, width=200, soft_wrap=True))
    return report.agrees, printed.getvalue()


async def test_a_pass_says_what_was_compared_and_what_differs(world: World) -> None:
    await world.one.record()
    agrees, text = await report_of(world)
    assert agrees
    assert "everything agrees" in text
    assert world.two.cell in text
    batch = await world.one.record_wrongly(ballots_root=bytes(32))
    agrees, text = await report_of(world, complete=True)
    assert not agrees
    assert f"DIFFERENT: {world.one.cell} ballots_root_differs; batch {batch}" in text
    assert "it does not agree" in text


def test_a_difference_is_said_in_one_line() -> None:
    difference = Difference(
        kind=DifferenceKind.TALLY_TOTALS_DIFFER,
        cell="eu",
        detail="votes for the option",
        region="north",
        option="1",
        expected=3,
        found=5,
        more=2,
    )
    assert said(difference) == (
        "eu tally_totals_differ; region north; option 1; votes for the option; 3 expected, 5 found; and 2 more"
    )


def test_without_a_stack_it_says_so_and_fails(tmp_path: object) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMITIA_")}
    command = [sys.executable, "-m", "comitia.cli", "reconcile", "s_aaaaaaaaaaaaaaaa", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "no stack runs" in done.stdout
