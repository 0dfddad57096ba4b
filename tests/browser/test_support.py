"""The pages of support in a real Chromium: what people do with them, with keyboard, phone and without scripts too."""

import asyncio
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Locator, Page

from api.support.composition import BASE
from domain.tokens import Role
from tests.api.auth.registration_town import Town
from tests.api.support.test_acting import at_provider
from tests.api.support.test_unmasking import registered
from tests.browser.conftest import Staff

PHONE = {"width": 360, "height": 740}


async def accessible(page: Page) -> None:
    """Nothing to complain of, light and dark, and on a phone nothing that is cut off."""
    before = page.viewport_size
    await page.emulate_media(color_scheme="light")
    found: Any = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    await page.emulate_media(color_scheme="dark")
    found = await Axe().run(page, options={"runOnly": ["color-contrast"]})
    assert found.violations_count == 0, found.generate_report()
    await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    wide = await page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
    assert wide <= 0, f"{page.url} is {wide} pixels too wide"
    if before is not None:
        await page.set_viewport_size(before)


async def find(page: Page, by: str, value: str, case: str, *, looks: bool = False) -> None:
    await page.get_by_label("By", exact=True).select_option(by)
    await page.get_by_label("Value").fill(value)
    await page.get_by_role("button", name="Find").click()
    await page.get_by_role("link", name=case).wait_for()
    if looks:
        await accessible(page)
    await page.get_by_role("link", name=case).click()
    await page.get_by_role("heading", name="Timeline").wait_for()


async def test_a_case_is_found_read_and_acted_on(town: Town, staff: Staff) -> None:
    registration = await at_provider(town)
    ann, page = await staff.signed_in(Role.SUPPORT)
    (cookie,) = [each for each in await page.context.cookies() if each["name"] == "__Host-comitia-staff"]
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    assert await page.evaluate("document.cookie") == ""
    await accessible(page)
    await find(page, "registration", registration, registration, looks=True)
    await accessible(page)
    await page.get_by_label("Why look now").select_option("voter_asked")
    await page.get_by_role("button", name="Look now").click()
    await page.get_by_text("Done: look now.").wait_for()
    await page.locator("#live li").filter(has_text=f"by {ann}").first.wait_for()  # once the process has told
    # Somebody else goes on: the page shows it by itself
    await page.evaluate("window.unchanged = true")
    await town.send("DELETE", registration)
    await page.locator("#live dd").filter(has_text="cancelled").first.wait_for()
    assert await page.evaluate("window.unchanged")
    await page.get_by_role("link", name="What is late").click()
    await page.get_by_role("heading", name="What is late").wait_for()
    await accessible(page)
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("heading", name="Signed out").wait_for()
    await accessible(page)
    assert staff.complaints == []


async def ask_a_second_person(page: Page, registration: str) -> None:
    await find(page, "registration", registration, registration)
    await page.get_by_label("Why unmask").select_option("wrong_contact")
    await page.get_by_role("button", name="Ask a second person").click()
    await page.get_by_text("waiting").wait_for()


async def test_two_people_break_glass(town: Town, staff: Staff) -> None:
    registration, mail = await registered(town)
    ann, asker = await staff.signed_in(Role.SUPPORT)
    bob, second = await staff.signed_in(Role.COMPLIANCE)
    await ask_a_second_person(asker, registration)
    await accessible(asker)
    await second.get_by_label("Its id").fill(asker.url.rpartition("/")[2])
    await second.get_by_role("button", name="Open", exact=True).click()
    await second.get_by_text(ann).wait_for()
    await accessible(second)
    await second.get_by_role("button", name="Approve").click()
    await second.get_by_text("approved").wait_for()
    await asker.get_by_role("link", name="It has changed").click()  # which the page has said by itself
    await asker.get_by_text(bob).wait_for()
    await asker.get_by_role("button", name="Read the mail").click()
    await asker.get_by_text(mail).wait_for()
    await accessible(asker)
    assert mail not in await second.content()
    assert staff.complaints == []


async def tab_to(page: Page, wanted: Locator, *, most: int = 80) -> None:
    """Press Tab until this has the focus, as somebody without a mouse does."""
    await wanted.wait_for()
    for _ in range(most):
        if await wanted.evaluate("element => element === document.activeElement"):
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not come to {wanted}")


async def test_what_has_changed_is_told_and_what_is_open_and_in_focus_stays(town: Town, staff: Staff) -> None:
    registration = await at_provider(town)
    _, page = await staff.signed_in(Role.COMPLIANCE)
    await page.goto(f"{staff.address}{BASE}/cases/{registration}")
    told, summary = page.get_by_role("status"), page.locator("#live summary").first
    assert await told.inner_text() == ""
    await tab_to(page, summary)
    await page.keyboard.press("Enter")
    await page.locator("#live details[open] dl").first.wait_for()
    await accessible(page)  # with what is open
    steps = await page.locator("#live li").count()
    await town.send("DELETE", registration)
    await told.filter(has_text="It has changed: cancelled").wait_for()
    assert await page.locator("#live li").count() > steps
    assert await page.locator("#live details[open]").count() == 1
    assert await summary.evaluate("element => element === document.activeElement")
    await page.keyboard.press("Tab")  # and goes on from there
    assert await page.locator("#live :focus, #live ~ * :focus").count() == 1
    await accessible(page)
    assert staff.complaints == []


