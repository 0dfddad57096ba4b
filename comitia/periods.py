"""A period of time as commands are given it, of one kind of executions or of all."""

from dataclasses import dataclass
from datetime import datetime

import typer


@dataclass(frozen=True, slots=True)
class Period:
    """At or after the one instant and before the other; of one kind, or of all."""

    since: datetime
    until: datetime
    kind: str = ""


def read_period(since: str, until: str, kind: str = "") -> Period:
    """Return a period from the options `--from` and `--to`. Raises typer.BadParameter."""
    if not since or not until:
        raise typer.BadParameter("a period has --from and --to")
    return Period(_instant(since, "--from"), _instant(until, "--to"), kind)


def _instant(text: str, name: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter("not an instant", param_hint=name) from error
    if found.tzinfo is None:
        raise typer.BadParameter("has no time zone", param_hint=name)
    return found
