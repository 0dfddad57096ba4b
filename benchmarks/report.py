"""What a benchmark reports: one line per figure, each with its goal and whether it holds."""

import msgspec


class Goal(msgspec.Struct, frozen=True):
    """A bound on a figure; `at_least` and `at_most` exclude each other."""

    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: float) -> bool:
        """Tell whether a figure is within the bound."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is None or value <= self.at_most

    def __str__(self) -> str:
        """Return the bound in words; empty where there is none."""
        if self.at_least is not None:
            return f"at least {self.at_least:,g}"
        return f"at most {self.at_most:,g}" if self.at_most is not None else ""


PRINTED = Goal()  # a figure without a goal


class Line(msgspec.Struct, frozen=True):
    """One figure of the table. `detail` says how it was got: rates, clients, spread, what the check compared."""

    name: str
    value: float
    unit: str
    goal: str
    holds: bool
    detail: str = ""


def line(name: str, value: float, unit: str, goal: Goal = PRINTED, detail: str = "") -> Line:
    """Return a line, its value rounded to what the measurement can carry."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 4
    return Line(name, round(value, digits), unit, str(goal), goal.holds(value), detail)


class CheckFailedError(AssertionError):
    """What was measured did not do its work: accepted, recorded and counted disagree."""


def check_equal(what: str, **counts: int) -> str:
    """Return `what` with the one value that all counts have.

    Raises:
        CheckFailedError: two of them differ, so that the figure beside it means nothing.
    """
    said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    if len(set(counts.values())) != 1:
        raise CheckFailedError(f"{what}: {said}")
    return f"{' = '.join(counts)} = {next(iter(counts.values())):,}"
