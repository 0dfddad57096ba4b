"""How often a place may ask, and how often something may be asked about one address: known or not, it is the same."""

import itertools
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.auth.account_routes import account_routes
from api.auth.app import create_app
from api.auth.login_routes import login_routes, step_up_routes
from api.auth.logout_routes import logout_routes
from api.auth.oidc_routes import oidc_routes
from api.auth.registration_routes import registration_routes
from api.auth.session_routes import session_routes
from domain.errors import DomainError, ErrorCode
from integrations.settings import Environment, Settings
from integrations.telemetry.telemetry import make_telemetry
from tests.answers import code_of
from tests.limits_world import lonely_limits

CELLS = ("eu", "us")
LIMITED = (429, "rate_limited")
PLACES = ("login", "logout", "registration", "register", "recover", "account", "session")
CONTACTS = ("login", "login_code", "register", "recover")
NAMES = [*(f"{name}_address" for name in PLACES), *(f"{name}_contact" for name in CONTACTS)]
NONCE = "n" * 16
SHOWN = {"challengeToken": "t", "challengeNonce": NONCE, "deviceEventId": "1.e"}
VISIT = {"challengeToken": "t", "nonce": NONCE}
LOGIN = {"method": "password", "password": "p", "deviceEventId": "1.e", **VISIT}
REGISTRATION, LINK, ATTEMPT = "/v1/registrations/r", "/v1/account/recovery/l", "/v1/auth/logins/a"

ABOUT_AN_ADDRESS = {
    "registration": ("/v1/registrations", {"region": "DE", **SHOWN}),
    "recovery": ("/v1/account/recovery", SHOWN),
    "password": ("/v1/auth/logins", LOGIN),
    "code": ("/v1/auth/logins", {**LOGIN, "method": "mail_code", "code": "12345678"}),
    "codes": ("/v1/auth/logins/codes", VISIT),
}
BY_ANYBODY: list[tuple[str, dict[str, Any]]] = [
    (f"GET {REGISTRATION}", {}),
    (f"DELETE {REGISTRATION}", {}),
    (f"POST {REGISTRATION}/contact", {"json": {"code": "12345678"}}),
    (f"POST {REGISTRATION}/contact/resend", {"json": {}}),
    (f"POST {REGISTRATION}/proofing-access", {"json": {}}),
    (f"POST {REGISTRATION}/appeal", {"json": {}}),
    (f"POST {LINK}", {"json": {"password": "p"}}),
    (f"POST {LINK}/passkey-options", {"json": {}}),
    ("GET /v1/account/deletions/d", {}),
    ("POST /v1/auth/logins/passkey-options", {"json": {}}),
    (f"POST {ATTEMPT}/step-up", {"json": {"factor": "totp", "code": "123456"}}),
    (f"POST {ATTEMPT}/step-up-code", {}),
    (f"POST {ATTEMPT}/passkey-options", {}),
    ("GET /v1/auth/oidc/o/authorize", {"params": {"dpop_jkt": "k" * 43}}),
    ("POST /v1/auth/backchannel-logout", {"data": {"logout_token": "t"}}),
    ("POST /v1/auth/token", {"json": {"refreshToken": "rt_eu_" + "a" * 43}}),
]
numbers = itertools.count(1)


class Nobody:
    """Stands behind every route: whatever is asked for, there is nothing."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: Any, **__: Any) -> Any:
            raise DomainError(ErrorCode.NOT_FOUND)

        return refuse


class Key:
    async def of(self, *_: Any) -> str:
        return "k" * 43


async def stranger() -> Any:
    raise DomainError(ErrorCode.UNAUTHENTICATED)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """The service over nothing, where everything is permitted twice."""
    limits = lonely_limits(None, **dict.fromkeys(NAMES, (2, 60)))
    nobody: Any = Nobody()
    key: Any = Key()
    routers = [
        registration_routes(nobody, limits),
        account_routes(nobody, nobody, stranger, limits, CELLS),
        login_routes(nobody, codes=nobody, humans=nobody, cells=nobody, names=CELLS, key=key, limits=limits),
        step_up_routes(nobody, key, limits),
        session_routes(nobody, stranger, key, limits, CELLS),
        oidc_routes(nobody, nobody, CELLS, limits),
        logout_routes(nobody, limits),
    ]
    return create_app(routers, telemetry=make_telemetry(Settings(environment=Environment.TEST), "auth"))


async def ask(app: FastAPI, place: int, what: str, **sent: Any) -> tuple[int, str]:
    """Ask from a place, and return what came of it."""
    transport = httpx.ASGITransport(app, client=(f"2001:db8:{place:x}::1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://auth") as client:
        method, path = what.split()
        return code_of(await client.request(method, path, **sent))


def mail() -> str:
    return f"a{next(numbers)}@example.org"


@pytest.mark.parametrize(("what", "sent"), BY_ANYBODY, ids=[what for what, _ in BY_ANYBODY])
async def test_a_place_asks_so_often(app: FastAPI, what: str, sent: dict[str, Any]) -> None:
    place = next(numbers)
    *borne, last = [await ask(app, place, what, **sent) for _ in range(3)]
    assert LIMITED not in borne
    assert last == LIMITED


@pytest.mark.parametrize("about", ABOUT_AN_ADDRESS)
async def test_a_place_asks_so_often_about_whatever_addresses(app: FastAPI, about: str) -> None:
    path, body = ABOUT_AN_ADDRESS[about]
    place = next(numbers)
    *borne, last = [await ask(app, place, f"POST {path}", json={**body, "mail": mail()}) for _ in range(3)]
    assert LIMITED not in borne
    assert last == LIMITED


@pytest.mark.parametrize("about", ABOUT_AN_ADDRESS)
async def test_an_address_is_asked_about_so_often_from_wherever_and_however_it_is_spelt(
    app: FastAPI, about: str
) -> None:
    path, body = ABOUT_AN_ADDRESS[about]
    known = mail()
    spelt = [{**body, "mail": each} for each in (known, known.upper(), f" {known}")]
    *borne, last = [await ask(app, next(numbers), f"POST {path}", json=each) for each in spelt]
    assert LIMITED not in borne
    assert last == LIMITED
    assert await ask(app, next(numbers), f"POST {path}", json={**body, "mail": mail()}) != LIMITED
