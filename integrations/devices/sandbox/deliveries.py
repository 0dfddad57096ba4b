"""Sends the webhooks of Fingerprint's sandbox: signed, within 3 s, once more after a failure."""

import asyncio
import json
from typing import Final, Literal

import httpx
import structlog
from pydantic import Field

from integrations.devices.sandbox.profiles import Json
from integrations.devices.webhooks import HEADER, signature
from integrations.sandboxes.control import ControlModel

_TIMEOUT_S: Final = 3.0

log = structlog.get_logger(__name__)


class Delivery(ControlModel):
    """How one event is delivered, `times` over; where nothing is given, to the settings' address with their secret.

    `two_signatures` puts one of another secret first.
    """

    url: str = ""
    secret: str = ""
    times: int = Field(default=1, ge=1, le=100)
    variant: Literal["good", "two_signatures", "wrong_signature", "no_header", "other_version"] = "good"
    retry_after_ms: int = Field(default=1000, ge=0)


class Deliveries:
    """Deliveries under way; each is its own task, so they arrive in any order."""

    def __init__(self, client: httpx.AsyncClient, url: str, secret: str) -> None:
        self._client = client
        self._url = url
        self._secret = secret
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, content: Json, delivery: Delivery) -> None:
        """Begin to deliver an event."""
        for _ in range(delivery.times):
            task = asyncio.create_task(self._deliver(content, delivery), name="fingerprint-delivery")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, content: Json, delivery: Delivery) -> None:
        url = delivery.url or self._url
        if not url:
            return
        body = json.dumps(content).encode()
        headers = _headers(body, delivery.secret or self._secret, delivery.variant)
        for pause_s in (0.0, delivery.retry_after_ms / 1000):
            await asyncio.sleep(pause_s)
            try:
                answer = await self._client.post(url, content=body, headers=headers, timeout=_TIMEOUT_S)
            except httpx.HTTPError as error:
                log.info("webhook_not_delivered", error=type(error).__name__)
                continue
            if answer.is_success:
                return


def _headers(body: bytes, secret: str, variant: str) -> dict[str, str]:
    good = signature(body, secret.encode())
    other = signature(body, f"not {secret}".encode())
    value = {
        "good": good,
        "two_signatures": f"{other},{good}",
        "wrong_signature": other,
        "other_version": good.replace("v1=", "v2="),
        "no_header": "",
    }[variant]
    return {"content-type": "application/json", **({HEADER: value} if value else {})}
