"""The pages of exports as a browser gets them, over real databases and a real Temporal."""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg
import httpx
import pytest
import pytest_asyncio
from starlette.types import ASGIApp

from api.surveys.composition import BASE, TEMPLATES
from domain.console import SessionKind
from domain.ids import new_console_session_id
from domain.tokens import Role
from integrations.platform import cell_pools
from integrations.postgres.console_sessions import PostgresConsoleSessions
from integrations.postgres.roles import CONSOLE, IDENTITY, STAFFING
from tests.api.surveys.conftest import Platform
from tests.api.surveys.test_exports import INTERNAL, TOTALS
from tests.audited import PAGES, leaves
from tests.conftest import OwnerPool, SettingsFor
from tests.console_world import ADDRESS, Browser, ConsoleWorld, changing_routes, console_world, forms_of

KIND = SessionKind.SURVEYS
FILE = re.compile(rf'href="({BASE}/exports/[^"]+/file)"')
WATCHED = re.compile(r'hx-get="([^"]+)"')


@dataclass
class Bureau:
    """The service with its console, and a published survey that staff alone see results of."""

    world: ConsoleWorld
    platform: Platform
    survey_id: str
    app: ASGIApp
    pools: dict[str, asyncpg.Pool]
    identity: dict[str, asyncpg.Pool]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bureau(working: Platform, settings_for: SettingsFor) -> AsyncIterator[Bureau]:
    async with open_bureau(working, settings_for, ADDRESS) as opened:
        yield opened


@asynccontextmanager
async def open_bureau(working: Platform, settings_for: SettingsFor, address: str) -> AsyncIterator[Bureau]:
    settings = settings_for(CONSOLE, IDENTITY, STAFFING)
    async with AsyncExitStack() as lifetime:
        pools = await cell_pools(settings, lifetime, CONSOLE)
        identity = await cell_pools(settings, lifetime, IDENTITY)
        made = console_world(settings, pools, BASE, TEMPLATES, address=address, sessions=KIND)
        world = await lifetime.enter_async_context(made)
        working.results.merged, working.results.is_down = TOTALS, False
        question = {"title": "What?", "min": 1, "max": 1, "options": [{"text": "Soup"}, {"text": "Salad"}]}
        async with working.http(working.staff()) as admin:
            wanted = {"title": "Lunch", "questions": [question], "visibility": "staff"}
            path = str((await admin.post(INTERNAL, json=wanted)).headers["location"])
            assert (await admin.put(f"{path}/publish")).status_code == 200
        app = working.application(world.console)
        world.serve(app)
        yield Bureau(world, working, path.rpartition("/")[2], app, pools, identity)
        working.results.is_down = False


async def written(browser: Browser, page: httpx.Response) -> httpx.Response:
    """Look at an export until its file is written."""
    async with asyncio.timeout(20):
        while not FILE.search(page.text):
            assert page.status_code == 200, page.text
            await asyncio.sleep(0.05)
            page = await browser.client.get(page.url)
    return page


async def test_an_export_is_asked_for_once_and_its_file_is_kept(bureau: Bureau, owner_pool: OwnerPool) -> None:
    actor, browser = await bureau.world.signed_in(Role.ADMIN)
    first = await browser.get()
    asked = {"survey": bureau.survey_id, "region": "UK"}
    async with leaves(await owner_pool("catalogue"), "surveys POST /console/surveys/exports", subject=bureau.survey_id):
        shown = await browser.submit(first, "/exports", **asked)
    done = await written(browser, shown)
    assert ("Cancel it" in done.text, "hx-get" in done.text, "<dd>us</dd>" in done.text) == (False, False, True)
    assert str((await browser.submit(first, "/exports", **asked)).url) == str(shown.url)  # the same form again
    (address,) = FILE.findall(done.text)
    pool = await owner_pool("catalogue")
    async with leaves(
        pool, "surveys GET /console/surveys/exports/{survey_id}/{export_id}/file", subject=bureau.survey_id
    ):
        file = await browser.client.get(address)
    assert file.headers["content-disposition"] == f'attachment; filename="{shown.url.path.rpartition("/")[2]}.csv"'
    assert [row["region"] for row in csv.DictReader(io.StringIO(file.text))] == ["UK", "UK"]
    listed = await browser.get()
    assert (str(shown.url.path) in listed.text, actor in listed.text) == (True, True)


