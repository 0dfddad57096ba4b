"""Logins while a cell is away: its people wait, all others are let in, and nobody learns who is known where."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from domain.sessions import LoginMethod
from integrations.login.passkeys import Passkeys
from integrations.settings import Settings
from integrations.vendor_settings import PasskeySettings
from tests.answers import code_of
from tests.api.auth.conftest import Auth
from tests.api.auth.login_town import PASSWORD, LoginTown, Person, open_login_town
from tests.conftest import SettingsFor
from tests.integrations.login.authenticator import ORIGIN, RP_ID, Authenticator

AWAY, THERE = "eu", "us"
UNAVAILABLE = (503, "cell_unavailable")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def town(settings_for: SettingsFor, auth: Auth) -> AsyncIterator[LoginTown]:
    """The service as it is where the database of the first cell does not answer."""

    def make(*roles: str, **fields: Any) -> Settings:
        settings = settings_for(*roles, **fields)
        database = settings.cells[AWAY].database.model_copy(update={"host": "127.0.0.1", "port": 1})
        cell = settings.cells[AWAY].model_copy(update={"database": database})
        return settings.model_copy(update={"cells": {**settings.cells, AWAY: cell}})

    async with open_login_town(make, auth) as opened:
        yield opened


def unknown() -> Person:
    return Person("", f"{secrets.token_hex(5)}@example.org")


async def test_whoever_is_at_home_elsewhere_logs_in(town: LoginTown) -> None:
    person = await town.person(THERE, password=PASSWORD)
    assert (await town.log_in(person)).status_code == 200
    passkeys = passkeys_of(town)
    authenticator = Authenticator()
    made = authenticator.register(await passkeys.begin_registration(person.voter_id, "account"))
    assert await passkeys.finish_registration(person.voter_id, made)
    asked = await town.client.post("/v1/auth/logins/passkey-options", json={"cell": THERE})
    answer = authenticator.sign(asked.json()["options"])
    offer = {"method": "passkey", "passkey": answer, "mail": None, "password": None}
    assert (await town.log_in(person, **offer)).status_code == 200
    assert (await town.log_in(person, **offer)).status_code == 503  # a challenge is good once; it is nobody's failure


def passkeys_of(town: LoginTown) -> Passkeys:
    kept = town.auth.cells.of(THERE)
    settings = PasskeySettings(rp_id=RP_ID, origins=(ORIGIN,))
    return Passkeys(THERE, settings, kept.credentials, kept.records, kept.transactions)


@pytest.mark.parametrize("method", [LoginMethod.PASSWORD, LoginMethod.MAIL_CODE])
async def test_whoever_is_refused_does_not_learn_who_is_known_elsewhere(town: LoginTown, method: LoginMethod) -> None:
    known = await town.person(THERE, password=PASSWORD)
    wrong = {"password": "wrong" + PASSWORD} if method is LoginMethod.PASSWORD else {"code": "0", "password": None}
    for person in (known, unknown()):
        answer = await town.log_in(person, method=method, **wrong)
        assert code_of(answer) == UNAVAILABLE
        assert answer.elapsed.total_seconds() >= 0.25
        bot = {**await town.visit(person), "challengeToken": "made up"}
        assert code_of(await town.log_in(person, method=method, visit=bot, **wrong)) == (403, "risk_denied")
    for person in (known, unknown()):
        named = await town.log_in(person, method=method, cell=THERE, **wrong)
        assert code_of(named) == (401, "login_failed")
        assert named.elapsed.total_seconds() >= 0.25


async def test_a_guess_is_counted_and_costs_its_token_also_then(town: LoginTown) -> None:
    known = await town.person(THERE, password=PASSWORD)
    visit = await town.visit(known)
    assert code_of(await town.log_in(known, password="wrong" + PASSWORD, visit=visit)) == UNAVAILABLE
    assert code_of(await town.log_in(known, visit=visit)) == (403, "risk_denied")
    answer = await town.log_in(known)
    assert answer.status_code == 200
    assert (await town.last_attempt(known)).signals.failures_per_hour == 1
