"""A period of time as commands are given it, and where they are connected."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from comitia.stack.state import read_state
from integrations.settings import Settings

DataFolder = Annotated[Path, typer.Option("--data", envvar="COMITIA_DATA", help="The folder of the running stack.")]


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


def settings_of(data: Path, *roles: str) -> Settings:
    """Return the settings of the environment, or else of the running stack. Raises LookupError without either."""
    if any(name.startswith("COMITIA_CELLS__") for name in os.environ):
        return Settings()
    state = read_state(data)
    if state is None or not state.supervisor_pid:
        raise LookupError(f"no addresses in the environment, and no stack runs in {data}")
    return state.settings_for(*roles)
