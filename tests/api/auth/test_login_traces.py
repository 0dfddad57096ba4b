"""What somebody logs in with stands nowhere in the clear: no row, no history, no list, no log and no answer has it."""

import logging
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from temporalio.client import Client

from domain.ids import assess_login_workflow_id
from tests.api.auth.conftest import Auth
from tests.api.auth.kept import execution, logged, mark, rows
from tests.api.auth.login_town import LoginTown, open_login_town
from tests.conftest import OwnerPool, SettingsFor
from tests.end_to_end.traces import Kept, standing


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def login_town(settings_for: SettingsFor, auth: Auth) -> AsyncIterator[LoginTown]:
    async with open_login_town(settings_for, auth) as opened:
        yield opened


async def test_nothing_that_is_kept_or_said_tells_what_somebody_logged_in_with(
    login_town: LoginTown,
    settings_for: SettingsFor,
    owner_pool: OwnerPool,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    town, password, wrong = login_town, mark(), mark()
    person = await town.person(password=password)
    person.user_agent = f"Mozilla/5.0 {mark()}"
    app = await town.totp(person)
    visits = [await town.visit(person)]
    refused: list[httpx.Response] = [await town.log_in(person, password=wrong, visit=visits[0])]
    assert (await town.log_in(person, password=password)).status_code == 200
    person.device = mark()
    visits.append(await town.visit(person))
    challenged = await town.log_in(person, password=password, visit=visits[1])
    attempt_id = challenged.json()["attemptId"]
    refused.append(await town.step_up(person, attempt_id, factor="totp", code=wrong))
    stepped_up = await town.step_up(person, attempt_id, factor="totp", code=app.now())
    assert stepped_up.status_code == 200, stepped_up.text
    by_mail = await town.log_in_by_mail(person)
    assert by_mail.status_code == 200, by_mail.text

    kept = [logged(capfd, caplog), *[item async for item in rows(owner_pool)]]
    temporal = settings_for().cells["eu"].temporal
    client = await Client.connect(f"{temporal.host}:{temporal.port}", namespace=temporal.namespace)
    kept += [item async for item in execution(client, assess_login_workflow_id("eu", attempt_id))]
    kept += [Kept("answer", answer.content + str(answer.headers).encode()) for answer in refused]
    markers = {
        "mail": person.mail,
        "password": password,
        "wrong": wrong,
        "code": await town.code(person),
        "app": app.secret,
        "client": person.user_agent,
        "tokens": stepped_up.json()["accessToken"].rpartition(".")[2],
        "refresh": stepped_up.json()["refreshToken"].rpartition("_")[2],
        **{f"{name} {number}": value for number, visit in enumerate(visits) for name, value in visit.items()},
    }
    assert standing(kept, {name: value.encode() for name, value in markers.items()}) == set()
    # it did look where things are
    places = {place.split()[0] for _, place in standing(kept, {"id": attempt_id.encode()})}
    assert places == {"postgres", "described", "history"}
