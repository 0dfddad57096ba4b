"""What a stack leaves for others to find: addresses and secrets, in a file that only its owner reads."""

import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from comitia.stack.topology import Topology
from integrations.addresses import DatabaseAddress
from integrations.postgres.roles import CATALOGUE_ROLES, CELL_ROLES, OWNER
from integrations.settings import Environment, Settings

CELLS = ("eu", "us")  # always two, so that nothing can take one for granted
PLATFORM = "platform"
CATALOGUE = "catalogue"
ROLES = tuple(dict.fromkeys((OWNER, *CELL_ROLES, *CATALOGUE_ROLES)))
STATE_FILE = "stack.json"


class StackState(BaseModel):
    """One stack: `settings` is nested as `Settings` reads it, with the passwords of every role."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    stack_id: str  # names what has to live outside the folder
    settings: dict[str, Any]
    topology: Topology = Topology()
    ports: dict[str, int]  # of the last start, asked for again at the next
    urls: dict[str, str] = Field(default_factory=dict)  # of application processes and consoles, by name
    supervisor_pid: int = 0  # 0: stopped
    pids: dict[str, int] = Field(default_factory=dict)

    @property
    def keys_folder(self) -> Path:
        """Where the file form of the key management service keeps its keys."""
        return self.folder / "keys"

    @property
    def objects_folder(self) -> Path:
        """Where the file form of the object store keeps its objects."""
        return self.folder / "objects"

    @property
    def releases_folder(self) -> Path:
        """Where releases are looked for that executions are replayed with."""
        return self.folder / "releases"

    def settings_values(self, *roles: str, environment: Environment = Environment.DEVELOPMENT) -> dict[str, Any]:
        """Return the settings of a process that serves as `roles`: no other role's password is in them."""
        passwords: dict[str, str] = self.settings["database_passwords"]
        return {
            "environment": environment.value,
            **self.settings,
            "database_passwords": {role: passwords[role] for role in roles},
            **({} if "keys_kms" in self.settings else {"keys_folder": str(self.keys_folder)}),
            "objects_folder": str(self.objects_folder),
            "releases": str(self.releases_folder),
        }

    def settings_environment(self, *roles: str, environment: Environment = Environment.DEVELOPMENT) -> dict[str, str]:
        """Return the same as `COMITIA_*` variables."""
        return dict(_variables("COMITIA", self.settings_values(*roles, environment=environment)))

    def settings_for(self, *roles: str, environment: Environment = Environment.DEVELOPMENT, **more: Any) -> Settings:
        """Return the same as `Settings`; `more` are further fields, which win."""
        return Settings(**{**self.settings_values(*roles, environment=environment), **more})

    def database(self, name: str) -> DatabaseAddress:
        """Return the database of a cell, or of the catalogue by the name `catalogue`."""
        found = self.settings[CATALOGUE] if name == CATALOGUE else self.settings["cells"][name]["database"]
        return DatabaseAddress(**found)

    def password(self, role: str) -> str:
        """Return the database password of a role. Raises KeyError where the stack has none."""
        found: str = self.settings["database_passwords"][role]
        return found

    def write(self) -> None:
        """Replace the file in one step, readable by its owner only."""
        _write_private(self.folder / STATE_FILE, self.model_dump_json(indent=1))


def read_state(folder: Path) -> StackState | None:
    """Return the state that a stack left in `folder`, running or not, or None where there was never one."""
    path = folder / STATE_FILE
    return StackState.model_validate_json(path.read_text()) if path.exists() else None


def new_secret() -> str:
    """Return 192 random bits as text."""
    return secrets.token_urlsafe(24)


def kept_secret(file: Path) -> str:
    """Return the secret in a file that only its owner reads, made at the first call."""
    if not file.exists():
        _write_private(file, new_secret())
    return file.read_text()


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on top, level by level."""
    return {
        **base,
        **{
            name: merged(base[name], value) if isinstance(value, dict) and isinstance(base.get(name), dict) else value
            for name, value in over.items()
        },
    }


def _variables(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        # one underscore joins the prefix, two join levels
        variable = f"{prefix}_{name.upper()}" if prefix == "COMITIA" else f"{prefix}__{name.upper()}"
        if isinstance(value, Mapping):
            yield from _variables(variable, value)
        elif value is not None:
            yield variable, str(value)


def _write_private(target: Path, text: str) -> None:
    fresh = target.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(target)
