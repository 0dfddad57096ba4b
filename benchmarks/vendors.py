"""Vendors for benchmarks of identity: sandboxes beside the servers of the run, and what a person's client brings."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from benchmarks.ground import Ground
from comitia.stack.sandboxes import Sandboxes

VENDOR_S = 0.02  # how long they take to answer
_MANY = 1_000_000
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Vendors:
    """Sandboxes that run. `variables` is what our processes need to reach them, `pids` whose time is theirs."""

    variables: dict[str, str]
    control: httpx.AsyncClient
    pids: dict[str, int]

    async def slow_down(self, *names: str) -> None:
        """Let these answer after `VENDOR_S`."""
        for name in names:
            fault = {"kind": "slow", "delayS": VENDOR_S, "count": _MANY}
            (await self.control.post(f"/{name}/_control/faults", json=fault)).raise_for_status()

    async def people(self, action: str, nonces: Sequence[str], address: str) -> list[tuple[str, str]]:
        """Return, for each nonce, the token of a solved challenge and the id of an event of a device of its own."""
        limits = {"perSecond": _MANY, "burst": _MANY}
        (await self.control.put("/fingerprint/_control/limits", json=limits)).raise_for_status()

        async def person(nonce: str) -> tuple[str, str]:
            token = await self.control.post("/turnstile/_control/tokens", json={"action": action, "cdata": nonce})
            event = await self.control.post(
                "/fingerprint/_control/events", json={"linkedId": nonce, "readableAfterMs": 0, "ipAddress": address}
            )
            return token.json()["token"], event.json()["eventId"]

        made: list[tuple[str, str]] = []
        for start in range(0, len(nonces), _AT_ONCE):
            made += await asyncio.gather(*(person(nonce) for nonce in nonces[start : start + _AT_ONCE]))
        return made


@asynccontextmanager
async def vendors(ground: Ground) -> AsyncIterator[Vendors]:
    """Run the sandboxes until the end of the block."""
    async with (
        Sandboxes(ground.state) as sandboxes,
        httpx.AsyncClient(base_url=sandboxes.url, timeout=30, trust_env=False) as control,
    ):
        yield Vendors(sandboxes.variables, control, sandboxes.pids)
