"""Logins at identity providers, linked over HTTP: to one account each, by its voter, and never the last way lost."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import pytest_asyncio

from api.auth.provider_links import ProviderLinkDesk
from domain.accounts import LookupKind
from domain.errors import DomainError, ErrorCode
from domain.federation import login_of
from domain.tokens import ACCESS_ISSUER, Confirmation, VoterClaims
from integrations.keys.dpop_keys import make_proof
from integrations.login.issuer_sandbox.state import Issuer
from integrations.login.oidc import open_providers
from tests.answers import code_of
from tests.api.auth.conftest import PUBLIC_URL, Auth, LoggedIn
from tests.api.auth.login_town import PASSWORD, LoginTown, Person, open_login_town
from tests.conftest import SettingsFor

LINKS = "/v1/account/credentials/providers"


async def returned(url: str) -> dict[str, str]:
    """Log in at the provider, and return what it sends the person back with."""
    async with httpx.AsyncClient() as browser:
        back = httpx.URL((await browser.get(url)).headers["location"]).params
    return {"state": back["state"], "code": back["code"]}


@dataclass
class Linking:
    """Somebody who is logged in, with a provider where somebody of this test alone logs in."""

    auth: Auth
    login: LoggedIn

    async def send(self, method: str, path: str = "", **body: Any) -> httpx.Response:
        content = json.dumps(body).encode() if body else b""
        return await self.auth.call(self.login, method, LINKS + path, content)

    async def begun(self) -> dict[str, str]:
        answer = await self.send("POST", "/sandbox")
        assert answer.status_code == 200, answer.text
        return await returned(answer.json()["url"])

    async def link(self) -> httpx.Response:
        return await self.send("POST", "/sandbox/finish", **await self.begun())

    async def linked(self) -> list[str]:
        return [link["provider"] for link in (await self.send("GET")).json()["providers"]]

    async def with_password(self) -> "Linking":
        body = json.dumps({"password": "a long way to the polling station"}).encode()
        answer = await self.auth.call(self.login, "PUT", "/v1/account/password", body)
        assert answer.status_code == 204, answer.text
        return self


@pytest.fixture
def issuer(auth: Auth) -> Issuer:
    """Somebody new at the provider."""
    made = auth.provider.issuer()
    made.subject = f"sandbox|{secrets.token_hex(6)}"
    return made


async def linking(auth: Auth, cell: str = "eu") -> Linking:
    return Linking(auth, await auth.log_in(cell=cell))


async def test_a_login_is_linked_shown_and_unlinked_and_other_sessions_end(auth: Auth, issuer: Issuer) -> None:
    voter = await (await linking(auth)).with_password()
    other = await auth.log_in(voter.login.voter_id)
    assert (await voter.link()).status_code == 204
    assert await voter.linked() == ["sandbox"]
    assert (await voter.send("GET")).json()["providers"][0]["linkedAt"].endswith("Z")
    assert code_of(await auth.call(other, "GET", LINKS)) == (401, "session_revoked")
    assert (await voter.link()).status_code == 204  # the same once more changes nothing
    issuer.subject += "-another"
    assert code_of(await voter.link()) == (409, "provider_linked")
    assert (await voter.send("DELETE", "/sandbox")).status_code == 204
    assert code_of(await voter.send("DELETE", "/sandbox")) == (404, "factor_not_found")
    assert await voter.linked() == []
    assert code_of(await voter.send("POST", "/nobody")) == (404, "not_found")


async def test_a_login_belongs_to_one_account_of_all_cells(auth: Auth, issuer: Issuer) -> None:
    holder = await linking(auth, "us")
    assert (await holder.link()).status_code == 204
    for cell in ("us", "eu"):
        stranger = await linking(auth, cell)
        answer = await stranger.link()
        assert code_of(answer) == (409, "login_taken")
        assert holder.login.voter_id not in answer.text
        assert await stranger.linked() == []
        hashes = await auth.cells.hashes.every(LookupKind.LOGIN, login_of(issuer.settings.issuer, issuer.subject))
        found = await auth.cells.of(cell).accounts.find(LookupKind.LOGIN, hashes)
        assert (found is None) is (cell == "eu")
    await (await holder.with_password()).send("DELETE", "/sandbox")
    assert (await (await linking(auth, "eu")).link()).status_code == 204


async def test_of_two_cells_at_once_at_most_one_has_it(auth: Auth, issuer: Issuer) -> None:
    for _ in range(3):
        issuer.subject = f"sandbox|{secrets.token_hex(6)}"
        voters = [await linking(auth, cell) for cell in ("eu", "us")]
        backs = [await voter.begun() for voter in voters]
        answers = await asyncio.gather(
            *(voter.send("POST", "/sandbox/finish", **back) for voter, back in zip(voters, backs, strict=True))
        )
        linked = [await voter.linked() for voter in voters]
        assert [answer.status_code == 204 for answer in answers] == [bool(links) for links in linked]
        assert len([links for links in linked if links]) <= 1
        refused = [answer for answer in answers if answer.status_code != 204]
        assert {code_of(answer) for answer in refused} == {(409, "login_taken")}


@pytest.mark.usefixtures("issuer")
async def test_the_last_thing_to_log_in_with_stays(auth: Auth) -> None:
    voter = await linking(auth)
    await voter.link()
    assert code_of(await voter.send("DELETE", "/sandbox")) == (409, "last_credential")
    await voter.with_password()
    (password,) = (await auth.call(voter.login, "GET", "/v1/account/credentials")).json()["credentials"]
    path = f"/v1/account/credentials/{password['credentialId']}"
    assert (await auth.call(voter.login, "DELETE", path)).status_code == 204
    assert code_of(await voter.send("DELETE", "/sandbox")) == (409, "last_credential")
    await voter.with_password()
    assert (await voter.send("DELETE", "/sandbox")).status_code == 204
    (password,) = (await auth.call(voter.login, "GET", "/v1/account/credentials")).json()["credentials"]
    path = f"/v1/account/credentials/{password['credentialId']}"
    assert code_of(await auth.call(voter.login, "DELETE", path)) == (409, "last_credential")


@pytest.mark.usefixtures("issuer")
async def test_what_comes_back_is_good_for_who_began_it_and_for_this_alone(auth: Auth) -> None:
    voter, thief = await linking(auth), await linking(auth)
    refusal = (422, "link_not_accepted")
    back = await voter.begun()
    assert code_of(await thief.send("POST", "/sandbox/finish", **back)) == refusal
    assert code_of(await voter.send("POST", "/sandbox/finish", **back)) == refusal  # and it is used up
    back = await voter.begun()
    other_client = Linking(auth, await auth.log_in(voter.login.voter_id))
    assert code_of(await other_client.send("POST", "/sandbox/finish", **back)) == refusal
    asked = {"dpop_jkt": voter.login.key.jkt}
    url = (await auth.client.get("/v1/auth/oidc/sandbox/authorize", params=asked)).json()["url"]
    of_a_login = await returned(url)
    assert code_of(await voter.send("POST", "/sandbox/finish", **of_a_login)) == refusal
    back = await voter.begun()
    assert code_of(await voter.send("POST", "/another/finish", **back)) == refusal
    back = {**await voter.begun(), "issuer": "https://evil.example.org/"}
    assert code_of(await voter.send("POST", "/sandbox/finish", **back)) == refusal
    assert await voter.linked() == []


async def test_what_is_linked_is_a_login_of_after_the_link_was_begun(auth: Auth, issuer: Issuer) -> None:
    voter = await linking(auth)
    pool, earlier = auth.cells.of("eu").pool, "expires_at = expires_at - interval '5 min'"
    for minutes, answered in ((6, 422), (4, 204)):
        back = await voter.begun()
        await pool.execute(
            f"UPDATE identity.login_transaction SET {earlier} WHERE split_part(subject, ' ', 3) = $1",
            voter.login.voter_id,
        )
        issuer.flaw = {"auth_time": int(time.time()) - minutes * 60}
        assert (await voter.send("POST", "/sandbox/finish", **back)).status_code == answered
    assert await voter.linked() == ["sandbox"]


@pytest.mark.usefixtures("issuer")
async def test_while_a_cell_is_away_nothing_is_linked(auth: Auth, settings_for: SettingsFor) -> None:
    def of(name: str | None) -> Any:
        if name == "us":
            raise DomainError(ErrorCode.CELL_UNAVAILABLE)
        return auth.cells.of(name)

    login = await auth.log_in()
    claims = VoterClaims(
        iss=ACCESS_ISSUER,
        aud="voters",
        scope="voter",
        iat=0,
        exp=0,
        cnf=Confirmation(login.key.jkt),
        sub=login.voter_id,
        jti="j",
        sid=login.tokens.session_id,
        cell="eu",
        region="DE",
    )
    cells: Any = SimpleNamespace(of=of, now=auth.cells.now)
    async with AsyncExitStack() as lifetime:
        settings = settings_for(identity_providers={"sandbox": auth.provider.settings})
        providers = await open_providers(settings, lifetime)
        hashes = auth.cells.hashes
        desk = ProviderLinkDesk(cells, ("eu", "us"), providers=providers, sessions=auth.desk, hashes=hashes)
        back = await returned(await desk.begin(claims, "sandbox"))
        with pytest.raises(DomainError) as failure:
            await desk.finish(claims, "sandbox", back["state"], back["code"], "")
    assert failure.value.code is ErrorCode.CELL_UNAVAILABLE
    assert list(await auth.cells.of("eu").ways.links(login.voter_id)) == []
    assert (await (await linking(auth)).link()).status_code == 204  # nothing was left of it


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def town(settings_for: SettingsFor, auth: Auth) -> AsyncIterator[LoginTown]:
    async with open_login_town(settings_for, auth) as opened:
        yield opened


async def as_voter(town: LoginTown, person: Person, token: str, method: str, path: str, **body: Any) -> httpx.Response:
    content = json.dumps(body).encode() if body else b""
    proof = make_proof(person.key, method, PUBLIC_URL + path, time.time(), token=token, body=content)
    headers = {"authorization": f"DPoP {token}", "dpop": proof}
    if content:
        headers["content-type"] = "application/json"
    return await town.client.request(method, path, content=content, headers=headers)


@pytest.mark.usefixtures("issuer")
async def test_who_has_linked_a_login_logs_out_and_in_again_by_it(town: LoginTown) -> None:
    person = await town.person(password=PASSWORD)
    token = (await town.log_in(person)).json()["accessToken"]
    begun = await as_voter(town, person, token, "POST", f"{LINKS}/sandbox")
    assert begun.status_code == 200, begun.text
    back = await returned(begun.json()["url"])
    done = await as_voter(town, person, token, "POST", f"{LINKS}/sandbox/finish", **back)
    assert done.status_code == 204, done.text
    assert (await as_voter(town, person, token, "POST", "/v1/auth/logout")).status_code == 204
    assert code_of(await as_voter(town, person, token, "GET", LINKS)) == (401, "session_revoked")
    asked = {"dpop_jkt": person.key.jkt}
    url = (await town.client.get("/v1/auth/oidc/sandbox/authorize", params=asked)).json()["url"]
    answer = await town.log_in(person, method="oidc", mail=None, password=None, **await returned(url))
    assert answer.status_code == 200, answer.text
    shown = await as_voter(town, person, answer.json()["accessToken"], "GET", "/v1/auth/sessions")
    assert [session["method"] for session in shown.json()["sessions"]] == ["oidc"]
