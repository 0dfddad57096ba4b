"""Servers that the environment already names: these are used as they are and never started, made or migrated around."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comitia.stack.state import CATALOGUE, CELLS

_PREFIX = "COMITIA_"
_SECTIONS = ("cells", CATALOGUE, "platform_temporal", "database_passwords")
_CELL_SERVERS = ("database", "redis", "kafka", "temporal")


@dataclass(frozen=True, slots=True)
class Replaced:
    """The part of the settings that the environment gives, nested as `Settings` reads it."""

    values: dict[str, Any]

    def address(self, cell: str, server: str) -> dict[str, Any] | None:
        """Return the address of a cell's server, or None where ours is to be used."""
        found: dict[str, Any] | None = self.values.get("cells", {}).get(cell, {}).get(server)
        return found

    def database(self, name: str) -> dict[str, Any] | None:
        """Return the address of a cell's database or of the catalogue, or None where ours is to be used."""
        found: dict[str, Any] | None = (
            self.values.get(CATALOGUE) if name == CATALOGUE else self.address(name, "database")
        )
        return found

    @property
    def passwords(self) -> dict[str, str]:
        """Database passwords by role."""
        return dict(self.values.get("database_passwords", {}))

    def needs(self, server: str) -> bool:
        """Tell whether anything is left that our own `database`, `redis`, `kafka` or `temporal` has to serve."""
        others = {"database": self.values.get(CATALOGUE), "temporal": self.values.get("platform_temporal")}
        ours = [self.address(cell, server) for cell in CELLS]
        return None in ([*ours, others[server]] if server in others else ours)


def read_replaced(environment: Mapping[str, str]) -> Replaced:
    """Return the addresses and passwords in `COMITIA_CELLS__EU__REDIS__PORT` and its like.

    Raises:
        ValueError: an address without a port, or a cell that this stack does not have.
    """
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        path = variable.removeprefix(_PREFIX).lower().split("__") if variable.startswith(_PREFIX) else []
        if len(path) < 2 or path[0] not in _SECTIONS:  # noqa: PLR2004 - a section and a name in it
            continue
        level = values
        for name in path[:-1]:
            level = level.setdefault(name, {})
        level[path[-1]] = text
    _check(values)
    return Replaced(values)


def _check(values: dict[str, Any]) -> None:
    for cell, servers in values.get("cells", {}).items():
        if cell not in CELLS:
            raise ValueError(f"the environment names the cell {cell!r}; a stack on one machine has {', '.join(CELLS)}")
        for server, address in servers.items():
            if server not in _CELL_SERVERS or "port" not in address:
                raise ValueError(f"COMITIA_CELLS__{cell.upper()}__{server.upper()} is given without a port")
    for single in (CATALOGUE, "platform_temporal"):
        if single in values and "port" not in values[single]:
            raise ValueError(f"COMITIA_{single.upper()} is given without a port")
