"""What a run of faults came to: its table, and its lines in the form of the benchmarks."""

from collections.abc import Callable, Iterable, Sequence

from benchmarks.report import PRINTED, Goal, Line, line
from tests.faults.experiment import During, Row

CONFIRMED_WITHIN_S, RIGHT_WITHIN_S = 15.0, 5.0  # what is to be reached; a miss is marked, and fails nothing
HEADINGS = (
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
    "certified, s",
    "",
)
_NONE = Goal(at_most=0)
_KILLS = "kill/"
_Seconds = Callable[[Row], float | None]


def cells(row: Row) -> list[str]:
    """Return a row as the table shows it."""
    verdict = row.verdict
    numbers = (verdict.missing, verdict.double, verdict.wrong, verdict.difference, verdict.unserved)
    at_end = row.during is not During.VOTING
    return [
        row.fault,
        f"{verdict.acknowledged:,}",
        f"{verdict.recorded:,}",
        *(str(number) for number in numbers),
        "" if at_end else _seconds(row.confirmed_again_s, CONFIRMED_WITHIN_S),
        "" if at_end else _seconds(row.right_again_s, RIGHT_WITHIN_S),
        "" if row.ended is None else _seconds(row.ended.certified_s, float("inf")),
        _said(row),
    ]


def lines(rows: Sequence[Row], gone_wrong: Sequence[str], left_out: Sequence[str]) -> list[Line]:
    """Return what is kept of a run: sums, the slowest of each kind, and every fault by itself.

    `gone_wrong` and `left_out` say for which faults there is no row.
    """
    verdicts = [row.verdict for row in rows]
    voting = [row for row in rows if row.during is During.VOTING]
    promises = {
        "acknowledged votes lost under faults": sum(verdict.missing for verdict in verdicts),
        "votes recorded or counted twice": sum(verdict.double for verdict in verdicts),
        "wrong ballots": sum(verdict.wrong for verdict in verdicts),
        "differences between ledger and results": sum(verdict.difference for verdict in verdicts),
        "voters without a receipt": sum(verdict.unserved for verdict in verdicts),
        "ends that were not certified, or not as the notebook says": sum(
            1 for row in rows if row.ended is not None and row.ended.problems
        ),
        "faults after which something else was wrong": len(gone_wrong) + sum(1 for row in rows if not row.holds),
    }
    kills = [row for row in voting if row.fault.startswith(_KILLS)]
    return [
        line("faults made", len(rows), "faults", detail="; ".join(f"left out: {reason}" for reason in left_out)),
        line("votes acknowledged under faults", sum(verdict.acknowledged for verdict in verdicts), "votes"),
        *(line(name, count, "", _NONE) for name, count in promises.items()),
        *_slowest("slowest kill, confirmed again", kills, _confirmed, Goal(at_most=CONFIRMED_WITHIN_S)),
        *_slowest("slowest fault, confirmed again", voting, _confirmed, PRINTED),
        *_slowest("slowest results right again", voting, lambda row: row.right_again_s, Goal(at_most=RIGHT_WITHIN_S)),
        *_slowest("slowest certificate", [row for row in rows if row.ended], _certified, PRINTED),
        *(_by_itself(row) for row in rows),
    ]


def _confirmed(row: Row) -> float | None:
    return row.confirmed_again_s


def _certified(row: Row) -> float | None:
    return None if row.ended is None else row.ended.certified_s


def _slowest(name: str, rows: Iterable[Row], seconds: _Seconds, goal: Goal) -> list[Line]:
    """Return the longest time, or that one never came; nothing where there is nothing to time."""
    found = {row.fault: seconds(row) for row in rows}
    if never := [fault for fault, value in found.items() if value is None]:
        return [Line(name, 0, "s", str(goal) or "ever", holds=False, detail=f"never: {', '.join(never)}")]
    times = {fault: value for fault, value in found.items() if value is not None}
    if not times:
        return []
    slowest = max(times, key=lambda fault: times[fault])
    return [line(name, times[slowest], "s", goal, f"{slowest}, of {len(times)}")]


def _by_itself(row: Row) -> Line:
    """Return one fault: its value is the seconds until votes were confirmed again, or until it was certified."""
    at_end = row.during is not During.VOTING
    value = _certified(row) if at_end else row.confirmed_again_s
    what = "certified" if at_end else "confirmed again"
    detail = ", ".join(f"{name} {cell}" for name, cell in zip(HEADINGS[1:-1], cells(row)[1:-1], strict=True) if cell)
    return Line(
        f"{row.fault}, {what}",
        round(value or 0.0, 1),
        "s",
        "every promise kept",
        holds=row.holds,
        detail=f"{detail} {_said(row)}".strip(),
    )


def _said(row: Row) -> str:
    said = [] if row.holds else ["FAILED"]
    said += row.surprises
    said += row.ended.problems if row.ended is not None else ()
    said += [f"ended by themselves: {', '.join(row.revived)}"] if row.revived else []
    return "; ".join(said)


def _seconds(value: float | None, aim: float) -> str:
    """Return a time, marked where it missed what is to be reached."""
    return "never" if value is None else f"{value:.1f}{'' if value <= aim else ' !'}"
