"""`make faults`: break everything, one thing at a time, under a load of real ballots, and say what it came to.

`MINUTES=n` takes faults at random for so long, from `SEED`; `ONLY=patterns` takes those whose names they match, and
`RATE=n` is votes per second. Ends with an error where a vote was lost, doubled or wrong, or the results differ.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from comitia.stack.built_tools import TOXIPROXY, built_tool
from tests.faults.catalogue import at_random, chosen
from tests.faults.experiment import Fault, Load, Row, run_experiment
from tests.faults.whole_stack import open_whole_stack

_VOTERS = 5000
CONFIRMED_WITHIN_S, RIGHT_WITHIN_S = 15.0, 5.0  # what is to be reached; a miss is marked, and fails nothing
_HEADINGS = (
    "fault",
    "acknowledged",
    "recorded",
    "missing",
    "double",
    "wrong",
    "difference",
    "unserved",
    "confirmed again, s",
    "results right again, s",
    "",
)


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


def line(row: Row) -> list[str]:
    """Return a row as the table shows it."""
    verdict = row.verdict
    numbers = (verdict.missing, verdict.double, verdict.wrong, verdict.difference, verdict.unserved)
    said = "" if row.holds else "FAILED"
    said += f" {'; '.join(row.surprises)}" if row.surprises else ""
    said += f" ended by themselves: {', '.join(row.revived)}" if row.revived else ""
    return [
        row.fault,
        f"{verdict.acknowledged:,}",
        f"{verdict.recorded:,}",
        *(str(number) for number in numbers),
        seconds(row.confirmed_again_s, CONFIRMED_WITHIN_S),
        seconds(row.right_again_s, RIGHT_WITHIN_S),
        said.strip(),
    ]


def seconds(value: float | None, aim: float) -> str:
    """Return a time, marked where it missed what is to be reached."""
    return "never" if value is None else f"{value:.1f}{'' if value <= aim else ' !'}"


@contextmanager
def folders() -> Iterator[tuple[Path, Path]]:
    """Make a folder for the stack, which PostgreSQL's account can enter, and one for notebooks."""
    with tempfile.TemporaryDirectory(prefix="comitia-faults-") as folder:
        place = Path(folder)
        place.chmod(0o711)
        notes = place / "notes"
        notes.mkdir()
        yield place / "stack", notes


async def run(options: argparse.Namespace, console: Console) -> bool:
    """Make faults and print the table; tell whether every promise was kept."""
    faults: Iterable[Fault] = chosen(options.only)
    if options.minutes:
        faults = until(at_random(options.seed, options.only), options.minutes)
    rows, left_out = [], []
    with folders() as (stack, notes):
        async with open_whole_stack(stack, notes, voters=_VOTERS, seed=options.seed) as stage:
            for number, fault in enumerate(faults):
                if reason := fault.impossible(stage):
                    left_out.append(f"{fault.name}: {reason}")
                    continue
                load = Load(rate=options.rate)
                row = await run_experiment(stage, fault, seed=options.seed + number, load=load)
                rows.append(row)
                console.print("  ".join(line(row)), highlight=False, markup=False, soft_wrap=True)
    table = Table(*_HEADINGS, title=f"seed {options.seed}, {options.rate:g} votes per second")
    for row in rows:
        table.add_row(*line(row))
    console.print(table)
    for reason in left_out:
        console.print(f"left out: {reason}", markup=False)
    console.print(f"! is later than {CONFIRMED_WITHIN_S:g} s, or {RIGHT_WITHIN_S:g} s for results", markup=False)
    return bool(rows) and all(row.holds for row in rows)


def main() -> None:
    """Run the command."""
    options = arguments()
    if options.list:
        for fault in chosen(options.only):
            print(fault.name)  # noqa: T201 - a command's answer
        return
    if built_tool(TOXIPROXY) is None:
        sys.exit(f"{TOXIPROXY} is missing: make tools")
    console = Console(width=None if sys.stdout.isatty() else 200)
    sys.exit(0 if asyncio.run(run(options, console)) else 1)


if __name__ == "__main__":
    main()
