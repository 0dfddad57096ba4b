"""`comitia reconcile`: one pass of reconciliation now, for the person on call."""

import asyncio
import secrets
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError

from comitia.stack_settings import STACK_FOLDER, DataFolder, platform_settings
from domain.contracts.reconciliation import Difference, ReconcileSurveyInput, ReconciliationReport
from domain.ids import SURVEY_ID, reconcile_survey_workflow_id
from integrations.keys.opening import open_keys
from integrations.platform import IN_FLIGHT, RECONCILIATION_QUEUE
from integrations.settings import Settings
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from workflows.reconcile_survey import ReconcileSurveyWorkflow
from workflows.search_attributes import SURVEY_ID as SURVEY_ATTRIBUTE


def reconcile(
    survey: Annotated[str, typer.Argument(help="The survey's id.")],
    *,
    complete: Annotated[bool, typer.Option("--complete", help="Read everything again, not only what is new.")] = False,
    wait: Annotated[float, typer.Option(min=1, help="How many seconds to wait for the report.")] = 300.0,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Compare a survey's ledgers, tallies and cells; repair the tally; exit 1 where anything else differs."""
    console = Console(soft_wrap=True)
    try:
        settings = platform_settings(data)
    except LookupError as error:
        console.print(str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None
    if not SURVEY_ID.fullmatch(survey):
        raise typer.BadParameter("not a survey's id", param_hint="SURVEY")
    request = ReconcileSurveyInput(survey_id=survey, cells=tuple(settings.cells), complete=complete)
    try:
        report = asyncio.run(run_pass(settings, request, within=timedelta(seconds=wait)))
    except (RPCError, RuntimeError, TimeoutError, WorkflowFailureError) as error:
        console.print(f"no report: {type(error).__name__}. Is workers-reconciliation running?", markup=False)
        raise typer.Exit(1) from None
    show(report, console)
    raise typer.Exit(0 if report.agrees else 1)


async def run_pass(
    settings: Settings, request: ReconcileSurveyInput, *, within: timedelta, queue: str = RECONCILIATION_QUEUE
) -> ReconciliationReport:
    """Run one pass and return its report; it goes on where nobody waits for it any more.

    Raises:
        RuntimeError: Temporal cannot be reached.
        TimeoutError: there was no report in time.
    """
    client = await _connect(settings)
    handle = await client.start_workflow(
        ReconcileSurveyWorkflow.run,
        request,
        id=reconcile_survey_workflow_id(request.survey_id, f"by-hand-{secrets.token_hex(6)}"),
        task_queue=queue,
        search_attributes=TypedSearchAttributes([SearchAttributePair(SURVEY_ATTRIBUTE, request.survey_id)]),
    )
    async with asyncio.timeout(within.total_seconds()):
        return await handle.result()


def show(report: ReconciliationReport, console: Console) -> None:
    """Print what was compared, what was repaired, and what differs."""
    table = Table("cell", "batches", "participations", "ballots", "counted", "tallied", "folded", "waiting")
    for cell in report.checked:
        counted = sum(region.counted for region in cell.regions)
        figures = (cell.batches, cell.participations, cell.ballots, counted, cell.tallied, cell.announced, cell.waiting)
        table.add_row(cell.cell, *(f"{figure:,}" for figure in figures))
    console.print(table)
    for title, found in (("repaired", report.repaired), ("DIFFERENT", report.differences)):
        for difference in found:
            console.print(f"{title}: {said(difference)}", markup=False, highlight=False)
    for where in report.unreached:
        console.print(f"not reached: {where}", markup=False, highlight=False)
    console.print("everything agrees" if report.agrees else "it does not agree")


def said(difference: Difference) -> str:
    """Return a difference in one line, with the rows that it names."""
    names = ("batch", "ballot", "participation", "region", "option", "other_cell")
    rows = [f"{name.replace('_', ' ')} {getattr(difference, name)}" for name in names if getattr(difference, name)]
    figures = [] if difference.found is None else [f"{difference.expected} expected, {difference.found} found"]
    more = [f"and {difference.more} more"] if difference.more else []
    return "; ".join([f"{difference.cell} {difference.kind.value}", *rows, difference.detail, *figures, *more])


async def _connect(settings: Settings) -> Client:
    assert settings.platform_temporal is not None
    codec = EncryptionCodec(open_keys(settings, IN_FLIGHT), IN_FLIGHT)
    await codec.refresh()
    return await connect(settings.platform_temporal, codec)
