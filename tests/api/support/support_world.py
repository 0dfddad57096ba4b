"""The service `support` as it is composed, and whoever calls it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest_asyncio

from api.support.cells import SupportCell, support_cell
from api.support.composition import compose
from domain.ports import KeyManagement
from domain.signatures import Signatures
from domain.submissions import SubmissionIds
from domain.tokens import Role
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.opening import open_keys
from integrations.keys.purposes import ACCESS_TOKEN, DAILY, STAFF_TOKEN, SUBMISSION
from integrations.postgres.roles import CODEC, IDENTITY
from integrations.settings import Settings
from integrations.telemetry.telemetry import make_telemetry
from tests.api.auth.registration_town import Town
from tests.conftest import SettingsFor

WITHIN_S = 40.0


@dataclass
class Support:
    """The service as it is composed, and whoever calls it."""

    client: httpx.AsyncClient
    tokens: AccessTokens
    settings: Settings
    keys: KeyManagement

    async def get(self, path: str, *roles: Role, **params: Any) -> httpx.Response:
        token = self.tokens.staff("u_tester", roles or (Role.SUPPORT,))
        headers = {"authorization": f"Bearer {token}"}
        return await self.client.get(f"/v1/support/{path}", params=params, headers=headers)

    async def found(self, path: str, *roles: Role, **params: Any) -> Any:
        answer = await self.get(path, *roles, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def support(settings_for: SettingsFor) -> AsyncIterator[Support]:
    settings = settings_for(IDENTITY, CODEC)
    keys = open_keys(settings, ACCESS_TOKEN, STAFF_TOKEN, SUBMISSION, DAILY)
    tokens = AccessTokens(keys)
    await tokens.refresh()
    async with AsyncExitStack() as lifetime:
        service = await compose(settings, lifetime, make_telemetry(settings, "support"))
        transport = httpx.ASGITransport(service.app, client=("127.0.0.1", 1))
        client = await lifetime.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://support"))
        yield Support(client, tokens, settings, keys)


async def eventually(look: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(WITHIN_S):
        while not (found := await look()):
            await asyncio.sleep(0.1)
    return found


def support_cells(town: Town) -> Callable[[str | None], SupportCell]:
    return lambda name: support_cell(town.cells[name or ""], Signatures(), SubmissionIds(bytes(32)))
