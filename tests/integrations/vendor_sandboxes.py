"""The sandboxes of vendors, served for a test as `python -m integrations.sandboxes` serves them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from integrations.sandboxes.mounting import mount, open_sandboxes
from integrations.sandboxes.serving import serve_sandboxes
from integrations.settings import Environment, Settings


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor's sandbox: where it is, and its control routes."""

    url: str
    client: httpx.AsyncClient

    async def control(self, method: str, path: str, **content: Any) -> Any:
        answer = await self.client.request(method, f"{self.url}/_control/{path}", json=content)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def fail(self, kind: str, **fault: Any) -> None:
        await self.control("POST", "faults", kind=kind, **fault)

    async def heal(self) -> None:
        await self.control("DELETE", "faults")


@asynccontextmanager
async def open_vendor(name: str, **settings: Any) -> AsyncIterator[Vendor]:
    """Serve the sandboxes that these settings name; gives the one called `name`."""
    async with AsyncExitStack() as lifetime:
        sandboxes = await open_sandboxes(Settings(environment=Environment.TEST, **settings), lifetime)
        address = await lifetime.enter_async_context(serve_sandboxes(mount(sandboxes)))
        client = await lifetime.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=10))
        yield Vendor(f"{address}/{name}", client)
