"""Sends a sandbox's webhooks, and again after a failure by a compressed schedule; what became of each can be read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx

from integrations.vendor_settings import SandboxSettings

KEPT_MAX: Final = 1000

Sign = Callable[[bytes], dict[str, str]]


@dataclass(slots=True)
class Delivery:
    """One event on its way; `answers` has the status of each attempt, 0 where there was none."""

    kind: str
    body: bytes
    sign: Sign
    answers: list[int] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def arrived(self) -> bool:
        """Tell whether it was answered with a 2xx."""
        return bool(self.answers) and httpx.codes.is_success(self.answers[-1])


class Deliveries:
    """The webhooks of one vendor; each is sent by a task of its own, so the order on arrival is nobody's promise."""

    def __init__(self, client: httpx.AsyncClient, url: str, settings: SandboxSettings) -> None:
        """An empty `url` means that nobody listens: events are kept, and sent to no one."""
        self._client = client
        self._url = url
        self._settings = settings
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent: list[Delivery] = []

    def send(self, kind: str, body: bytes, sign: Sign, *, after: Delivery | None = None) -> Delivery:
        """Begin to send an event, once another one has ended where there is one to wait for.

        `sign` returns the headers of one attempt at the body that it is given.
        """
        delivery = Delivery(kind, body, sign)
        self.sent.append(delivery)
        del self.sent[:-KEPT_MAX]
        if not self._url:
            delivery.ended.set()
            return delivery
        task = asyncio.create_task(self._deliver(delivery, after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return delivery

    async def close(self) -> None:
        """Give up what is on its way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, delivery: Delivery, after: Delivery | None) -> None:
        if after is not None:
            await after.ended.wait()
        for pause_s in (0.0, *self._settings.resend_after_s):
            await asyncio.sleep(pause_s)
            delivery.answers.append(await self._attempt(delivery))
            if delivery.arrived:
                break
        delivery.ended.set()

    async def _attempt(self, delivery: Delivery) -> int:
        headers = {"content-type": "application/json", **delivery.sign(delivery.body)}
        try:
            async with asyncio.timeout(self._settings.webhook_timeout_s):
                answer = await self._client.post(self._url, content=delivery.body, headers=headers)
        except (httpx.HTTPError, TimeoutError):
            return 0
        return answer.status_code


@asynccontextmanager
async def open_deliveries(vendor: str, settings: SandboxSettings) -> AsyncIterator[Deliveries]:
    """Open the webhooks of a vendor: they go to `{webhooks_url}/{vendor}`."""
    url = f"{settings.webhooks_url.rstrip('/')}/{vendor}" if settings.webhooks_url else ""
    async with httpx.AsyncClient(trust_env=False) as client:
        deliveries = Deliveries(client, url, settings)
        try:
            yield deliveries
        finally:
            await deliveries.close()
