"""The pages of support as a browser gets them: real databases, a real Temporal, people who register."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx

from api.support.composition import BASE, TEMPLATES
from domain.cases import HistorySource, Step, StepKind, Timeline
from domain.contracts.registration import VerifiedIdentity
from domain.tokens import Role
from tests.api.auth.registration_town import Town
from tests.api.support.staff_desk import StaffDesk, support_app
from tests.api.support.support_world import eventually
from tests.api.support.test_acting import at_provider
from tests.api.support.test_unmasking import break_glass_worker, registered
from tests.audited import PAGES, leaves
from tests.conftest import OwnerPool
from tests.console_world import Browser, ConsoleWorld, changing_routes, console_world, form_to, forms_of

SCRIPT = "<script>alert('x')</script>"


@asynccontextmanager
async def console(town: Town, *, queue: str = "nobody", **parts: Any) -> AsyncIterator[ConsoleWorld]:
    pools = {name: cell.pool for name, cell in town.cells.items()}
    async with console_world(town.settings, pools, BASE, TEMPLATES) as world:
        world.serve(support_app(town, queue=queue, console=world.console, **parts))
        yield world


async def found(browser: Browser, by: str, value: str) -> httpx.Response:
    page = await browser.submit(await browser.get(), "/find", by=by, value=value)
    assert page.status_code == 200, page.text
    return page


def actions_of(page: httpx.Response) -> set[str]:
    return {form.fields["action"] for form in forms_of(page) if "action" in form.fields}


async def test_a_case_is_found_read_and_acted_on(town: Town, owner_pool: OwnerPool) -> None:
    registration = await at_provider(town)
    row = await town.row(registration)
    data = await town.cells["eu"].records.get(row.voter_id)
    assert data is not None
    mail = data.fields["mail"]
    async with console(town) as world:
        ann, browser = await world.signed_in(Role.SUPPORT)
        by_mail = await found(browser, "mail", mail.upper())
        assert f'href="/console/cases/{registration}"' in by_mail.text
        assert "mail" not in str(by_mail.url)  # it would stay in the browser's memory
        assert registration in (await found(browser, "voter", row.voter_id)).text
        assert "No case" in (await found(browser, "phone", "+4915112345678")).text

        path, pool = f"/cases/{registration}", await owner_pool("eu")
        async with leaves(pool, "support GET /console/cases/{case_id}", subject=registration):
            page = await browser.get(path)
        assert page.status_code == 200, page.text
        for shown in (registration, row.voter_id, row.reference, "open_case", "***"):
            assert shown in page.text
        for hidden in (mail, mail.partition("@")[0], "hashes", "digest"):
            assert hidden not in page.text
        assert actions_of(page) == {"resend", "look_now", "ask_again", "cancel", "escalate"}
        watched = page.text.partition('hx-get="')[2].partition('"')[0].replace("&amp;", "&")
        assert watched.startswith(f"/console{path}/timeline?first=0&seen=")
        assert (await browser.client.get(watched)).status_code == 204
        _, other = await world.signed_in(Role.COMPLIANCE)
        async with leaves(pool, "support GET /console/cases/{case_id}/timeline", subject=registration):
            assert (await other.client.get(watched.partition("?")[0])).status_code == 200
        part = await browser.client.get(watched.partition("seen=")[0])
        assert (part.status_code, "<html" in part.text, "open_case" in part.text) == (200, False, True)

        form = form_to(page, f"{path}/actions", action="look_now")
        fields = {**form.fields, "reason": "voter_asked"}
        async with leaves(pool, "support POST /console/cases/{case_id}/actions", subject=registration):
            for _ in range(2):  # a double click
                done = await browser.post(form.action, fields)
                assert (done.status_code, done.headers["location"]) == (303, f"/console{path}?done=look_now")
        after = await browser.client.get(done.headers["location"])
        assert "Done: look now." in after.text
        assert ann in after.text  # in the timeline
        owner = StaffDesk(browser.client, pool)
        assert await owner.outcomes(registration) == [("look_now", ann), ("done", ann)]

        refused = await browser.submit(page, "/actions", action="resend", reason="stuck")
        assert (refused.status_code, "malformed_request" in refused.text) == (400, True)
        for wrong in ({"action": "delete"}, {"key": "short"}, {"reason": ""}):
            answer = await browser.post(form.action, {**fields, **wrong})
            assert answer.status_code == 400
        assert len(await owner.outcomes(registration)) == 2
        nothing = await browser.get("/cases/r_eu_aaaaaaaaaaaaaaaaaaaaaaaaaa")
        assert (nothing.status_code, "case_not_found" in nothing.text) == (404, True)


async def test_every_page_that_changes_something_has_its_entry_or_a_reason(town: Town) -> None:
    async with console(town) as world:
        listed = {name.removeprefix("support ") for name in PAGES if name.startswith("support ")}
        assert changing_routes(world.console) == listed


async def test_each_role_sees_its_own_pages(town: Town) -> None:
    registration = await at_provider(town)
    async with console(town) as world:
        _, officer = await world.signed_in(Role.COMPLIANCE)
        page = await officer.get(f"/cases/{registration}")
        assert actions_of(page) == {"look_now", "ask_again", "escalate"}
        _, support = await world.signed_in(Role.SUPPORT)
        order = form_to(await support.get(f"/cases/{registration}"), "/actions", action="cancel")
        own = form_to(page, "/actions", action="escalate").fields["token"]
        answer = await officer.post(order.action, {**order.fields, "token": own, "reason": "voter_asked"})
        assert answer.status_code == 403
        for roles in ((Role.ADMIN,), (Role.AUDITOR,)):
            _, other = await world.signed_in(*roles)
            first = await other.get()
            assert (first.status_code, [form.action for form in forms_of(first)]) == (
                200,
                ["/console/sign-out", "/console/unmaskings"],
            )
            for path in (f"/cases/{registration}", f"/cases/{registration}/timeline", "/stuck"):
                assert (await other.get(path)).status_code == 403
            token = forms_of(first)[0].fields["token"]
            for path, fields in (("/find", {"by": "mail", "value": "a@b.org"}), ("/waiting", {"stage": "review"})):
                assert (await other.post(f"/console{path}", {"token": token, **fields})).status_code == 403


async def test_registrations_that_wait_are_listed(town: Town) -> None:
    registration: str = (await town.begin()).json()["registrationId"]
    async with console(town) as world:
        _, browser = await world.signed_in(Role.SUPPORT)
        late = await browser.get("/stuck")
        assert late.status_code == 200

        async def listed(stage: str = "contact_proof", escalated: str = "") -> Any:
            asked = {"stage": stage, "hours": "0", "escalated": escalated}
            page = await browser.submit(await browser.get(), "/waiting", **asked)
            while registration not in page.text:
                more = [form for form in forms_of(page) if "cursor" in form.fields]
                if not more:
                    return None
                page = await browser.post(more[0].action, more[0].fields)
            return page

        assert await eventually(listed)
        assert await listed(stage="")
        assert await listed(escalated="yes") is None
        for hours in ("-1", "x", "99999999"):
            page = await browser.submit(await browser.get(), "/waiting", stage="contact_proof", hours=hours)
            assert page.status_code == 400


class Scripted:
    """Timelines in which somebody has written a script wherever a text can be."""

    async def of(self, _workflow_id: str, _beside: Any) -> Timeline:
        now = datetime.now(UTC)
        return Timeline((Step(now, StepKind.ACTIVITY, SCRIPT, SCRIPT, SCRIPT, code=SCRIPT, by=SCRIPT),))


class Decided:
    """Timelines in which somebody was found to be who they are."""

    async def of(self, _workflow_id: str, _beside: Any) -> Timeline:
        came = VerifiedIdentity(decision="approved", person_id="p_somebody")
        return Timeline(
            (Step(datetime.now(UTC), StepKind.ACTIVITY, "VerifyIdentity", "decide", "completed", came=came),)
        )


class Dropped:
    """Timelines of a server that has dropped everything; one process is archived, and another cannot be read."""

    async def of(self, workflow_id: str, _beside: Any) -> Timeline:
        step = Step(datetime.now(UTC), StepKind.ENDED, "RegisterVoter", "RegisterVoter", "completed")
        return Timeline((replace(step, source=HistorySource.ARCHIVE),), {f"{workflow_id}/1": "not_read_here"})


async def test_a_timeline_says_what_is_from_the_archive_and_what_stays_there(town: Town) -> None:
    registration: str = (await town.begin()).json()["registrationId"]
    async with console(town, timelines=Dropped()) as world:
        _, browser = await world.signed_in(Role.SUPPORT)
        for path in (f"/cases/{registration}", f"/cases/{registration}/timeline"):
            shown = (await browser.get(path)).text
            assert shown.count(", from the archive") == 1
            assert f"There was more of register-voter/eu/{registration}/1: not read here" in shown


async def test_a_timeline_shows_a_person_to_compliance_alone(town: Town) -> None:
    registration: str = (await town.begin()).json()["registrationId"]
    async with console(town, timelines=Decided()) as world:
        for role, is_seen in ((Role.SUPPORT, False), (Role.COMPLIANCE, True)):
            _, browser = await world.signed_in(role)
            for path in (f"/cases/{registration}", f"/cases/{registration}/timeline"):
                shown = (await browser.get(path)).text
                assert ("approved" in shown, "p_somebody" in shown) == (True, is_seen)


async def test_a_script_in_a_name_is_text(town: Town) -> None:
    registration: str = (await town.begin()).json()["registrationId"]
    async with console(town, timelines=Scripted()) as world:
        _, browser = await world.signed_in(Role.SUPPORT)
        page = await browser.get(f"/cases/{registration}")
        part = await browser.get(f"/cases/{registration}/timeline")
        assert page.text.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") == 5
        looked_for = await browser.submit(await browser.get(), "/find", by="submission", value=f'">{SCRIPT}')
        for answer in (page, part, looked_for, await browser.get(f"/cases/{SCRIPT.replace('/', '%2F')}")):
            assert "<script>" not in answer.text
            assert "alert('x')" not in answer.text


async def test_two_people_unmask_a_field_and_one_reads_it(town: Town, owner_pool: OwnerPool) -> None:
    registration, mail = await registered(town)
    queue = f"unmasking-{secrets.token_hex(4)}"
    pool = await owner_pool("eu")
    async with break_glass_worker(town, queue), console(town, queue=queue) as world:
        async with leaves(pool, "support GET /console/back"):
            ann, asker = await world.signed_in(Role.SUPPORT, Role.COMPLIANCE)
        async with leaves(pool, "support POST /console/pass"):
            assert (await asker.submit(await asker.get("/pass"), "/pass", thumbprint="a" * 43)).status_code == 200
        bob, second = await world.signed_in(Role.ADMIN)
        page = await asker.get(f"/cases/{registration}")
        async with leaves(pool, "support POST /console/cases/{case_id}/unmaskings", subject=registration):
            waiting = await asker.submit(page, "/unmaskings", field="mail", reason="wrong_contact")
        assert waiting.status_code == 200, waiting.text
        unmasking = waiting.url.path.rpartition("/")[2]
        assert not [form for form in forms_of(waiting) if form.action.endswith(("/decision", "/read"))]
        asked = await second.submit(await second.get(), "/unmaskings", unmasking=unmasking)
        form = form_to(asked, "/decision")
        own = forms_of(waiting)[0].fields["token"]
        mine = await asker.post(form.action, {**form.fields, "token": own, "approved": "yes"})
        assert mine.status_code == 403
        assert (await second.post(form.action, {**form.fields, "approved": "maybe"})).status_code == 400
        async with leaves(pool, "support POST /console/unmaskings/{unmasking_id}/decision", subject=registration):
            approved = await second.submit(asked, "/decision", "yes")
        assert bob in approved.text
        assert not [form for form in forms_of(approved) if form.action.endswith("/read")]
        changed = waiting.text.partition('hx-get="')[2].partition('"')[0]
        assert "It has changed" in (await asker.client.get(changed)).text

        ready = await asker.get(f"/unmaskings/{unmasking}")
        owner = StaffDesk(asker.client, pool)
        assert await owner.outcomes(registration) == [("asked", ann), ("approved", bob)]
        async with leaves(pool, "support POST /console/unmaskings/{unmasking_id}/read", subject=registration):
            read = await asker.submit(ready, "/read")
        assert (read.status_code, mail in read.text, read.headers["cache-control"]) == (200, True, "no-store")
        assert await owner.outcomes(registration) == [("asked", ann), ("approved", bob), ("read", ann)]
        for shown in (page, waiting, asked, approved, ready, await second.get(f"/unmaskings/{unmasking}")):
            assert mail not in shown.text
        assert (await asker.get("/unmaskings/b_eu_aaaaaaaaaaaaaaaaaaaaaaaaaa")).status_code == 404
