"""The eligibility service as it runs, over the databases and Redis of two cells."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest_asyncio

from api.eligibility.composition import compose
from api.http.serving import serve
from integrations.postgres.roles import IDENTITY, ROLLS, SURVEYS
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry, make_telemetry
from tests.conftest import SettingsFor
from tests.identity_world import IdentityWorld, open_identity_world

PUBLIC_URL = "http://eligibility.test"


def payload_of(token: str) -> dict[str, Any]:
    """Return what a token says, unverified."""
    middle = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


@dataclass(frozen=True)
class Eligibility:
    """A running eligibility service."""

    client: httpx.AsyncClient
    telemetry: Telemetry

    async def ask(self, survey_id: str, token: str, scheme: str = "Bearer", **headers: str) -> httpx.Response:
        """Ask for a voting token."""
        sent = {"authorization": f"{scheme} {token}", **{name.replace("_", "-"): v for name, v in headers.items()}}
        return await self.client.post(f"/v1/surveys/{survey_id}/voting-token", headers=sent)

    async def refusal(self, survey_id: str, token: str, **headers: str) -> tuple[int, str]:
        """Return status and code of a refusal."""
        answer = await self.ask(survey_id, token, **headers)
        return answer.status_code, answer.json()["code"]

    def metric(self, line: str) -> float:
        """Return the value of a metric by its name and labels as exposed, 0 where it is not there."""
        for found in self.telemetry.exposition()[1].decode().splitlines():
            if found.startswith(line + " "):
                return float(found.rpartition(" ")[2])
        return 0.0


@asynccontextmanager
async def eligibility_service(settings: Settings) -> AsyncIterator[Eligibility]:
    """Compose and serve the service until the end of the block."""
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    telemetry = make_telemetry(settings, "eligibility")
    async with AsyncExitStack() as lifetime:
        service = await compose(settings, lifetime, telemetry)
        serving = asyncio.create_task(
            serve(service, telemetry, stop, on_started=lambda host, port: listening.set_result(f"http://{host}:{port}"))
        )
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=await listening, timeout=30, limits=limits) as client:
            yield Eligibility(client, telemetry)
        stop.set()
        await serving


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def identity_world(settings_for: SettingsFor) -> AsyncIterator[IdentityWorld]:
    async with open_identity_world(settings_for(IDENTITY, ROLLS, SURVEYS), ("eu", "us")) as world:
        yield world


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def eligibility(settings_for: SettingsFor, identity_world: IdentityWorld) -> AsyncIterator[Eligibility]:
    assert identity_world.tokens  # its keys are there before the service reads them
    async with eligibility_service(settings_for(IDENTITY, public_url=PUBLIC_URL)) as service:
        yield service
