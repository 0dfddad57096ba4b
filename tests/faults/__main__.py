"""`make faults`: break everything, one thing at a time, under a load of real ballots, and say what it came to.

`MINUTES=n` takes faults at random for so long, from `SEED`; `ONLY=patterns` takes those whose names they match, and
`RATE=n` is votes per second. Every survey is then finished, and its certificate compared with what voters were told.
Without `MINUTES` and `ONLY`, `benchmarks/results/` keeps the run. Ends with an error where a vote was lost, doubled or
wrong, the results or the certificate differ, or, with CI=true, where a tool for a fault is missing.
"""

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine, load_average
from benchmarks.results import Results, now, write
from comitia.stack.built_tools import TEMPORAL_SERVER, TEMPORAL_SQL_TOOL, TOXIPROXY, built_tool
from integrations.postgres.pool import DURABILITY
from tests.faults.catalogue import at_random, chosen
from tests.faults.clocks import NEVER
from tests.faults.experiment import Fault, Load, Place, Row, run_experiment
from tests.faults.report import CONFIRMED_WITHIN_S, HEADINGS, RIGHT_WITHIN_S, cells, lines
from tests.faults.servers_apart import open_servers_apart
from tests.faults.stage import Stage
from tests.faults.whole_stack import open_whole_stack

_VOTERS = 5000
_LIMIT_MINUTES = 60.0  # of a run that is not told otherwise, its start included
_LAST_TAKES_S = 60.0  # a fault that begins later would end after the limit
_NO_TIME = "no time was left"
_Opened = Callable[..., AbstractAsyncContextManager[Stage]]
_STACKS: Mapping[Place, _Opened] = {
    Place.SERVERS_APART: open_servers_apart,  # first: few faults, which are made nowhere else
    Place.WHOLE_STACK: open_whole_stack,
}


@dataclass
class _Made:
    """What was made, and what was not, with the reason."""

    rows: list[Row] = field(default_factory=list)
    gone_wrong: list[str] = field(default_factory=list)  # nothing could be compared
    impossible: list[str] = field(default_factory=list)  # here, for want of a tool
    late: list[str] = field(default_factory=list)
    durability: dict[str, str] = field(default_factory=dict)  # as PostgreSQL reports it

    def add(self, other: "_Made") -> None:
        """Put what was made in another stack behind this."""
        for mine, more in (
            (self.gone_wrong, other.gone_wrong),
            (self.impossible, other.impossible),
            (self.late, other.late),
        ):
            mine.extend(more)
        self.rows.extend(other.rows)
        self.durability |= other.durability

    @property
    def left_out(self) -> list[str]:
        """Every fault without a row, and why."""
        return [*self.gone_wrong, *self.impossible, *self.late, *NEVER]

    @property
    def holds(self) -> bool:
        """Whether every promise was kept; with CI=true also, whether everything that can be made was."""
        complete = not self.impossible or os.environ.get("CI") != "true"
        return bool(self.rows) and not self.gone_wrong and complete and all(row.holds for row in self.rows)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=0, help="at random for so long; 0: each usual fault once")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="shell patterns of names, such as 'kill/*,pause/kafka'")
    parser.add_argument("--rate", type=float, default=40, help="votes per second")
    parser.add_argument("--list", action="store_true", help="say the names and end")
    return parser.parse_args()


def until(faults: Iterable[Fault], minutes: float) -> Iterator[Fault]:
    """Return faults until the time is over."""
    deadline = time.monotonic() + 60 * minutes
    yield from itertools.takewhile(lambda _: time.monotonic() < deadline, faults)


@contextmanager
def folders() -> Iterator[tuple[Path, Path]]:
    """Make a folder for the stack, which PostgreSQL's account can enter, and one for notebooks."""
    with tempfile.TemporaryDirectory(prefix="comitia-faults-") as folder:
        place = Path(folder)
        place.chmod(0o711)
        notes = place / "notes"
        notes.mkdir()
        yield place / "stack", notes


