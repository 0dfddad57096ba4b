import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from api.composition import Service
from api.http.application import create_application
from api.http.forced_states import PATH, mount_forced_states
from comitia.stack.applications import API
from comitia.stack.supervisor import Supervisor
from integrations.settings import Environment, Settings
from integrations.telemetry.telemetry import open_telemetry
from tests.end_to_end.house import House

ROOT = Path(__file__).parents[3]
SERVICES = [application.service for application in API]
# One call of each service: answered by ASGI, and by a lean route where it has some
CALLS = {
    "surveys": [("GET", "/v1/surveys")],
    "eligibility": [("POST", "/v1/surveys/s/voting-token")],
    "votes": [("POST", "/vote"), ("GET", "/v1/submissions/s")],
    "results": [("GET", "/v1/surveys/s/results")],
    "streams": [("GET", "/v1/surveys/s/results/stream")],
    "auth": [("GET", "/.well-known/jwks.json")],
    "webhooks": [("POST", "/v1/webhooks/sumsub")],
    "support": [("GET", "/v1/support/cases")],
    "compliance": [("GET", "/v1/compliance/logs")],
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def forceable(house: House) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Every service once more, mounted with the router, and a client of each."""
    more = {"COMITIA_FORCED_STATES": "true"}
    async with AsyncExitStack() as lifetime:
        supervisor = Supervisor(house.state, applications=API, environment=Environment.TEST, more=more)
        await lifetime.enter_async_context(supervisor)
        clients = {service: httpx.AsyncClient(base_url=supervisor.url(service), timeout=60) for service in SERVICES}
        for client in clients.values():
            await lifetime.enter_async_context(client)
        yield clients


@pytest.mark.parametrize("service", SERVICES)
async def test_every_service_can_be_forced_into_each_state(
    forceable: dict[str, httpx.AsyncClient], service: str
) -> None:
    client = forceable[service]

    async def force(state: str, **more: object) -> None:
        assert (await client.put(PATH, json={"state": state, **more})).status_code == 200

    async def answers() -> list[httpx.Response]:
        return [await client.request(method, path) for method, path in CALLS[service]]

    usual = [answer.status_code for answer in await answers()]
    assert 503 not in usual

    await force("overloaded")
    for answer in await answers():
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["x-content-type-options"] == "nosniff"

    await force("failing", code="key_unavailable")
    assert {answer.json()["code"] for answer in await answers()} == {"key_unavailable"}

    await force("slow", delayMs=150)
    began = time.monotonic()
    assert [answer.status_code for answer in await answers()] == usual
    assert time.monotonic() - began >= 0.15 * len(usual)

    await force("not_ready")
    assert [answer.status_code for answer in await answers()] == usual
    report = await _readiness(client, ready=False)
    assert report["checks"]["forced_state"] == "failing"

    await force("normal")
    await _readiness(client, ready=True)
    assert [answer.status_code for answer in await answers()] == usual


async def _readiness(client: httpx.AsyncClient, *, ready: bool) -> dict[str, dict[str, str]]:
    """Return the report once it says so: one is shared for a moment."""
    deadline = time.monotonic() + 60
    while True:
        answer = await client.get("/readyz")
        if (answer.status_code == 200) is ready:
            report: dict[str, dict[str, str]] = answer.json()
            return report
        assert time.monotonic() < deadline, answer.text


@pytest.mark.parametrize("service", SERVICES)
async def test_no_service_has_the_router_unless_it_is_asked_for(house: House, service: str) -> None:
    async with httpx.AsyncClient(base_url=house.supervisor.url(service), timeout=60) as client:
        for method in ("GET", "PUT"):
            answer = await client.request(method, PATH, json={"state": "overloaded"})
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("environment", [each for each in Environment if each is not Environment.TEST])
def test_the_setting_is_refused_outside_of_tests(environment: Environment) -> None:
    assert not Settings(environment=environment).forced_states
    with pytest.raises(ValueError, match="forced states"):
        Settings(environment=environment, forced_states=True)


@pytest.mark.parametrize("environment", [each for each in Environment if each is not Environment.TEST])
def test_the_router_is_not_mounted_outside_of_tests(environment: Environment) -> None:
    settings = Settings(environment=environment)
    telemetry = open_telemetry(settings, "ghost")
    try:
        service = Service(create_application("ghost", telemetry))
        with pytest.raises(PermissionError):
            mount_forced_states(service, settings, telemetry)
        assert PATH not in {getattr(route, "path", "") for route in service.app.routes}
    finally:
        telemetry.close()


def test_in_production_a_service_that_is_told_to_does_not_start() -> None:
    environment = {**os.environ, "COMITIA_ENVIRONMENT": "production", "COMITIA_FORCED_STATES": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "api", "votes"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "production refuses forced states" in done.stderr
