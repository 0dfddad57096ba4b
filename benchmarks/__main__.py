"""`python -m benchmarks [LINE ...]`: measure on this machine, check every result, print one table.

Without names every line is measured, but for those that take very long, and `benchmarks/results/` keeps the run.
"""

import asyncio
import logging
import shutil
import tempfile
import traceback
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from benchmarks.ground import prepared_ground
from benchmarks.machine import describe_machine, load_average
from benchmarks.registry import BY_NAME_ONLY, LINES
from benchmarks.report import Line
from benchmarks.results import Results, now, show, write
from benchmarks.run import Run
from comitia.up import allow_many_files


async def _measure(
    names: list[str], seconds: float, rounds: int, ballots: int, console: Console
) -> tuple[Results, bool]:
    """Measure the named lines; what fails is a line that does not hold, and the others go on."""
    folder = Path(tempfile.mkdtemp(prefix="comitia-bench-"))
    lines: list[Line] = []
    before, failed = load_average(), False
    try:
        async with prepared_ground(folder) as ground:
            run = Run(ground, seconds, rounds, lambda text: console.print(text, style="dim", highlight=False), ballots)
            for name in names:
                console.print(f"[bold]{name}[/bold]")
                try:
                    lines += await LINES[name](run)
                except Exception as error:  # noqa: BLE001 - said, counted, and the exit status
                    failed = True
                    console.print(traceback.format_exc(), style="red", highlight=False, markup=False)
                    lines.append(Line(name, 0, "", "to be measured", holds=False, detail=repr(error)[:500]))
            durability = await ground.durability()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Results(now(), describe_machine(), durability, (before, load_average()), lines), failed


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of: {', '.join(LINES)}.")] = None,
    seconds: Annotated[float, typer.Option(min=3, max=60, help="How long each load runs.")] = 12.0,
    rounds: Annotated[int, typer.Option(min=1, max=9, help="Rounds of ours and the peer, in turns.")] = 3,
    ballots: Annotated[int, typer.Option(min=2_000, help="Ballots in the ledger that is reconciled.")] = 1_000_000,
) -> None:
    """Measure, print the table, and exit 1 where a check failed; a missed goal is in the table."""
    if unknown := set(names or ()) - set(LINES):
        raise typer.BadParameter(f"no such line: {', '.join(sorted(unknown))}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    allow_many_files()
    console = Console(soft_wrap=True)
    results, failed = asyncio.run(
        _measure(names or [name for name in LINES if name not in BY_NAME_ONLY], seconds, rounds, ballots, console)
    )
    show(results.lines, console)
    for each in results.lines:
        if each.detail:
            console.print(f"{each.name}: {each.detail}", style="dim", highlight=False)
        if not each.holds:
            console.print(f"missed: {each.name} is {each.value:,} {each.unit}, {each.goal}")
    if not names:
        console.print(f"written to {write(results)}")
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    typer.run(main)