async def test_an_export_under_way_is_cancelled_by_a_form(bureau: Bureau, owner_pool: OwnerPool) -> None:
    bureau.platform.results.is_down = True
    _, browser = await bureau.world.signed_in(Role.ADMIN)
    page = await browser.submit(await browser.get(), "/exports", survey=bureau.survey_id)
    async with asyncio.timeout(20):
        while "<dt>format</dt>" not in page.text:  # until the catalogue has it
            await asyncio.sleep(0.05)
            page = await browser.client.get(page.url)
    (watched,) = WATCHED.findall(page.text)
    assert (await browser.client.get(watched)).status_code == 204
    seen = leaves(
        await owner_pool("catalogue"),
        "surveys POST /console/surveys/exports/{survey_id}/{export_id}/cancel",
        subject=bureau.survey_id,
    )
    async with seen:
        cancelled = await browser.submit(page, "/cancel")
    again = await browser.submit(page, "/cancel")  # the page that is still open elsewhere
    live = await browser.client.get(watched)
    bureau.platform.results.is_down = False
    for answer in (cancelled, again, live):
        assert "<strong>cancelled</strong>" in answer.text, answer.text
        assert "hx-get" not in answer.text
    assert (await browser.client.get(f"{page.url}/file")).status_code == 409


async def test_what_is_no_export_is_refused(bureau: Bureau) -> None:
    _, browser = await bureau.world.signed_in(Role.ADMIN)
    page = await browser.get()
    refused = {
        400: ({"format": "xlsx"}, {"survey": ""}, {"key": "x"}),
        404: ({"survey": "s_nothing"},),
        422: ({"region": "x" * 1000}, {"option": "9"}),
    }
    for status, orders in refused.items():
        for wrong in orders:
            assert (
                await browser.submit(page, "/exports", **{"survey": bureau.survey_id, **wrong})
            ).status_code == status
    for path in ("/exports/x/y", f"/exports/{bureau.survey_id}/x_aaaaaaaaaaaaaaaa", "/exports/x/y/file"):
        assert (await browser.get(path)).status_code == 404
    shown = await browser.get("?survey=%22%3E%3Cscript%3E")
    assert "<script>" not in shown.text


async def test_administrators_alone_come_in_and_every_changing_page_has_its_entry_or_a_reason(
    bureau: Bureau, owner_pool: OwnerPool
) -> None:
    listed = {name.removeprefix("surveys ") for name in PAGES if name.startswith("surveys ")}
    assert changing_routes(bureau.world.console) == listed
    async with leaves(await owner_pool("eu"), "surveys GET /console/surveys/back"):
        _, browser = await bureau.world.signed_in(*set(Role) - {Role.ADMIN})
    async with leaves(await owner_pool("eu"), "surveys POST /console/surveys/pass"):
        assert (await browser.submit(await browser.get("/pass"), "/pass", thumbprint="a" * 43)).status_code == 200
    token = forms_of(await browser.get())[0].fields["token"]
    for path in ("", "/exports/x/y", "/exports/x/y/state", "/exports/x/y/file"):
        assert (await browser.get(path)).status_code == 403
    for path in ("/exports", "/exports/x/y/cancel"):
        assert (await browser.post(f"{BASE}{path}", {"token": token})).status_code == 403


async def test_a_session_of_these_pages_is_one_of_no_others_and_whoever_opens_them_puts_nobody_on_the_roll(
    bureau: Bureau,
) -> None:
    staff_id, _ = await bureau.world.enrol(Role.ADMIN)
    pool, roles = bureau.pools["eu"], frozenset({Role.ADMIN})
    here = PostgresConsoleSessions(pool, KIND)
    others = PostgresConsoleSessions(bureau.identity["eu"])
    ours, theirs = new_console_session_id("eu"), new_console_session_id("eu")
    await here.open(ours, staff_id, roles)
    await others.open(theirs, staff_id, roles)
    assert (await here.get(ours) is None, await others.get(ours) is None) == (False, True)
    assert (await here.get(theirs) is None, await others.get(theirs) is None) == (True, False)
    kinds = await pool.fetch("SELECT DISTINCT kind FROM identity.surveys_session")
    assert [row["kind"] for row in kinds] == [KIND.value]
    with pytest.raises(asyncpg.WithCheckOptionViolationError):
        await pool.execute(
            "INSERT INTO identity.surveys_session SELECT sha256('x'), 'console', $1, sha256('x'), now()", staff_id
        )
    for statement in (
        "SELECT kind FROM identity.login_transaction",
        "UPDATE identity.surveys_session SET kind = 'console'",
        "INSERT INTO identity.staff (staff_id, roles, first) VALUES ('u_eu_x', '{admin}', false)",
        "UPDATE identity.staff SET roles = '{admin}'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)
