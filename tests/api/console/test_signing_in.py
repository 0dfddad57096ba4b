"""Signing in to the console, and what a session is good for: in one browser, for a while, and for nothing else."""

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from html import unescape
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import asyncpg
import httpx
import pytest

from api.console.opening import ConsoleParts, open_console
from api.console.pages import Pages
from api.console.visits import Site
from domain.console import SESSION_LIFETIME, TURN_AFTER, TURN_GRACE
from domain.tokens import Role
from integrations.keys.cookies import CookieSeal
from integrations.keys.dpop import AGE_MAX_S
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.settings import Environment
from integrations.vendor_settings import StaffProviderSettings
from tests.conftest import SettingsFor
from tests.console_world import ADDRESS, ConsoleWorld, forms_of
from tests.limits_world import lonely_limits

ROOT = Path(__file__).parents[3]
Owner = Callable[[str], Awaitable[Any]]

POLICY = {
    "default-src 'none'",
    *(f"{kind} 'self'" for kind in ("script-src", "style-src", "img-src", "connect-src", "form-action")),
    "base-uri 'none'",
    "frame-ancestors 'none'",
}
_OLDER = """
UPDATE identity.login_transaction SET subject = concat_ws(' ', split_part(subject, ' ', 1),
    split_part(subject, ' ', 2)::bigint - $2, split_part(subject, ' ', 3), split_part(subject, ' ', 4)::bigint - $2)
WHERE kind = 'console' AND subject LIKE $1
"""
_LEFT = """
SELECT count(*) FROM identity.login_transaction WHERE kind = 'console' AND subject LIKE $1 AND expires_at > now()
"""


async def grow_older(owner: asyncpg.Pool, actor: str, seconds: float) -> None:
    assert await owner.execute(_OLDER, f"{staff_of(actor)} %", int(seconds)) == "UPDATE 1"


def staff_of(actor: str) -> str:
    return actor.removeprefix("staff:")


