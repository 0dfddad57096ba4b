"""Where a command works: at the addresses of the environment, or in the stack that runs on this machine."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from comitia.stack.state import read_state
from integrations.postgres.roles import IDENTITY
from integrations.settings import Environment, Settings

DataFolder = Annotated[Path, typer.Option("--data", envvar="COMITIA_DATA", help="The folder of the running stack.")]
STACK_FOLDER: Final = Path(".comitia")


def settings_of(data: Path, *roles: str) -> Settings:
    """Return the settings of the environment, or else of the running stack, with the passwords of `roles`.

    Raises:
        LookupError: there is neither; the message says what to do.
    """
    if any(name.startswith("COMITIA_CELLS__") for name in os.environ):
        return Settings()
    state = read_state(data)
    if state is None or not state.supervisor_pid:
        raise LookupError(
            f"no addresses in the environment, and no stack runs in {data}: start one with `comitia up`, "
            "or name its folder with --data"
        )
    return state.settings_for(*roles)


def identity_settings(folder: Path) -> Settings:
    """The settings of the stack in `folder`, or the environment's where there is none; production is always said so."""
    state = None if os.environ.get("COMITIA_ENVIRONMENT") == Environment.PRODUCTION else read_state(folder)
    return state.settings_for(IDENTITY) if state is not None else Settings()
