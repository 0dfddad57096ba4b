"""The pages of compliance in a real Chromium: replay, an entry with its proof, and the search that leads to one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from api.compliance.composition import BASE
from domain.tokens import Role
from integrations.keys.dpop_keys import ProofKey
from tests.api.compliance.test_console import SIZE, Office, open_office, store_release, voted
from tests.api.compliance.test_search import CELL, Searcher, case, open_searcher
from tests.browser.conftest import Staff, listening, opened_by_staff
from tests.browser.test_support import accessible
from tests.comitia.test_replay import Ledger
from tests.conftest import OwnerPool, SettingsFor


@dataclass
class Opened:
    """An office and who opens its console."""

    office: Office
    staff: Staff


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def opened(settings_for: SettingsFor, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Opened]:
    place, folder = listening(), tmp_path_factory.mktemp("office")
    async with (
        open_office(settings_for, folder, place[1]) as office,
        opened_by_staff(office.app, office.world, place, folder, BASE, "Compliance") as staff,
    ):
        yield Opened(office, staff)


@pytest.fixture
def officers(opened: Opened) -> Staff:
    return opened.staff


async def test_an_execution_is_replayed_with_the_code_that_it_records(opened: Opened) -> None:
    officers, settings = opened.staff, opened.office.settings
    workflow_id = await voted(settings, Ledger())
    _, page = await officers.signed_in(Role.COMPLIANCE)
    for why in ("release_not_at_hand", "same"):
        await page.goto(f"{officers.address}{BASE}")
        await page.get_by_label("Workflow id").fill(workflow_id)
        await page.get_by_label("Code").select_option("recorded")
        await page.get_by_role("button", name="Replay").click()
        await page.get_by_role("heading", name="How it stands").wait_for()
        await page.get_by_text("finished", exact=True).wait_for()
        await page.get_by_role("link", name="Look again").click()
        await page.get_by_role("cell", name=why, exact=True).wait_for()
        assert await page.get_by_text("recorded", exact=True).count() == 1
        if why != "same":
            store_release(settings, await page.content())
    await accessible(page)
    assert officers.complaints == []


async def test_an_execution_is_replayed_and_an_entry_is_proved(officers: Staff) -> None:
    _, page = await officers.signed_in(Role.COMPLIANCE)
    await accessible(page)
    await page.get_by_label("Workflow id").fill("submit-votes/eu/nothing")
    await page.get_by_label("Out of the archive").check()
    await page.get_by_role("button", name="Replay").click()
    await page.get_by_role("heading", name="How it stands").wait_for()
    await page.evaluate("window.unchanged = true")
    await page.get_by_text("finished", exact=True).wait_for()
    assert await page.evaluate("window.unchanged")  # the stage has come to the page
    assert await page.get_by_role("status").inner_text() == "The replay is finished."
    await page.get_by_role("link", name="Look again").click()
    await page.get_by_text("history_gone").wait_for()
    assert await page.get_by_text("the archive", exact=True).count() == 1
    await accessible(page)
    await page.get_by_role("link", name="Comitia console").click()
    await page.get_by_role("textbox", name="Log").fill("eu")
    await page.get_by_label("Place").fill(str(SIZE - 1))
    await page.get_by_role("button", name="Read", exact=True).click()
    await page.get_by_role("heading", name=f"Entry {SIZE - 1} of eu").wait_for()
    await accessible(page)
    async with page.expect_download() as kept:
        await page.get_by_role("link", name="Keep the proof as a file").click()
    assert (await kept.value).suggested_filename == f"eu-{SIZE - 1}.tlog-proof"
    assert officers.complaints == []


@pytest.mark.parametrize(("role", "path"), [(Role.AUDITOR, "/replays/x"), (Role.COMPLIANCE, "/replays/x")])
async def test_a_refusal_is_as_good_to_read(officers: Staff, role: Role, path: str) -> None:
    _, page = await officers.signed_in(role)
    await page.goto(f"{officers.address}{BASE}{path}")
    await page.get_by_role("alert").wait_for()
    await accessible(page)
    officers.complaints.clear()  # a browser says so of every answer that is an error


async def test_a_program_is_given_a_pass_by_keyboard_alone(officers: Staff) -> None:
    _, page = await officers.signed_in(Role.AUDITOR)
    key = ProofKey.generate()
    await page.goto(f"{officers.address}{BASE}/pass?key={key.jkt}")
    await page.get_by_label("Thumbprint").wait_for()
    await accessible(page)
    assert await page.get_by_label("Thumbprint").input_value() == key.jkt
    await page.get_by_role("button", name="Give it a pass").focus()
    await page.keyboard.press("Enter")
    assert (await page.locator("code", has_text="pass-").inner_text()).startswith("pass-")
    assert await page.get_by_text(key.jkt).count() == 1
    await accessible(page)
    assert officers.complaints == []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def reading(
    settings_for: SettingsFor, owner_pool: OwnerPool, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Searcher, Staff]]:
    place, folder = listening(), tmp_path_factory.mktemp("log")
    async with (
        open_searcher(settings_for, await owner_pool(CELL), folder, place[1]) as searcher,
        opened_by_staff(searcher.app, searcher.world, place, folder, BASE, "Compliance") as staff,
    ):
        yield searcher, staff


async def test_an_entry_is_found_without_scripts(reading: tuple[Searcher, Staff]) -> None:
    searcher, officers = reading
    made = case()
    await searcher.write(*made.entries)
    await searcher.searched()
    _, page = await officers.signed_in(Role.AUDITOR, java_script_enabled=False)
    await page.get_by_role("link", name="Find entries").click()
    await page.get_by_label("Log").select_option(CELL)
    await page.get_by_label("By (who acted)").fill(made.actor)
    await page.get_by_role("button", name="Find").focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name=f"Found in {CELL}").wait_for()
    assert await page.get_by_role("cell", name=made.staff[0]).count() == 2
    address = page.url
    await page.get_by_role("row", name=made.staff[0]).first.get_by_role("link").click()
    await page.get_by_text(made.staff[0]).wait_for()
    _, other = await officers.signed_in(Role.COMPLIANCE)  # axe is a script
    await other.goto(address)
    await other.get_by_role("heading", name=f"Found in {CELL}").wait_for()
    await accessible(other)
    assert officers.complaints == []
