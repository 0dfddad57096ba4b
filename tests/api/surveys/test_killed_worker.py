"""The real worker of the platform, killed in the middle of a publication."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest_asyncio

from comitia.stack.applications import WORKERS, application_environment
from comitia.stack.ports import HOST
from comitia.stack.probes import http_ok
from comitia.stack.process import ManagedProcess
from comitia.stack.state import StackState
from integrations.platform import SURVEYS_QUEUE
from integrations.settings import Environment
from tests.api.surveys.conftest import Platform

OwnerPool = Callable[[str], Awaitable[asyncpg.Pool]]
INTERNAL = "/v1/internal/surveys"
DEADLINE_S = 60.0


@pytest_asyncio.fixture(loop_scope="session")
async def worker(
    servers: StackState, kafka: None, platform: Platform, tmp_path: Path, unused_tcp_port: int
) -> AsyncIterator[ManagedProcess]:
    """`python -m workers platform`, ready."""
    (application,) = (found for found in WORKERS if found.service == "platform")
    environment = application_environment(
        application, servers, unused_tcp_port, environment=Environment.TEST, build="killed"
    )
    environment["COMITIA_KEYS_FOLDER"] = str(platform.settings.keys_folder)
    environment["COMITIA_OBJECTS_FOLDER"] = str(platform.settings.objects_folder)
    process = ManagedProcess(
        application.name, application.command, tmp_path / "worker.log", environment={**os.environ, **environment}
    )
    await process.start()
    await process.until(lambda: http_ok(HOST, unused_tcp_port, "/readyz"), within_s=DEADLINE_S)
    yield process
    await process.stop()


async def test_a_publication_survives_the_death_of_its_worker(
    worker: ManagedProcess, platform: Platform, owner_pool: OwnerPool
) -> None:
    catalogue = await owner_pool("catalogue")
    body = {"title": "Lunch", "questions": [{"title": "What?", "min": 1, "max": 1, "options": [{"text": "Soup"}]}]}
    async with platform.http(platform.staff(), queue=SURVEYS_QUEUE, patience_s=DEADLINE_S) as admin:
        path = (await admin.post(INTERNAL, json=body)).headers["location"]
        survey_id = path.rpartition("/")[2]
        publication = asyncio.create_task(admin.put(f"{path}/publish"))
        async with asyncio.timeout(DEADLINE_S):
            stage = "SELECT stage FROM catalogue.survey WHERE survey_id = $1"
            while await catalogue.fetchval(stage, survey_id) == "draft":
                await asyncio.sleep(0.002)
            await worker.kill()
            await worker.start()
            answer = await publication
            assert answer.status_code == 200, answer.text
        opened = {
            await (await owner_pool(cell)).fetchval(
                "SELECT start_at FROM voting.survey WHERE survey_id = $1", survey_id
            )
            for cell in ("eu", "us")
        }
        public = (await admin.get(f"/v1/surveys/{survey_id}")).json()
        assert [moment.isoformat().replace("+00:00", "Z") for moment in opened] == [public["startDate"]]
    actions = await catalogue.fetch("SELECT action FROM catalogue.staff_action WHERE survey_id = $1", survey_id)
    assert sorted(action["action"] for action in actions) == ["create", "publish"]
