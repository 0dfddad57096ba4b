"""`comitia tally`: what the tally does by itself, done by hand."""

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry
from rich.console import Console

from comitia.stack_settings import STACK_FOLDER, DataFolder, settings_of
from domain.errors import DomainError
from integrations.kafka.consumer import SummaryConsumer
from integrations.postgres.roles import TALLY
from integrations.postgres.tally import LedgerSnapshots, TallyEpochs
from integrations.redis.connection import durability, open_redis
from integrations.redis.tally import TallyStore
from integrations.settings import Settings
from integrations.telemetry.metrics import TallyMetrics
from workers.rebuilding import Rebuilder
from workers.tally import open_tally_pool

app = typer.Typer(no_args_is_help=True, help="Totals of surveys.")


@app.callback()
def tally() -> None:
    """Keep the commands below a group, also while there is one."""


@app.command()
def rebuild(
    cell: Annotated[list[str] | None, typer.Option("--cell", help="Only this cell. Repeatable.")] = None,
    survey: Annotated[list[str] | None, typer.Option("--survey", help="Only this survey. Repeatable.")] = None,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Replace totals by those of the ledger, while votes come in; running consumers go on from there."""
    console = Console(soft_wrap=True)
    try:
        settings = settings_of(data, TALLY)
    except LookupError as error:
        console.print(str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None
    unknown = set(cell or ()) - settings.cells.keys()
    if unknown:
        raise typer.BadParameter(f"not a cell: {', '.join(sorted(unknown))}", param_hint="--cell")
    try:
        rebuilt = asyncio.run(rebuild_cells(settings, cell or list(settings.cells), survey, console))
    except DomainError as error:
        console.print(f"[red]not rebuilt:[/red] {error}")
        raise typer.Exit(1) from None
    if not rebuilt:
        console.print("[red]no such survey[/red]" if survey else "no survey")
        raise typer.Exit(1 if survey else 0)


async def rebuild_cells(settings: Settings, cells: list[str], surveys: list[str] | None, console: Console) -> int:
    """Rebuild these surveys (None: all) in these cells; return how many were.

    Raises:
        DomainError: a server cannot be reached; what was not rebuilt is as it was.
    """
    rebuilt = 0
    for cell in cells:
        async with AsyncExitStack() as opened:
            redis = open_redis(settings.cells[cell].redis)
            opened.push_async_callback(redis.aclose)
            await durability(redis)
            pool = await open_tally_pool(settings, cell, opened)
            consumer = SummaryConsumer(settings.cells[cell].kafka, cell)
            opened.push_async_callback(consumer.close)
            await consumer.open()
            epochs = TallyEpochs(pool)
            metrics = TallyMetrics(CollectorRegistry())
            rebuilder = Rebuilder(TallyStore(redis, cell), epochs, LedgerSnapshots(pool), consumer, metrics)
            known = await epochs.surveys()
            for survey_id in sorted(known) if surveys is None else [s for s in surveys if s in known]:
                epoch = await rebuilder.rebuild(survey_id, "by_hand")
                console.print(f"{cell} {survey_id}: {'a later one was first' if epoch is None else f'epoch {epoch}'}")
                rebuilt += 1
    return rebuilt