async def make(stage: Stage, faults: Iterable[Fault], options: argparse.Namespace, deadline: float) -> _Made:
    """Make faults, those that begin before the deadline, and say each as it comes."""
    made = _Made()
    for number, fault in enumerate(faults):
        if reason := fault.impossible(stage):
            made.impossible.append(f"{fault.name}: {reason}")
        elif time.monotonic() > deadline:
            made.late.append(f"{fault.name}: {_NO_TIME}")
        else:
            load = Load(rate=options.rate)
            try:
                row = await run_experiment(stage, fault, seed=options.seed + number, load=load, ends=True)
            except RuntimeError as error:  # said and counted: the others are still to be made
                made.gone_wrong.append(f"FAILED {fault.name}: {error}")
                say(made.gone_wrong[-1])
                await stage.revive()
                continue
            made.rows.append(row)
            say("  ".join(cells(row)))
    return made


async def run(options: argparse.Namespace, console: Console) -> bool:
    """Make faults and print the table; tell whether every promise was kept."""
    began, load_before = time.monotonic(), load_average()
    faults: Iterable[Fault] = chosen(options.only)
    limit_s = 60 * _LIMIT_MINUTES if not options.only else float("inf")
    if options.minutes:
        faults, limit_s = until(at_random(options.seed, options.only), options.minutes), float("inf")
    deadline = began + limit_s - _LAST_TAKES_S
    if options.minutes:
        made = await _made_in(open_whole_stack, faults, options, deadline)
    else:
        made = _Made()
        for place, opened in _STACKS.items():
            here = [fault for fault in faults if fault.place is place]
            if missing := _missing(place):
                made.impossible += [f"{fault.name}: {missing}" for fault in here]
            elif here:
                made.add(await _made_in(opened, here, options, deadline))
    table = Table(*HEADINGS, title=f"seed {options.seed}, {options.rate:g} votes per second")
    for row in made.rows:
        table.add_row(*cells(row))
    console.print(table)
    for reason in made.left_out:
        console.print(f"left out: {reason}", markup=False)
    console.print(f"! is later than {CONFIRMED_WITHIN_S:g} s, or {RIGHT_WITHIN_S:g} s for results", markup=False)
    console.print(f"{len(made.rows)} faults in {(time.monotonic() - began) / 60:.0f} minutes", markup=False)
    if not options.only and not options.minutes:
        found = lines(made.rows, made.gone_wrong, [*made.impossible, *made.late, *NEVER])
        results = Results(now(), describe_machine(), made.durability, (load_before, load_average()), found)
        console.print(f"written to {write(results, 'faults')}", markup=False)
    return made.holds


def _missing(place: Place) -> str:
    """Return which tools a stack lacks, in words."""
    needed = (TEMPORAL_SERVER, TEMPORAL_SQL_TOOL) if place is Place.SERVERS_APART else ()
    missing = [name for name in needed if built_tool(name) is None]
    return f"{', '.join(missing)} is missing: make tools" if missing else ""


async def _made_in(opened: _Opened, faults: Iterable[Fault], options: argparse.Namespace, deadline: float) -> _Made:
    """Make faults in a stack of their own."""
    with folders() as (stack, notes):
        async with opened(stack, notes, voters=_VOTERS, seed=options.seed) as stage:
            made = await make(stage, faults, options, deadline)
            made.durability = await _durability(stage)
            return made


async def _durability(stage: Stage) -> dict[str, str]:
    owner = stage.house.owners["eu"]
    return {f"postgresql {name}": str(await owner.fetchval(f"SHOW {name}")) for name in DURABILITY}


def say(text: str) -> None:
    """Tell who watches, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the command."""
    options = arguments()
    if options.list:
        for fault in chosen(options.only):
            say(fault.name)
        return
    if built_tool(TOXIPROXY) is None:
        sys.exit(f"{TOXIPROXY} is missing: make tools")
    console = Console(width=None if sys.stdout.isatty() else 200)
    sys.exit(0 if asyncio.run(run(options, console)) else 1)


if __name__ == "__main__":
    main()