def set_cookies(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for header in answer.headers.get_list("set-cookie"):
        parsed: SimpleCookie = SimpleCookie(header)
        found.update(parsed)
    return found


async def test_who_is_on_the_roll_is_signed_in_and_it_is_written_down(world: ConsoleWorld, owner_pool: Owner) -> None:
    staff_id, subject = await world.enrol(Role.SUPPORT, Role.AUDITOR, cell="us")
    browser = world.browser()
    stranger = await browser.get("/watched?seen=1")
    assert stranger.status_code == 401
    assert "/console/sign-in?to=%2Fconsole%2Fwatched%3Fseen%3D1" in stranger.text
    back = await world.sent_back(browser, subject, "/console/watched?seen=1")
    answer = await browser.client.get(back)
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=/console/watched?seen=1">' in answer.text
    cookies = set_cookies(answer)
    session = cookies["__Host-comitia-staff"]
    assert (session["path"], session["secure"], session["httponly"], session["samesite"], session["domain"]) == (
        "/",
        True,
        True,
        "strict",
        "",
    )
    assert session["max-age"] == ""  # until the browser is closed
    assert cookies["__Host-comitia-sign-in"]["max-age"] == "0"
    assert staff_id not in session.value
    page = await browser.get()
    assert f"staff:{staff_id} (auditor, support)" in page.text
    entries = await (await owner_pool("us")).fetch(
        "SELECT body FROM audit.entry WHERE kind = 'staff.signed_in' AND body->>'actor' = $1", f"staff:{staff_id}"
    )
    (entry,) = [json.loads(row["body"]) for row in entries]
    assert (entry["role"], entry["outcome"], entry["facts"]) == ("auditor,support", "done", {"service": "console"})
    assert subject not in json.dumps(entry)
    # The same answer of the provider, again and from elsewhere
    for again in (browser, world.browser()):
        assert (await again.client.get(back)).status_code == 401


async def test_every_answer_lets_nothing_in_from_elsewhere(world: ConsoleWorld) -> None:
    _, browser = await world.signed_in(Role.SUPPORT)
    stranger = world.browser()
    paths = ("", "/of-officers", "/static/console.css", "/static/nothing", "/sign-in", "/back?state=x&code=y")
    answers = [await browser.get(path) for path in paths] + [await stranger.get(path) for path in paths]
    assert {answer.status_code for answer in answers} == {200, 303, 401, 403, 404}
    for answer in answers:
        assert set(answer.headers["content-security-policy"].split("; ")) == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert ("no-store" in answer.headers["cache-control"]) is ("/static/console" not in str(answer.url))
        for outside in ("<script>", " style=", " onclick=", 'src="http', "<style"):
            assert outside not in answer.text
    assert "<script" in (await browser.get()).text  # the one that is shipped with us


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example/console", "/console/../v1", "/v1/support", ""])
async def test_nobody_is_led_elsewhere(world: ConsoleWorld, to: str) -> None:
    _, subject = await world.enrol(Role.SUPPORT)
    browser = world.browser()
    answer = await browser.client.get(await world.sent_back(browser, subject, to))
    assert 'content="0; url=/console">' in answer.text


async def test_a_sign_in_that_is_not_ours_opens_nothing(world: ConsoleWorld) -> None:
    _, subject = await world.enrol(Role.SUPPORT)
    mine, theirs = world.browser(), world.browser()
    back = await world.sent_back(mine, subject)
    for browser, address in (
        (world.browser(), back),  # that began none
        (theirs, back.replace("code=", "code=x")),
        (mine, f"{ADDRESS}/console/back?error=access_denied&state=x"),
    ):
        answer = await browser.client.get(address)
        assert answer.status_code == 401, answer.text
        assert "__Host-comitia-staff" not in set_cookies(answer)
    await world.sent_back(theirs, subject)
    assert (await theirs.client.get(back)).status_code == 401  # begun in another browser
    third = world.browser()
    kept = await world.sent_back(third, subject)
    assert (await third.client.get(f"{kept}&iss=https%3A%2F%2Fevil.example")).status_code == 401


async def test_who_is_not_on_the_roll_is_refused_and_who_is_taken_off_is_out_at_once(world: ConsoleWorld) -> None:
    browser = world.browser()
    answer = await browser.client.get(await world.sent_back(browser, "nobody-of-ours"))
    assert (answer.status_code, "__Host-comitia-staff" in set_cookies(answer)) == (403, False)
    assert "nobody-of-ours" not in answer.text
    actor, browser = await world.signed_in(Role.SUPPORT)
    assert (await browser.get()).status_code == 200
    await world.staff["eu"].disable(staff_of(actor), "comitia:tests")
    assert (await browser.get()).status_code == 401


async def refusals(owner_pool: Owner, cell: str, staff_id: str) -> list[tuple[str, str, str]]:
    """Return outcome, role and service of each refusal of a member of staff."""
    rows = await (await owner_pool(cell)).fetch(
        "SELECT body FROM audit.entry WHERE kind = 'staff.refused' AND body->>'actor' = $1", f"staff:{staff_id}"
    )
    told = [json.loads(row["body"]) for row in rows]
    return [(each["outcome"], each["role"], each["facts"]["service"]) for each in told]


async def test_who_is_on_the_roll_of_two_cells_is_nobody_until_one_is_disabled(
    world: ConsoleWorld, owner_pool: Owner
) -> None:
    here, subject = await world.enrol(Role.COMPLIANCE)
    there, _ = await world.enrol(Role.COMPLIANCE, cell="us", subject=subject)
    browser = world.browser()
    answer = await browser.client.get(await world.sent_back(browser, subject))
    assert (answer.status_code, "__Host-comitia-staff" in set_cookies(answer)) == (403, False)
    for cell, staff_id in (("eu", here), ("us", there)):
        assert await refusals(owner_pool, cell, staff_id) == [("on_the_roll_twice", "compliance", "console")]
    await world.staff["eu"].disable(here, "comitia:tests")
    browser = world.browser()
    answer = await browser.client.get(await world.sent_back(browser, subject))
    assert (answer.status_code, "__Host-comitia-staff" in set_cookies(answer)) == (200, True)
    assert len(await refusals(owner_pool, "us", there)) == 1


async def test_a_cookie_that_is_none_of_ours_is_nobodys(world: ConsoleWorld) -> None:
    actor, browser = await world.signed_in(Role.SUPPORT)
    good = browser.cookie
    date, number, sealed = good.split(".")
    forged = await CookieSeal(world.keys).seal("comitia-sign-in", "cs_eu_aaaaaaaaaaaaaaaaaaaaaaaaaa 1")
    wrong = "A" if sealed[10] != "A" else "B"
    for cookie in ("", "x", f"{date}.{number}.{sealed[:10]}{wrong}{sealed[11:]}", f"2020-01-01.1.{sealed}", forged):
        browser.client.cookies.clear()
        browser.cookie = cookie
        assert (await browser.get()).status_code == 401
    browser.client.cookies.clear()
    browser.cookie = good
    assert actor in (await browser.get()).text


async def test_a_copy_of_a_cookie_is_noticed_and_ends_the_session(world: ConsoleWorld, owner_pool: Owner) -> None:
    owner = await owner_pool("eu")
    actor, browser = await world.signed_in(Role.SUPPORT)
    thief = world.browser()
    thief.cookie = stolen = browser.cookie
    assert (await browser.get()).status_code == 200
    assert browser.cookie == stolen  # it is young
    await grow_older(owner, actor, TURN_AFTER.total_seconds())
    answers = await asyncio.gather(*(browser.get() for _ in range(5)))  # the pictures of one page, so to say
    assert {answer.status_code for answer in answers} == {200}
    assert browser.cookie != stolen
    assert (await browser.get()).status_code == 200
    await grow_older(owner, actor, TURN_GRACE.total_seconds())
    assert (await thief.get()).status_code == 401
    ended = await browser.get()
    assert (ended.status_code, "Your session has ended" in ended.text) == (401, True)
    assert await owner.fetchval(_LEFT, f"{staff_of(actor)} %") == 0
    assert await refusals(owner_pool, "eu", staff_of(actor)) == [("cookie_reused", "support", "console")]


async def test_a_copy_of_a_cookie_is_worth_nothing_without_the_key_of_its_browser(
    world: ConsoleWorld, owner_pool: Owner
) -> None:
    owner = await owner_pool("eu")
    actor, browser = await world.signed_in(Role.SUPPORT, key=ProofKey.generate(algorithm="ES256"))
    page = await browser.get()
    assert actor in page.text
    thief = world.browser()
    for turned in (False, True):
        thief.cookie = browser.cookie
        for key in (None, ProofKey.generate(), ProofKey.generate(algorithm="ES256")):
            thief.key = key
            for answer in (await thief.get(), await thief.submit(page, "/sign-out")):
                assert (answer.status_code, actor in answer.text, set_cookies(answer)) == (401, False, {})
        assert (await browser.get()).status_code == 200  # they go on as if nothing had been tried
        if not turned:
            await grow_older(owner, actor, TURN_AFTER.total_seconds())
            assert (await browser.get()).status_code == 200
            assert browser.cookie != thief.cookie  # and the next one is bound as well
    part = await thief.get("/watched", **{"HX-Request": "true"})
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/console")


async def test_a_proof_is_of_one_request(world: ConsoleWorld) -> None:
    _, browser = await world.signed_in(Role.SUPPORT, key=ProofKey.generate(algorithm="ES256"))
    key, page = browser.key, await browser.get()
    assert key is not None
    fields = {"token": forms_of(page)[0].fields["token"], "word": "yes"}
    url, now, body = f"{ADDRESS}/console", time.time(), urlencode(fields).encode()
    proof = make_proof(key, "GET", url, now)
    assert [(await browser.get("", dpop=proof)).status_code for _ in range(2)] == [200, 401]
    for other in (
        make_proof(key, "GET", f"{url}/watched", now),
        make_proof(key, "POST", url, now),
        make_proof(key, "GET", url, now - AGE_MAX_S - 2),
        "",
    ):
        assert (await browser.get("", dpop=other)).status_code == 401
    said = f"{url}/said"
    for other in (make_proof(key, "POST", said, now), make_proof(key, "POST", said, now, body=body + b"&more=1")):
        answer = await browser.post("/console/said", fields, dpop=other)
        assert (answer.status_code, "Nothing was done" in answer.text) == (401, True)
    assert (await browser.post("/console/said", fields)).status_code == 200


async def test_a_session_is_one_at_every_process(
    world: ConsoleWorld, elsewhere: ConsoleWorld, owner_pool: Owner
) -> None:
    actor, browser = await world.signed_in(Role.SUPPORT, key=ProofKey.generate(algorithm="ES256"))
    second, thief = elsewhere.browser(), elsewhere.browser()
    second.key, second.client.cookies = browser.key, browser.client.cookies
    for one, other in ((browser, second), (second, browser)):
        await grow_older(await owner_pool("eu"), actor, TURN_AFTER.total_seconds())
        before = browser.cookie
        answers = await asyncio.gather(one.get(), other.get(), one.get(), other.get())
        assert {answer.status_code for answer in answers} == {200}
        assert browser.cookie != before
        thief.cookie = browser.cookie
        assert (await thief.get()).status_code == 401
    key = browser.key
    assert key is not None
    proof = make_proof(key, "GET", f"{ADDRESS}/console", time.time())
    assert [(await each.get("", dpop=proof)).status_code for each in (browser, second)] == [200, 401]
    await second.submit(await browser.get(), "/sign-out")
    thief.cookie = before
    assert [(await each.get()).status_code for each in (browser, second, thief)] == [401, 401, 401]


@pytest.mark.parametrize("key", ["x", "a" * 44, "<script>", "a" * 42 + "."])
async def test_what_is_no_key_begins_no_sign_in(world: ConsoleWorld, key: str) -> None:
    assert (await world.browser().get(f"/sign-in?{urlencode({'key': key})}")).status_code == 400


async def test_a_worker_shows_the_key_for_every_console_of_the_host_and_over_tls_alone(world: ConsoleWorld) -> None:
    stranger = await world.browser().get()
    worker = re.search(r'data-worker="([^"]+)" data-scope="([^"]+)"', stranger.text)
    assert worker is not None
    assert "data-lacks-proof" not in stranger.text
    answer = await world.browser().client.get(unescape(worker[1]))
    assert answer.headers["service-worker-allowed"] == worker[2] == "/console"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "service-worker-allowed" not in (await world.browser().get("/static/device.js")).headers
    plain = Pages(replace(world.console.pages.site, public_url="http://127.0.0.1:8108"))
    told = {"to": "/", "has_ended": False, "lacks_proof": False, "is_form": False}
    assert "data-worker" not in plain.part("not_signed_in.html", None, **told)
    _, browser = await world.signed_in(Role.SUPPORT, key=ProofKey.generate(algorithm="ES256"))
    browser.key = None
    assert "data-lacks-proof" in (await browser.get()).text
    assert "data-lacks-proof" not in (await browser.post("/console/said", {"word": "yes"})).text


async def test_a_session_ends_by_itself_also_while_a_page_asks_on(world: ConsoleWorld, owner_pool: Owner) -> None:
    owner = await owner_pool("eu")
    actor, browser = await world.signed_in(Role.SUPPORT)
    expiry = "SELECT expires_at FROM identity.login_transaction WHERE kind = 'console' AND subject LIKE $1"
    person = f"{staff_of(actor)} %"
    begun = await owner.fetchval(expiry, person)
    await grow_older(owner, actor, 600)
    before = browser.cookie
    assert (await browser.get("/watched")).status_code == 200
    assert (await owner.fetchval(expiry, person), browser.cookie) == (begun, before)
    await owner.execute(
        "UPDATE identity.login_transaction SET expires_at = expires_at - interval '600 s' WHERE subject LIKE $1", person
    )
    assert (await browser.get()).status_code == 200
    assert await owner.fetchval(expiry, person) >= begun
    # Eight hours on, whatever was done meanwhile
    await grow_older(owner, actor, SESSION_LIFETIME.total_seconds() - 700)
    assert (await browser.get()).status_code == 200
    assert (await owner.fetchval(f"SELECT ({expiry}) - now()", person)).total_seconds() < 120
    await owner.execute("UPDATE identity.login_transaction SET expires_at = now() WHERE subject LIKE $1", person)
    assert (await browser.get()).status_code == 401
    part = await browser.get("/watched", **{"HX-Request": "true"})
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/console")


async def test_a_form_is_believed_from_our_own_pages_and_of_this_session_alone(world: ConsoleWorld) -> None:
    actor, browser = await world.signed_in(Role.SUPPORT)
    _, other = await world.signed_in(Role.SUPPORT)
    token = forms_of(await browser.get())[0].fields["token"]
    foreign = forms_of(await other.get())[0].fields["token"]
    path, fields = "/console/said", {"token": token, "word": "yes"}
    refused: list[tuple[dict[str, str], dict[str, Any]]] = [
        ({"word": "yes"}, {}),
        ({"token": "", "word": "yes"}, {}),
        ({"token": foreign, "word": "yes"}, {}),
        (fields, {"origin": "https://evil.example"}),
        (fields, {"origin": "null"}),
        (fields, {"sec_fetch_site": "cross-site"}),
        (fields, {"sec_fetch_site": "same-site"}),
        (fields, {"origin": None, "sec_fetch_site": "none"}),
        (fields, {"origin": None, "sec_fetch_site": None}),
    ]
    for said, headers in refused:
        assert (await browser.post(path, said, **headers)).status_code == 403
    json_body = await browser.post(path, fields, content_type="application/json")
    assert json_body.status_code == 415
    for headers in ({"origin": None}, {"sec_fetch_site": None}, {}):
        assert (await browser.post(path, fields, **headers)).text == f"{actor} yes"
    for broken in ({**fields, "word": "\x00"}, {"token": token}):
        assert (await browser.post(path, broken)).status_code == 400
    stranger = await world.browser().post(path, fields)
    assert (stranger.status_code, "Nothing was done" in stranger.text) == (401, True)
    embedded = await browser.get("", **{"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"})
    assert embedded.status_code == 403


async def test_a_page_of_another_role_is_refused_and_what_is_refused_is_shown_as_text(world: ConsoleWorld) -> None:
    _, support = await world.signed_in(Role.SUPPORT, Role.ADMIN)
    assert (await support.get("/of-officers")).status_code == 403
    actor, officer = await world.signed_in(Role.COMPLIANCE)
    answer = await officer.get("/of-officers")
    assert answer.status_code == 404
    assert f"&lt;script&gt;{actor}&lt;/script&gt;" in answer.text


async def test_who_signs_out_is_out_with_every_copy(world: ConsoleWorld) -> None:
    _, browser = await world.signed_in(Role.SUPPORT)
    page, copy = await browser.get(), world.browser()
    copy.cookie = browser.cookie
    left = await browser.submit(page, "/sign-out")
    assert (left.status_code, set_cookies(left)["__Host-comitia-staff"]["max-age"]) == (200, "0")
    assert (await copy.get()).status_code == 401


async def test_the_provider_may_be_away(world: ConsoleWorld) -> None:
    _, subject = await world.enrol(Role.SUPPORT)
    browser = world.browser()
    back = await world.sent_back(browser, subject)
    address = world.issuer.settings.issuer
    await world.provider.post(f"{address}_control/faults", json={"kind": "status", "count": 1, "path": "token"})
    answer = await browser.client.get(back)
    assert answer.status_code == 503
    again = await browser.client.get(await world.sent_back(browser, subject))
    assert again.status_code == 200


async def test_a_part_of_a_page_that_fails_leaves_what_is_shown(world: ConsoleWorld) -> None:
    _, browser = await world.signed_in(Role.COMPLIANCE)
    part = await browser.get("/of-officers", **{"HX-Request": "true"})
    assert (part.status_code, part.headers["hx-retarget"], "<html" in part.text) == (404, "#stale", False)


async def test_production_has_no_console_without_tls(settings_for: SettingsFor) -> None:
    provider = StaffProviderSettings(issuer="https://staff.example.org/", client_id="console")
    bare = settings_for().model_copy(update={"environment": Environment.PRODUCTION, "staff_provider": provider})
    parts = ConsoleParts(*(cast("Any", None),) * 6)
    async with AsyncExitStack() as lifetime:
        for address in ("http://127.0.0.1:8108", "http://console.example.org"):
            with pytest.raises(ValueError, match="without TLS"):
                await open_console(bare, Site(address, "/console"), Path(), parts, lifetime)
        without = bare.model_copy(update={"staff_provider": None})
        assert await open_console(without, Site("http://x", "/console"), Path(), parts, lifetime) is None
        assert await open_console(
            bare, Site(ADDRESS, "/console"), Path(), replace(parts, pools={}, limits=lonely_limits()), lifetime
        )


def test_what_is_shipped_is_what_its_authors_published() -> None:
    static, said = ROOT / "api" / "console" / "static", (ROOT / "docs" / "architecture.md").read_text()
    assert hashlib.sha256((static / "htmx.min.js").read_bytes()).hexdigest() in said
    assert "Zero-Clause BSD" in (static / "htmx.LICENSE.txt").read_text()


def test_no_template_trusts_a_text() -> None:
    templates = [
        path
        for folder in ("console", "support", "compliance", "surveys")
        for path in (ROOT / "api" / folder).rglob("*.html")
    ]
    assert len(templates) > 10
    assert set(templates) == set((ROOT / "api").rglob("*.html"))
    for path in templates:
        text = path.read_text()
        for unsafe in ("safe", "autoescape", " style=", "<style", "javascript:", "http://", "https://"):
            assert unsafe not in text, f"{unsafe} in {path}"
        assert not re.search(r"\son[a-z]+=", text), path
        assert not re.search(r"<script(?! src=)", text), path
