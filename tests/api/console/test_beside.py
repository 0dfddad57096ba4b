"""Pages beside the console, as Temporal's UI: answered for a while, and not by what opens a page of ours."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from domain.console import BESIDE_LIFETIME, ConsoleSession, holds_beside
from domain.tokens import Role
from integrations.keys.cookies import CookieSeal
from integrations.keys.dpop_keys import ProofKey
from tests.console_world import Browser, ConsoleWorld

NAME = "__Host-comitia-beside"
Owner = Callable[[str], Awaitable[Any]]


async def asked(browser: Browser, **headers: str) -> tuple[int, str]:
    """Ask as a page of another origin does: with cookies, and without a proof of the browser's key."""
    answer = await browser.client.get(
        "/console/beside", headers={"origin": "https://ui.example.org", "dpop": ""} | headers
    )
    return answer.status_code, answer.text if answer.status_code == 200 else ""


def copy_of(browser: Browser, world: ConsoleWorld, *, at: str = "127.0.0.1") -> Browser:
    """Return a browser without a key that has all cookies of another one."""
    assert isinstance(world.transport, httpx.ASGITransport)
    thief = Browser(httpx.ASGITransport(world.transport.app, client=(at, 1)), browser.base)
    thief.client.cookies.update(browser.client.cookies)
    return thief


@pytest.mark.parametrize("bound", [True, False])
async def test_a_page_beside_is_answered_once_a_page_of_ours_has_opened_that(
    world: ConsoleWorld, *, bound: bool
) -> None:
    key = ProofKey.generate(algorithm="ES256") if bound else None
    actor, browser = await world.signed_in(Role.SUPPORT, key=key)
    assert await asked(browser) == (401, "")  # whoever has the session's cookie alone
    session = browser.cookie
    opened = await browser.get("/opens-beside")
    assert opened.status_code == 200
    named, said = opened.headers["set-cookie"].split(";")[0].split("=")[0], opened.headers["set-cookie"].lower()
    assert named == NAME
    assert {"httponly", "secure", "samesite=strict", "path=/", "max-age=120"} <= {
        each.strip() for each in said.split(";")
    }
    assert await asked(browser) == (200, actor)
    assert browser.cookie == session
    no_page = await browser.client.get("/console/beside")
    assert no_page.status_code == 401


async def test_without_the_key_of_the_browser_nothing_is_opened(world: ConsoleWorld) -> None:
    _, browser = await world.signed_in(Role.SUPPORT, key=ProofKey.generate(algorithm="ES256"))
    thief = copy_of(browser, world)
    answer = await thief.get("/opens-beside")
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    assert await asked(thief) == (401, "")


async def test_a_copy_is_good_in_the_same_network_alone(world: ConsoleWorld) -> None:
    actor, browser = await world.signed_in(Role.SUPPORT)
    await browser.get("/opens-beside")
    for at, found in (
        ("127.0.0.77", (200, actor)),
        ("127.0.1.1", (401, "")),
        ("203.0.113.9", (401, "")),
        ("2001:db8::1", (401, "")),
        ("", (401, "")),
    ):
        assert await asked(copy_of(browser, world, at=at)) == found, at


async def test_it_is_over_soon_after_its_page_is(world: ConsoleWorld) -> None:
    actor, browser = await world.signed_in(Role.SUPPORT)
    await browser.get("/opens-beside")
    seal, use = CookieSeal(world.keys), "comitia-beside"
    content = await seal.open(use, browser.client.cookies[NAME])
    assert content is not None
    session_id, given_at, network = content.split(" ")

    async def given(before: timedelta, *, used_as: str = use) -> tuple[int, str]:
        at = datetime.fromisoformat(given_at) - before
        older = await seal.seal(used_as, f"{session_id} {at.isoformat()} {network}")
        browser.client.cookies.set(NAME, older, domain="console.example.org", path="/")
        return await asked(browser)

    for before in (timedelta(), timedelta(seconds=90), timedelta(seconds=-90)):
        assert await given(before) == (200, actor)
    for before in (BESIDE_LIFETIME, -BESIDE_LIFETIME - timedelta(seconds=20), timedelta(days=1)):
        assert await given(before) == (401, "")
    assert await given(timedelta(), used_as="comitia-staff") == (401, "")
    browser.client.cookies.set(NAME, browser.cookie, domain="console.example.org", path="/")
    assert await asked(browser) == (401, "")


def test_so_long_and_no_longer() -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    session = ConsoleSession("c", "u", frozenset(), at, 1, at, at, bytes(32))
    last = BESIDE_LIFETIME - timedelta(microseconds=1)
    assert [holds_beside(session, at - since) for since in (last, BESIDE_LIFETIME, -last, -BESIDE_LIFETIME)] == [
        True,
        False,
        True,
        False,
    ]


async def test_it_ends_with_the_session_and_goes_as_far_as_the_roles_of_now(world: ConsoleWorld) -> None:
    actor, browser = await world.signed_in(Role.SUPPORT)
    _, officer = await world.signed_in(Role.COMPLIANCE)
    await officer.get("/opens-beside")
    assert await asked(officer) == (403, "")
    await browser.get("/opens-beside")
    assert await asked(browser) == (200, actor)
    assert await world.staff["eu"].disable(actor.removeprefix("staff:"), "comitia:tests")
    assert await asked(browser) == (401, "")
    _, another = await world.signed_in(Role.SUPPORT)
    await another.get("/opens-beside")
    kept = copy_of(another, world)
    await another.submit(await another.get(), "/sign-out")
    assert [await asked(each) for each in (another, kept)] == [(401, ""), (401, "")]


async def test_asking_from_beside_keeps_no_session_open(world: ConsoleWorld, owner_pool: Owner) -> None:
    actor, browser = await world.signed_in(Role.SUPPORT)
    await browser.get("/opens-beside")
    owner = await owner_pool("eu")
    ends = "SELECT expires_at FROM identity.login_transaction WHERE kind = 'console' AND subject LIKE $1"
    before = await owner.fetchval(ends, f"{actor.removeprefix('staff:')} %")
    assert await asked(browser) == (200, actor)
    assert await owner.fetchval(ends, f"{actor.removeprefix('staff:')} %") == before
