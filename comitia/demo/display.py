"""What a demo shows while it runs: totals as they move on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Sequence
from typing import Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from comitia.demo.counters import CellCounters, Counters
from comitia.demo.events import LiveResults
from comitia.demo.glasgow import QUESTIONS

REFRESH_S = 0.2
_LINE_EVERY_S = 2.0
_BAR_WIDTH = 40


class Display:
    """Shows the casting of votes; call `refresh` five times a second within `with`."""

    def __init__(self, console: Console, counters: Counters, live_results: LiveResults, voters: int) -> None:
        self._console = console
        self._counters = counters
        self._results = live_results
        self._voters = voters
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._said_at = 0.0

    def __enter__(self) -> Self:
        """Take the screen."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the screen back and leave the last line."""
        if self._live is not None:
            self._live.stop()
        self._say()

    def refresh(self) -> None:
        """Show the present."""
        if self._live is not None:
            self._live.update(Group(self._progress(), self._bars()), refresh=True)
        elif time.monotonic() - self._said_at > _LINE_EVERY_S:
            self._say()

    def _say(self) -> None:
        self._said_at = time.monotonic()
        self._console.print(self._line(), markup=False, highlight=False)

    def _line(self) -> str:
        p50, p99 = self._counters.recent_latency()
        return (
            f"confirmed {self._counters.confirmed:,} of {self._voters:,} | seen live {self._results.total:,} "
            f"| {self._counters.recent_rate():,.0f} answers/s | p50 {p50 * 1000:.0f} ms | p99 {p99 * 1000:.0f} ms"
        )

    def _progress(self) -> Table:
        table = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(self._voters, 1), completed=self._counters.confirmed, width=_BAR_WIDTH)
        table.add_row(bar, Text(self._line()))
        return table

    def _bars(self) -> Table:
        table = Table(box=None, title=QUESTIONS[0], title_justify="left")
        table.add_column("party")
        table.add_column("votes", justify="right")
        table.add_column("")
        questions = self._results.document.get("questions", [])
        options = sorted(questions[0]["options"], key=lambda option: -option["votes"]) if questions else []
        most = max((option["votes"] for option in options), default=0)
        for option in options:
            length = round(_BAR_WIDTH * option["votes"] / most) if most else 0
            table.add_row(option["text"], f"{option['votes']:,}", "\u2588" * length)
        return table


def addresses(rows: Sequence[tuple[str, str]]) -> Table:
    """Return where the running pieces are."""
    table = Table(box=None, show_header=False)
    for name, address in rows:
        table.add_row(name, address)
    return table


def outcome(counters: Counters, counted: dict[str, int], total: int) -> Table:
    """Return the last table: what was sent, and what became of it.

    `counted` is what the ledger of each cell counts, `total` what the results say.
    """
    names = (
        "sent",
        "no\nanswer",
        "put\noff",
        "accepted",
        "confirmed",
        "answered\nagain",
        "refused\nas\nrepeated",
        "counted",
    )
    table = Table("cell", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for cell, counts in sorted(counters.cells.items()):
        table.add_row(cell, *_numbers(counts, counted[cell]))
    table.add_section()
    table.add_row("total", *_numbers(counters.total(), total))
    return table


def _numbers(cell: CellCounters, counted: int) -> list[str]:
    numbers = (
        cell.sent,
        cell.unanswered,
        cell.put_off,
        cell.accepted,
        cell.confirmed,
        cell.again,
        cell.refused,
        counted,
    )
    return [f"{number:,}" for number in numbers]
