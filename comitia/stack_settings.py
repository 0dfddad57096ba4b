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
    if has_addresses():
        return Settings()
    state = read_state(data)
    if state is None or not state.supervisor_pid:
        raise LookupError(nowhere(data))
    return state.settings_for(*roles)


def platform_settings(data: Path) -> Settings:
    """Return the settings of `settings_of` for what runs on the platform's Temporal.

    Raises:
        LookupError: there are none, or they do not say where that is; the message says what to do.
    """
    settings = settings_of(data)
    if settings.platform_temporal is None:
        raise LookupError(
            "the platform's Temporal has no address: set COMITIA_PLATFORM_TEMPORAL__HOST, __PORT and __NAMESPACE"
        )
    return settings


def identity_settings(folder: Path, role: str = IDENTITY, *more: str) -> Settings:
    """The settings of the stack in `folder`, or the environment's where there is none; production is always said so.

    They have the passwords of `role` and of `more`.

    Raises:
        LookupError: there is neither; the message says what to do.
    """
    environment = os.environ.get("COMITIA_ENVIRONMENT")
    state = None if environment == Environment.PRODUCTION else read_state(folder)
    if state is not None:
        return state.settings_for(role, *more)
    if environment is None and not has_addresses():
        raise LookupError(f"{nowhere(folder)}; without a stack this counts as production")
    return Settings()


def has_addresses() -> bool:
    """Tell whether the environment says where cells are."""
    return any(name.startswith("COMITIA_CELLS__") for name in os.environ)


def nowhere(data: Path) -> str:
    """Return what to say where a command has nothing to work on."""
    return (
        f"no addresses in the environment, and no stack runs in {data}: start one with `comitia up`, "
        "or name its folder with --data"
    )


def said(error: Exception) -> str:
    """Return an error as a command says it; of a server that is not there, with what to do."""
    if isinstance(error, ConnectionError):
        return f"a server cannot be reached ({error}): does the stack still run? `comitia up` starts it"
    return str(error)
