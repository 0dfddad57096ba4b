"""Logout tokens of an identity provider: what they end, and that each ends it once."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest

from api.auth.logout_routes import BackChannel
from domain.accounts import LookupKind
from domain.errors import DomainError, ErrorCode
from domain.federation import ProviderLogout, login_of
from domain.ids import new_voter_id
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import LOOKUP
from integrations.login.issuer_sandbox.state import Issuer
from integrations.postgres.roles import IDENTITY
from tests.answers import code_of
from tests.api.auth.conftest import Auth, LoggedIn
from tests.conftest import SettingsFor
from tests.workflows.registration_ports import Hashes

INVALID = (400, "logout_token_invalid")


@pytest.fixture
def issuer(auth: Auth) -> Issuer:
    made = auth.provider.issuer()
    made.subject = f"auth0|{new_voter_id('eu')}"
    return made


async def send(auth: Auth, token: str, **headers: str) -> httpx.Response:
    return await auth.client.post("/v1/auth/backchannel-logout", data={"logout_token": token}, headers=headers)


async def log_in(auth: Auth, issuer: Issuer, *, sid: str, voter_id: str = "", cell: str = "eu") -> LoggedIn:
    fields: dict[str, Any] = {"provider": "sandbox", "provider_sid": sid}
    return await auth.log_in(voter_id, cell, **fields)


async def is_open(auth: Auth, login: LoggedIn) -> bool:
    return (await auth.refresh(login.tokens.refresh_token, login.key)).status_code == 200


@pytest.mark.parametrize("cell", ["eu", "us"])
async def test_a_session_at_the_provider_takes_ours_with_it(auth: Auth, issuer: Issuer, cell: str) -> None:
    sid = f"sid-{issuer.subject}"
    gone = await log_in(auth, issuer, sid=sid, cell=cell)
    kept = await log_in(auth, issuer, sid="another", voter_id=gone.voter_id)
    answer = await send(auth, issuer.logout_token())
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert not await is_open(auth, gone)
    assert await is_open(auth, kept)
    refused = await auth.call(gone, "GET", "/v1/auth/sessions")
    assert (refused.status_code, refused.json()["code"]) == (401, "session_revoked")


async def test_without_a_session_everything_from_the_provider_ends(
    auth: Auth, issuer: Issuer, settings_for: SettingsFor
) -> None:
    voter_id = await auth.world.voter()
    lookups = KeyedLookupHashes(open_keys(settings_for(IDENTITY), LOOKUP))
    hashes = await lookups.every(LookupKind.LOGIN, login_of(issuer.settings.issuer, issuer.subject))
    assert await auth.cells.of("eu").accounts.add_lookup(voter_id, LookupKind.LOGIN, hashes)
    gone = [await log_in(auth, issuer, sid=sid, voter_id=voter_id) for sid in ("one", "")]
    by_passkey = await auth.log_in(voter_id)
    assert (await send(auth, issuer.logout_token(sid=None))).status_code == 200
    assert [await is_open(auth, login) for login in gone] == [False, False]
    assert await is_open(auth, by_passkey)


class Told:
    """A logout token of somebody, and the cells that it is told to: those that are `away` do not hear it."""

    def __init__(self, *away: str) -> None:
        self.away, self.ended = away, dict[str, str]()
        self.hashes = Hashes()

    async def logout(self, _token: str) -> ProviderLogout:
        return ProviderLogout("sandbox", "https://issuer.example", "j", subject="s")

    def of(self, name: str) -> Any:
        async def find(_kind: LookupKind, wanted: Any) -> Any:
            first = (await self.hashes.every(LookupKind.LOGIN, login_of("https://issuer.example", "s")))[0]
            return SimpleNamespace(voter_id=f"v_{name}") if first in wanted else None

        return SimpleNamespace(accounts=SimpleNamespace(find=find))

    async def end_at_provider(self, name: str, _provider: str, _jti: str, *, sid: str, voter_id: str) -> bool:
        if name in self.away:
            raise DomainError(ErrorCode.CELL_UNAVAILABLE)
        self.ended[name] = voter_id
        return True


@pytest.mark.parametrize("away", ["eu", "us"])
async def test_a_cell_that_is_away_has_the_provider_tell_again_and_the_other_one_obeys_at_once(away: str) -> None:
    told: Any = Told(away)
    with pytest.raises(DomainError, match="cell_unavailable"):
        await BackChannel(told, told, told, ("eu", "us"), told.hashes).log_out("a token")
    (there,) = {"eu", "us"} - {away}
    assert told.ended == {there: f"v_{there}"}  # known under the version of the key that was the newest then


async def test_a_token_is_obeyed_once(auth: Auth, issuer: Issuer) -> None:
    first, sid = issuer.logout_token(), f"sid-{issuer.subject}"
    assert (await send(auth, first)).status_code == 200
    later = await log_in(auth, issuer, sid=sid)
    assert code_of(await send(auth, first)) == INVALID
    assert code_of(await send(auth, issuer.logout_token(jti=jti_of(first)))) == INVALID
    assert await is_open(auth, later)
    other = issuer.logout_token(sid=sid)
    answers = await asyncio.gather(*(send(auth, other) for _ in range(5)))  # each cell obeys one of them
    assert {answer.status_code for answer in answers} <= {200, 400}
    assert not await is_open(auth, later)
    assert code_of(await send(auth, other)) == INVALID


def jti_of(token: str) -> str:
    found: str = jwt.decode(token, options={"verify_signature": False})["jti"]
    return found


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": int(time.time()) - 200, "iat": int(time.time()) - 320},
        {"aud": "another-client"},
        {"iss": "https://evil.example.org/"},
        {"nonce": "n"},
        {"events": {}},
    ],
    ids=lambda claims: next(iter(claims)),
)
async def test_a_bad_token_ends_nothing(auth: Auth, issuer: Issuer, claims: dict[str, Any]) -> None:
    login = await log_in(auth, issuer, sid=f"sid-{issuer.subject}")
    assert code_of(await send(auth, issuer.logout_token(**claims))) == INVALID
    assert await is_open(auth, login)


@pytest.mark.parametrize("body", [b"", b"logout_token=", b"logout_token=x", b"logout_token=a&logout_token=b", b"\xff"])
async def test_what_is_no_token_is_refused(auth: Auth, body: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await auth.client.post("/v1/auth/backchannel-logout", content=body, headers=headers)
    assert code_of(answer) == INVALID


async def test_it_must_be_a_form(auth: Auth, issuer: Issuer) -> None:
    answer = await auth.client.post("/v1/auth/backchannel-logout", json={"logout_token": issuer.logout_token()})
    assert code_of(answer) == (415, "unsupported_media_type")


async def test_a_login_at_a_provider_begins_here(auth: Auth, issuer: Issuer) -> None:
    asked = {"dpop_jkt": "k" * 43, "cell": "us"}
    answer = await auth.client.get("/v1/auth/oidc/sandbox/authorize", params=asked)
    url = urlsplit(answer.json()["url"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{issuer.settings.issuer}authorize"
    assert parse_qs(url.query)["state"][0].startswith("st_us_")
    taken = await auth.cells.of("us").transactions.take("oidc", parse_qs(url.query)["state"][0])
    assert taken is not None
    assert taken.subject == f"sandbox {'k' * 43}"
    assert await auth.cells.of("us").transactions.take("oidc", parse_qs(url.query)["state"][0]) is None
    for path, parameters, expected in (
        ("nobody", asked, (404, "not_found")),
        ("sandbox", {"dpop_jkt": "short"}, (400, "malformed_request")),
        ("sandbox", {**asked, "cell": "xx"}, (421, "wrong_cell")),
        ("sandbox", {**asked, "redirect_uri": "https://evil.example.org"}, None),
    ):
        answer = await auth.client.get(f"/v1/auth/oidc/{path}/authorize", params=parameters)
        if expected is not None:
            assert code_of(answer) == expected
        else:  # whatever else is asked for, people go where the settings say
            assert parse_qs(urlsplit(answer.json()["url"]).query)["redirect_uri"] == [issuer.settings.redirect_uri]
