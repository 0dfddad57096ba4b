"""Where the identity provider says which person an account is of, a person is one member of staff."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from api.http.application import create_application
from domain.tokens import Role
from integrations.identity_cell import identity_pools
from integrations.postgres.roles import IDENTITY, STAFFING
from integrations.telemetry.telemetry import make_telemetry
from tests.api.console.test_signing_in import refusals
from tests.conftest import OwnerPool, SettingsFor
from tests.console_world import ConsoleWorld, console_world

BASE = "/console"
CLAIM = "https://staff.example.org/employee"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(settings_for: SettingsFor) -> AsyncIterator[ConsoleWorld]:
    settings = settings_for(IDENTITY, STAFFING)
    async with AsyncExitStack() as lifetime:
        pools = await identity_pools(settings, lifetime)
        made = await lifetime.enter_async_context(
            console_world(settings, pools, BASE, Path(__file__).parent, person_claim=CLAIM)
        )
        app = create_application("support", make_telemetry(settings, "support"), forms_below=BASE)
        app.include_router(made.console.router)
        made.serve(app)
        yield made


def number() -> str:
    return f"employee-{secrets.token_hex(4)}"


async def signing_in(world: ConsoleWorld, subject: str, **claims: Any) -> httpx.Response:
    """Return what is answered to whoever comes back from the issuer, which says these claims of them."""
    world.issuer.flaw = claims
    browser = world.browser()
    return await browser.client.get(await world.sent_back(browser, subject))


async def test_a_member_is_let_in_as_the_person_that_they_were_added_as(world: ConsoleWorld) -> None:
    person = number()
    _, subject = await world.enrol(Role.SUPPORT, cell="us", person=person)
    assert (await signing_in(world, subject, **{CLAIM: person})).status_code == 200
    for told in (None, "", number(), 17, ["employee"]):  # nobody, somebody else, or nothing that names anybody
        answer = await signing_in(world, subject, **{CLAIM: told})
        assert answer.status_code in {401, 403}, told
        assert subject not in answer.text


@pytest.mark.parametrize("cell", ["eu", "us"])
async def test_whoever_has_two_accounts_is_not_two_members_of_staff(world: ConsoleWorld, cell: str) -> None:
    person, other = number(), number()
    first, subject = await world.enrol(Role.COMPLIANCE, person=person)
    _, second = await world.enrol(Role.COMPLIANCE, cell=cell, person=other)  # whose number is made up
    assert (await signing_in(world, subject, **{CLAIM: person})).status_code == 200
    answer = await signing_in(world, second, **{CLAIM: person})
    assert (answer.status_code, "on the roll of staff twice" in answer.text) == (403, True)
    await world.staff["eu"].disable(first, "comitia:tests")
    assert (await signing_in(world, second, **{CLAIM: person})).status_code == 403


async def test_a_person_alone_is_no_login(world: ConsoleWorld, owner_pool: OwnerPool) -> None:
    person = number()
    await world.enrol(Role.COMPLIANCE, person=person)
    assert (await signing_in(world, "another-account", **{CLAIM: person})).status_code == 403
    without, subject = await world.enrol(Role.COMPLIANCE)  # added before persons were named
    assert (await signing_in(world, subject, **{CLAIM: number()})).status_code == 403
    assert await refusals(owner_pool, "eu", without) == [("person_not_on_the_roll", "compliance", "console")]


async def test_a_person_is_no_login_by_another_name(world: ConsoleWorld) -> None:
    person = number()
    await world.enrol(Role.COMPLIANCE, person=person)
    issuer = world.issuer.settings.issuer
    for subject in (person, f"person {issuer} {person}", f"{issuer} {person}"):
        assert (await signing_in(world, subject, **{CLAIM: person})).status_code == 403