async def test_a_case_is_found_and_acted_on_by_tab_and_enter_alone(town: Town, staff: Staff) -> None:
    registration = await at_provider(town)
    _, page = await staff.signed_in(Role.SUPPORT)
    await tab_to(page, page.get_by_label("Value"))
    await page.keyboard.type(registration)
    await page.keyboard.press("Enter")
    await tab_to(page, page.get_by_role("link", name=registration))
    await page.keyboard.press("Enter")
    await tab_to(page, page.get_by_label("Why escalate"))
    await page.keyboard.type("stuck")
    await tab_to(page, page.get_by_role("button", name="Escalate"))
    await page.keyboard.press("Enter")
    await page.get_by_text("Done: escalate.").wait_for()
    assert staff.complaints == []


async def test_everything_works_without_scripts_and_by_keyboard(town: Town, staff: Staff) -> None:
    registration: str = (await town.begin()).json()["registrationId"]
    _, page = await staff.signed_in(Role.SUPPORT, java_script_enabled=False)
    await page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert await focused.inner_text() == "Skip to the content"
    await page.keyboard.press("Enter")
    await page.get_by_label("Value").focus()
    await page.keyboard.type(registration)
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name=registration).focus()
    await page.keyboard.press("Enter")
    await page.get_by_label("Why escalate").focus()
    await page.keyboard.type("stuck")
    await page.get_by_role("button", name="Escalate").focus()
    await page.keyboard.press("Enter")
    await page.get_by_text("Done: escalate.").wait_for()


@pytest.mark.parametrize("wanted", ["/cases/r_eu_aaaaaaaaaaaaaaaaaaaaaaaaaa", ""])
async def test_a_refusal_is_a_page_like_any_other(staff: Staff, wanted: str) -> None:
    roles = (Role.SUPPORT,) if wanted else (Role.AUDITOR,)
    _, page = await staff.signed_in(*roles)
    await page.goto(f"{staff.address}{BASE}{wanted or '/stuck'}")
    await page.get_by_role("link", name="To the first page").wait_for()
    await page.get_by_role("alert").wait_for()
    await accessible(page)
    staff.complaints.clear()  # a browser says so of every answer that is an error


async def test_temporals_ui_is_answered_while_a_page_says_so_where_it_is_of_the_same_site(staff: Staff) -> None:
    _, page = await staff.signed_in(Role.SUPPORT)
    ours, others = staff.elsewhere
    ui = await page.context.new_page()
    assert await asked_from(ui, ours, staff) == 401  # the session's cookie goes along, and opens nothing
    await page.clock.install()
    await page.get_by_role("link", name="Temporal's UI").click()
    await page.get_by_role("link", name=ours).wait_for()
    await accessible(page)
    assert [await asked_from(ui, origin, staff) for origin in (ours, others)] == [200, 401]
    # The page goes on to open it, with a proof of the browser's key each time
    await page.context.clear_cookies(name="__Host-comitia-beside")
    assert await asked_from(ui, ours, staff) == 401
    async with page.expect_response(f"{staff.address}{BASE}/temporal/state") as renewed:
        await page.clock.run_for(40_000)
    assert (await renewed.value).status == 204
    assert await asked_from(ui, ours, staff) == 200
    thief = await staff.context(storage_state=await page.context.storage_state())
    await thief.clear_cookies(name="__Host-comitia-beside")
    assert await asked_from(await thief.new_page(), ours, staff) == 401
    staff.complaints.clear()  # a browser says so of an answer that is an error


async def asked_from(page: Page, origin: str, staff: Staff) -> int:
    """Have a page of an origin ask the codec server as Temporal's UI does, and return the status of the answer."""
    ask = """async address => {
        const headers = {"Content-Type": "application/json", "X-Namespace": "eu"};
        const asked = {method: "POST", headers, credentials: "include", body: '{"payloads": []}'};
        return (await fetch(address, asked)).status;
    }"""
    await page.goto(origin)
    return int(await page.evaluate(ask, f"{staff.address}/v1/support/codec/decode"))


async def test_a_copy_of_the_cookie_opens_nothing_on_another_device(staff: Staff) -> None:
    ann, page = await staff.signed_in(Role.SUPPORT)
    elsewhere = await staff.context()
    await elsewhere.add_cookies(await page.context.cookies())  # type: ignore[arg-type]
    thief, loaded = await elsewhere.new_page(), asyncio.Semaphore(0)
    thief.on("load", lambda _: loaded.release())
    for address in (BASE, f"{BASE}/stuck"):
        await thief.goto(f"{staff.address}{address}")
        async with asyncio.timeout(20):
            for _ in range(2):  # the page asks for itself again, with a key of its own
                await loaded.acquire()
        await thief.get_by_text("has not shown that it is the one that signed in").wait_for()
        await accessible(thief)
        assert ann not in await thief.content()
    # Whoever signed in goes on, however they come to a page
    there = page.get_by_role("heading", name=staff.first, exact=True)
    await page.goto(f"{staff.address}{BASE}")
    await there.wait_for()
    await page.reload()
    await there.wait_for()
    past_workers = await page.context.new_cdp_session(page)
    await past_workers.send("Page.reload", {"ignoreCache": True})
    await there.wait_for()
    await page.get_by_role("link", name="What is late").click()
    await page.get_by_role("heading", name="What is late").wait_for()
    await page.go_back()
    await there.wait_for()
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("heading", name="Signed out").wait_for()
    staff.complaints.clear()  # a browser says so of every answer that is an error
