"""The pages of exports in a real Chromium: one is written and kept, and one is cancelled without scripts."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from api.surveys.composition import BASE
from domain.tokens import Role
from tests.api.surveys.conftest import Platform, platform, working
from tests.api.surveys.test_export_pages import Bureau, open_bureau
from tests.browser.conftest import Staff, listening, opened_by_staff
from tests.browser.test_support import accessible
from tests.conftest import SettingsFor

__all__ = ["platform", "working"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bureau(
    working: Platform, settings_for: SettingsFor, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Bureau, Staff]]:
    place, folder = listening(), tmp_path_factory.mktemp("tls")
    async with (
        open_bureau(working, settings_for, place[1]) as opened,
        opened_by_staff(opened.app, opened.world, place, folder, BASE, "Exports of results") as staff,
    ):
        yield opened, staff


async def test_an_export_comes_to_its_page_by_itself_and_its_file_is_kept(bureau: tuple[Bureau, Staff]) -> None:
    opened, staff = bureau
    _, page = await staff.signed_in(Role.ADMIN)
    opened.platform.results.goes_on.clear()
    await page.get_by_label("Survey id").fill(opened.survey_id)
    await page.get_by_role("button", name="Export").click()
    await page.get_by_text("running", exact=True).wait_for()
    await page.evaluate("window.unchanged = true")
    await accessible(page)
    opened.platform.results.goes_on.set()
    async with page.expect_download() as kept:
        await page.get_by_role("link", name="Keep the file").click()
    assert (await kept.value).suggested_filename.endswith(".csv")
    assert await page.evaluate("window.unchanged")  # the file has come to the page
    assert await page.get_by_role("status").inner_text() == "The export is finished."
    await accessible(page)
    await page.get_by_role("link", name="Another export of this survey").click()
    await page.get_by_role("heading", name="Asked for last").wait_for()
    await accessible(page)
    assert staff.complaints == []


async def test_an_export_that_was_cancelled_and_a_refusal_are_as_good_to_read(bureau: tuple[Bureau, Staff]) -> None:
    opened, staff = bureau
    _, page = await staff.signed_in(Role.ADMIN)
    opened.platform.results.goes_on.clear()
    await page.get_by_label("Survey id").fill(opened.survey_id)
    await page.get_by_role("button", name="Export").click()
    await page.get_by_role("button", name="Cancel it").click()
    await page.get_by_text("cancelled", exact=True).wait_for()
    opened.platform.results.goes_on.set()
    await accessible(page)
    await page.goto(f"{staff.address}{BASE}/exports/x/y")
    await page.get_by_role("alert").wait_for()
    await accessible(page)
    staff.complaints.clear()  # a browser says so of every answer that is an error


async def test_an_export_is_cancelled_without_scripts(bureau: tuple[Bureau, Staff]) -> None:
    opened, staff = bureau
    _, page = await staff.signed_in(Role.ADMIN, java_script_enabled=False)
    opened.platform.results.goes_on.clear()
    await page.get_by_label("Survey id").fill(opened.survey_id)
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Cancel it").focus()
    await page.keyboard.press("Enter")
    await page.get_by_text("cancelled", exact=True).wait_for()
    assert await page.get_by_role("button", name="Cancel it").count() == 0
    opened.platform.results.goes_on.set()
    assert staff.complaints == []
