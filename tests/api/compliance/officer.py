"""An officer of compliance who exports evidence: the service as it is composed, over a log that is sealed."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from api.compliance.composition import compose
from domain.bundle_verification import read_bundle_keys, verify_bundle
from domain.evidence_bundles import (
    MANIFEST,
)
from domain.stored_zip import read_zip
from domain.tokens import Role
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.opening import open_keys
from integrations.keys.purposes import (
    ACCESS_TOKEN,
    STAFF_TOKEN,
)
from integrations.keys.signing import is_signed
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.archived_histories import PostgresArchive
from integrations.postgres.roles import AUDIT, IDENTITY, SEARCH, STAFFING
from integrations.settings import Settings
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.archived_histories import ArchivedHistories
from integrations.temporal.case_histories import CaseHistories
from tests.api.auth.registration_town import Town, number
from tests.conftest import SettingsFor
from tests.sealing_world import Seal, sealing
from workflows.signatures import all_signatures

CELL = "eu"
WITHIN_S = 30
MAIL = f"anna.{secrets.token_hex(4)}@example.org"
DOCUMENT = number()


@dataclass
class Officer:
    """The service as it is composed, and whoever calls it."""

    client: httpx.AsyncClient
    tokens: AccessTokens
    settings: Settings
    seal: Seal

    async def post(self, case_id: str, *roles: Role, key: str | None = "", **body: Any) -> httpx.Response:
        token = self.tokens.staff("u_tester", roles or (Role.COMPLIANCE,))
        headers = {"authorization": f"Bearer {token}"}
        if key is not None:
            headers["idempotency-key"] = key or secrets.token_hex(8)
        body = {"caseId": case_id, "reason": "court", **body}
        return await self.client.post("/v1/compliance/bundles", json=body, headers=headers)

    async def exported(self, case_id: str, **options: Any) -> bytes:
        """Export a case as soon as it is over."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                answer = await self.post(case_id, **options)
                if answer.status_code == 200 and "state" not in json.loads(dict(read_zip(answer.content))[MANIFEST]):
                    return answer.content
                if answer.status_code != 200:
                    assert answer.json()["code"] == "workflows_unavailable", answer.text
                await asyncio.sleep(0.1)

    async def keys(self) -> bytes:
        token = self.tokens.staff("u_tester", (Role.COMPLIANCE,))
        answer = await self.client.get("/v1/compliance/bundle-keys", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 200, answer.text
        return answer.content

    async def failing(self, content: bytes) -> list[str]:
        given = read_bundle_keys(await self.keys())
        return [
            f"{check.name}: {check.detail}" for check in verify_bundle(content, given, is_signed) if not check.holds
        ]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def officer(settings_for: SettingsFor, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Officer]:
    folder = tmp_path_factory.mktemp("objects")
    settings = settings_for(IDENTITY, STAFFING, SEARCH, objects_folder=folder)
    tokens = AccessTokens(open_keys(settings, ACCESS_TOKEN, STAFF_TOKEN))
    await tokens.refresh()
    async with AsyncExitStack() as lifetime:
        seal = await lifetime.enter_async_context(sealing(settings_for(AUDIT), CELL, folder))
        service = await compose(settings, lifetime, make_telemetry(settings, "compliance"))
        transport = httpx.ASGITransport(service.app, client=("127.0.0.1", 1))
        client = await lifetime.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://officer"))
        yield Officer(client, tokens, settings, seal)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def registered(town: Town, officer: Officer) -> str:
    """A registration that is over, and sealed."""
    registration: str = (await town.begin(CELL, mail=MAIL)).json()["registrationId"]
    await town.prove(registration, MAIL)
    await town.at_provider(registration)
    await town.show(registration, DOCUMENT)
    await town.at(registration, "active")
    unsealed = await officer.post(registration)
    assert (unsealed.status_code, unsealed.json()["code"]) == (409, "not_sealed_yet")
    await officer.seal()
    return registration


def histories(town: Town, officer: Officer, codec: Any = None) -> CaseHistories:
    cell = town.cells[CELL]
    assert officer.settings.objects_folder is not None
    places = PostgresArchive(cell.pool)
    archive = ArchivedHistories(places, FileObjectStore(officer.settings.objects_folder), cell.codec)
    return CaseHistories(cell.temporal, codec or cell.codec, places, archive, all_signatures())
