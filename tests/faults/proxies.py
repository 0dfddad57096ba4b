"""Toxiproxy between every application process and every server: one way each, so that any two can be kept apart."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from comitia.stack.built_tools import TOXIPROXY, needed_tool
from comitia.stack.ports import HOST
from comitia.stack.probes import http_ok
from comitia.stack.process import ManagedProcess

_READY_WITHIN_S = 30.0
_SLOW_MS, _SLOW_JITTER_MS = 250, 100
_TORN_BYTES = 3000  # enough to log in, too little to work

Toxic = dict[str, Any]
TOXICS: Mapping[str, tuple[Toxic, ...]] = {
    # every byte late, both ways
    "slow": tuple(
        {"type": "latency", "stream": stream, "attributes": {"latency": _SLOW_MS, "jitter": _SLOW_JITTER_MS}}
        for stream in ("upstream", "downstream")
    ),
    # bytes are swallowed and connections stay, as behind a firewall that forgot them
    "silent": tuple(
        {"type": "timeout", "stream": stream, "attributes": {"timeout": 0}} for stream in ("upstream", "downstream")
    ),
    # connections break in the middle of what they carry
    "torn": tuple(
        {"type": "limit_data", "stream": stream, "attributes": {"bytes": _TORN_BYTES}}
        for stream in ("upstream", "downstream")
    ),
}
MODES = ("cut", *TOXICS)


@dataclass(frozen=True, slots=True)
class Way:
    """The network from a process to a server: what connects to `listen` reaches `upstream`."""

    process: str
    server: str
    listen: int
    upstream: int

    @property
    def name(self) -> str:
        """How the proxy is called."""
        return f"{self.process}~{self.server}"


class Proxies:
    """A running Toxiproxy with these ways, all open. Its control is HTTP on `port`."""

    def __init__(self, port: int, ways: Iterable[Way], log: Path) -> None:
        self.ways = {way.name: way for way in ways}
        self._port = port
        command = [str(needed_tool(TOXIPROXY)), "-host", HOST, "-port", str(port)]
        self._process = ManagedProcess("toxiproxy", command, log)
        self._control = httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=10, trust_env=False)

    async def start(self) -> None:
        """Start it with every way open."""
        await self._process.start()
        await self._process.until(lambda: http_ok(HOST, self._port, "/version"), within_s=_READY_WITHIN_S)
        wanted = [
            {
                "name": way.name,
                "listen": f"{HOST}:{way.listen}",
                "upstream": f"{HOST}:{way.upstream}",
                "enabled": True,
            }
            for way in self.ways.values()
        ]
        (await self._control.post("/populate", json=wanted)).raise_for_status()

    async def stop(self) -> None:
        """Stop it; nobody reaches anything any more."""
        await self._control.aclose()
        await self._process.stop()

    async def disturb(self, names: Iterable[str], mode: str) -> None:
        """Cut these ways, or make them slow, silent or torn."""
        for name in names:
            if mode == "cut":
                await self._set(name, enabled=False)
                continue
            for number, toxic in enumerate(TOXICS[mode]):
                made = await self._control.post(f"/proxies/{name}/toxics", json={"name": f"{mode}-{number}", **toxic})
                made.raise_for_status()

    async def restore(self, names: Iterable[str], mode: str) -> None:
        """Take back what `disturb` did."""
        for name in names:
            if mode == "cut":
                await self._set(name, enabled=True)
                continue
            for number, _ in enumerate(TOXICS[mode]):
                (await self._control.delete(f"/proxies/{name}/toxics/{mode}-{number}")).raise_for_status()

    async def _set(self, name: str, *, enabled: bool) -> None:
        async with asyncio.timeout(10):
            (await self._control.post(f"/proxies/{name}", json={"enabled": enabled})).raise_for_status()
