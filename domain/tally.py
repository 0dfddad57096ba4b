"""Counts of votes: what a batch adds, what a cell has, and how cells merge into one survey's totals."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

BALLOTS = ""  # the option id under which a region's ballots are counted; no option has an empty id

_CELL_POSITION = r"[a-z][a-z0-9_]{0,31}:\d{1,18}-\d{1,18}"
_EVENT_ID = re.compile(rf"{_CELL_POSITION}(?:,{_CELL_POSITION}){{0,99}}")

Counts = dict[tuple[str, str], int]  # (region, option id) to votes; (region, BALLOTS) to ballots


@dataclass(frozen=True, slots=True)
class Addition:
    """What one batch adds to one survey; counted once per (survey, gateway, number), in any order.

    `gateway` is the gateway's id in hexadecimal, `number` counts from 1.
    """

    survey_id: str
    gateway: str
    number: int
    counts: Counts

    @property
    def ballots(self) -> int:
        """Ballots of all regions."""
        return sum(votes for (_, option), votes in self.counts.items() if option == BALLOTS)


def sum_counts(additions: Iterable[Addition]) -> Counts:
    """Return the sum of what several batches add."""
    total: Counts = {}
    for addition in additions:
        for key, votes in addition.counts.items():
            total[key] = total.get(key, 0) + votes
    return total


@dataclass(frozen=True, slots=True)
class CellTotals:
    """One survey's totals in one cell, as of one fold.

    `epoch` rises with every rebuild, `seq` with every fold of that epoch; (0, 0) is a survey that nobody voted in
    yet. `catching_up` says that a rebuild was installed whose later summaries are not all folded again yet.
    """

    epoch: int
    seq: int
    counts: Counts
    catching_up: bool = False

    @property
    def ballots(self) -> int:
        """Ballots of all regions."""
        return sum(votes for (_, option), votes in self.counts.items() if option == BALLOTS)


NOTHING_YET = CellTotals(epoch=0, seq=0, counts={})


@dataclass(frozen=True, slots=True)
class CellView:
    """What a reader knows of one survey in one cell.

    `watermark` is the instant up to which everything announced is in `totals`. `current` is False where the cell
    cannot be read right now: then `totals` is the last that was seen, or None.
    """

    totals: CellTotals | None
    watermark: datetime | None
    current: bool = True


MISSING = CellView(totals=None, watermark=None, current=False)


@dataclass(frozen=True, slots=True)
class MergedTotals:
    """One survey's totals over its cells.

    `as_of` is the oldest watermark of the cells that are in the totals. `missing_cells` cannot be read right now:
    what was last seen of them is in the totals and stands still, or they are not in the totals at all.
    `certificate_id` names the certificate that states these totals; they never change again.
    """

    positions: Mapping[str, tuple[int, int]]  # cell to (epoch, seq), of the cells that are in the totals
    counts: Counts
    as_of: datetime | None = None
    missing_cells: tuple[str, ...] = ()
    regions: frozenset[str] = field(default_factory=frozenset)
    certificate_id: str | None = None

    @property
    def event_id(self) -> str:
        """Names what is counted: `eu:3-120,us:1-7`. Two totals with the same id have the same counts."""
        return ",".join(f"{cell}:{epoch}-{seq}" for cell, (epoch, seq) in sorted(self.positions.items()))


def positions_of(event_id: str) -> dict[str, tuple[int, int]]:
    """Return epoch and sequence number by cell, as `MergedTotals.event_id` names them; empty where it is no such id."""
    if not _EVENT_ID.fullmatch(event_id):
        return {}
    parts = (part.replace(":", "-").split("-") for part in event_id.split(","))
    return {cell: (int(epoch), int(seq)) for cell, epoch, seq in parts}


def merge_cells(views: Mapping[str, CellView]) -> MergedTotals | None:
    """Return the sum over the cells, or None where no cell's totals are known.

    A cell without a watermark is named as missing, since nothing can be said about what its totals leave out.
    """
    counts: Counts = {}
    positions: dict[str, tuple[int, int]] = {}
    watermarks: list[datetime] = []
    missing: list[str] = []
    for cell, view in sorted(views.items()):
        if view.totals is None or view.watermark is None or not view.current:
            missing.append(cell)
        if view.totals is None:
            continue
        positions[cell] = (view.totals.epoch, view.totals.seq)
        for key, votes in view.totals.counts.items():
            counts[key] = counts.get(key, 0) + votes
        if view.watermark is not None:
            watermarks.append(view.watermark)
    if not positions:
        return None
    return MergedTotals(
        positions=positions,
        counts=counts,
        as_of=min(watermarks, default=None),
        missing_cells=tuple(missing),
        regions=frozenset(region for region, _ in counts),
    )
