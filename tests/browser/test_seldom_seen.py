"""Pages of support that come up seldom are as good to read as the others: axe, light and dark, and a phone."""

import secrets
from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Page

from api.support.composition import BASE
from domain.ids import BatchId
from domain.submissions import Submission, SubmissionIds
from domain.tokens import Role
from tests.api.auth.registration_town import Town
from tests.api.support.test_unmasking import registered
from tests.browser.conftest import Staff
from tests.browser.test_support import accessible, ask_a_second_person, find


async def a_late_process(town: Town, staff: Staff) -> Page:
    registration: str = (await town.begin()).json()["registrationId"]
    _, page = await staff.signed_in(Role.SUPPORT)
    for _ in range(20):  # visibility follows
        await page.goto(f"{staff.address}{BASE}/stuck")
        if await page.get_by_role("link", name=registration).count():
            break
        await page.wait_for_timeout(500)
    await page.get_by_role("link", name=registration).wait_for()
    return page


async def a_votes_case(_town: Town, staff: Staff) -> Page:
    vote = SubmissionIds(bytes(32)).make(Submission(BatchId(secrets.token_bytes(16), 1), 0), bytes(32))
    _, page = await staff.signed_in(Role.SUPPORT)
    await find(page, "submission", vote, vote)
    await page.get_by_text("there is one").wait_for()
    return page


async def more_cases(town: Town, staff: Staff) -> Page:
    await town.begin()
    _, page = await staff.signed_in(Role.SUPPORT)
    await page.get_by_label("for more than (hours)").fill("0")
    await page.get_by_role("button", name="List").click()
    await page.get_by_role("button", name="More").wait_for()
    await accessible(page)
    await page.get_by_role("button", name="More").click()
    await page.get_by_role("heading", name="Found").wait_for()
    return page


async def an_ended_session(_town: Town, staff: Staff) -> Page:
    actor, page = await staff.signed_in(Role.SUPPORT)
    await staff.world.staff["eu"].disable(actor.removeprefix("staff:"), "comitia:tests")
    await page.goto(f"{staff.address}{BASE}")
    await page.get_by_text("Your session has ended").wait_for()
    staff.complaints.clear()  # a browser says so of every answer that is an error
    return page


async def a_refused_unmasking(town: Town, staff: Staff) -> Page:
    registration, _ = await registered(town)
    _, asker = await staff.signed_in(Role.SUPPORT)
    _, second = await staff.signed_in(Role.COMPLIANCE)
    await ask_a_second_person(asker, registration)
    await second.goto(asker.url)
    await second.get_by_role("button", name="Refuse").click()
    await second.get_by_text("refused").wait_for()
    assert await asker.get_by_role("status").filter(has_text="It has changed: refused.").inner_text()
    await accessible(asker)
    return second


@pytest.mark.parametrize(
    "opened",
    [a_late_process, a_votes_case, more_cases, an_ended_session, a_refused_unmasking],
    ids=lambda page: page.__name__,
)
async def test_a_page_that_comes_up_seldom_is_as_good_to_read(
    town: Town, staff: Staff, opened: Callable[[Town, Staff], Awaitable[Page]]
) -> None:
    await accessible(await opened(town, staff))
    assert staff.complaints == []
