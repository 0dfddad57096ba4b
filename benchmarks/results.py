"""The table as people read it, and the files that a run leaves behind."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.report import Line

FOLDER = Path(__file__).parent / "results"
LATEST = FOLDER / "latest.json"


class Results(msgspec.Struct, frozen=True):
    """A run: when, on what, what was found."""

    measured_at: str
    machine: dict[str, str]
    durability: dict[str, str]  # as the servers reported it
    load_average: tuple[float, float]  # of one minute, before and after
    lines: list[Line]


def show(lines: Sequence[Line], console: Console) -> None:
    """Print the table."""
    table = Table("figure", "value", "unit", "goal", "holds")
    for each in lines:
        table.add_row(each.name, f"{each.value:,}", each.unit, each.goal, _mark(each))
    console.print(table)


def write(results: Results, of: str = "") -> Path:
    """Write `<date>-<machine>.json` and `.md`, and `latest.json`: one object per line of the table.

    What something else than the benchmarks found has its name, `of`, before those.
    """
    FOLDER.mkdir(exist_ok=True)
    prefix = f"{of}-" if of else ""
    machine = re.sub(r"[^a-z0-9]+", "-", f"{results.machine['cores']}x {results.machine['processor']}".lower())
    path = FOLDER / f"{prefix}{results.measured_at[:10]}-{machine.strip('-')}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    path.with_suffix(".md").write_text(_markdown(results))
    rows = [
        {"name": each.name, "value": each.value, "unit": each.unit, "goal": each.goal, "holds": each.holds}
        for each in results.lines
    ]
    (FOLDER / f"{prefix}{LATEST.name}").write_text(
        "[\n" + ",\n".join(msgspec.json.encode(row).decode() for row in rows) + "\n]\n"
    )
    return path


def now() -> str:
    """Return this instant, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _mark(each: Line) -> str:
    if not each.goal:
        return ""
    return "yes" if each.holds else "no"


def _markdown(results: Results) -> str:
    machine = "; ".join(f"{name} {value}" for name, value in results.machine.items())
    durability = ", ".join(f"{name}={value}" for name, value in results.durability.items())
    missed = [each for each in results.lines if not each.holds]
    parts = [
        f"# Measured {results.measured_at}",
        "",
        f"Machine: {machine}.",
        f"Durability as the servers report it: {durability}.",
        f"Load average before and after: {results.load_average[0]:.2f}, {results.load_average[1]:.2f}.",
        "",
        "| figure | value | unit | goal | holds |",
        "| --- | ---: | --- | --- | --- |",
        *(f"| {e.name} | {e.value:,} | {e.unit} | {e.goal} | {_mark(e)} |" for e in results.lines),
        "",
        "## How each was got",
        "",
        *(f"- **{each.name}**: {each.detail}" for each in results.lines if each.detail),
    ]
    if missed:
        parts += ["", "## Missed", "", *(f"- {each.name}: {each.value:,} {each.unit}, {each.goal}" for each in missed)]
    return "\n".join(parts) + "\n"
