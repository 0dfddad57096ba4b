"""Logins at an identity provider, and what an attacker in between can do: nothing."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from domain.errors import DomainError, ErrorCode
from domain.ids import new_voter_id
from integrations.login import provider_keys
from integrations.login.issuer_sandbox.state import Issuer
from integrations.sandboxes.faults import Fault, FaultKind
from tests.integrations.login.conftest import JKT, Provider

KIND = "http://schemas.openid.net/event/backchannel-logout"


def code(error: pytest.ExceptionInfo[DomainError]) -> ErrorCode:
    return error.value.code


async def finish(provider: Provider, back: dict[str, str], jkt: str = JKT, **more: str) -> Any:
    given = {"state": back["state"], "code": back["code"], **more}
    return await provider.logins.finish(provider.transactions, jkt, **given)


async def refused(provider: Provider, back: dict[str, str], **more: str) -> ErrorCode:
    with pytest.raises(DomainError) as error:
        await finish(provider, back, **more)
    return code(error)


def forged(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None) -> str:
    """Return a token with any header, signed by HMAC under `secret`, or not at all."""

    def segment(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    signed = f"{segment(json.dumps(header).encode())}.{segment(json.dumps(claims).encode())}"
    mac = hmac.digest(secret, signed.encode(), hashlib.sha256) if secret is not None else b""
    return f"{signed}.{segment(mac)}"


async def test_somebody_logs_in(provider: Provider) -> None:
    found = await finish(provider, await provider.visit())
    assert (found.provider, found.issuer, found.subject) == ("sandbox", provider.settings.issuer, "auth0|sandbox")
    assert (found.sid, found.mail, found.with_second_factor) == ("sid-auth0|sandbox", "sandbox@example.org", False)
    assert found.login == f"{provider.settings.issuer} auth0|sandbox"
    assert found.issuer.endswith("/")


async def test_a_provider_that_does_not_name_its_token_endpoint_is_told_by_the_settings(provider: Provider) -> None:
    provider.issuer.names_token_endpoint = False  # as Facebook
    with pytest.raises(DomainError) as error:
        await provider.visit()
    assert code(error) is ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE
    assert (await finish(provider, await provider.visit(name="told"))).subject == "auth0|sandbox"


async def test_only_a_verified_address_is_believed_and_a_second_factor_is_noticed(provider: Provider) -> None:
    provider.issuer.flaw = {"email_verified": False, "amr": ["mfa"]}
    found = await finish(provider, await provider.visit())
    assert (found.mail, found.with_second_factor) == ("", True)


async def test_the_request_names_what_is_in_the_settings_and_hides_its_secrets(provider: Provider) -> None:
    urls = [await provider.logins.begin("sandbox", "eu", provider.transactions, JKT) for _ in range(2)]
    asked = [parse_qs(urlsplit(url).query) for url in urls]
    assert asked[0]["redirect_uri"] == [provider.settings.redirect_uri]
    assert asked[0]["code_challenge_method"] == ["S256"]
    for name in ("state", "nonce", "code_challenge"):
        assert asked[0][name] != asked[1][name]
        assert len(asked[0][name][0]) >= 43
    with pytest.raises(DomainError) as error:
        await provider.logins.begin("nobody", "eu", provider.transactions, JKT)
    assert code(error) is ErrorCode.NOT_FOUND


async def test_whoever_links_logs_in_anew_and_the_provider_has_to_say_so(provider: Provider) -> None:
    voter = new_voter_id("eu")
    for anew, asked in ((voter, ["0"]), ("", None)):
        url = await provider.logins.begin("sandbox", "eu", provider.transactions, JKT, voter_id=anew)
        assert parse_qs(urlsplit(url).query).get("max_age") == asked
    assert await finish(provider, await provider.visit(voter_id=voter), voter_id=voter)
    old = {"auth_time": int(time.time()) - 120}
    for flaw in (old, {"auth_time": None}, {"auth_time": "now"}, {"auth_time": True}, {"auth_time": 2**40}):
        provider.issuer.flaw = flaw
        assert await refused(provider, await provider.visit(voter_id=voter), voter_id=voter) is ErrorCode.LOGIN_FAILED
        assert await finish(provider, await provider.visit())  # a login may be of before
        untold = await provider.visit(voter_id=voter, name="untold")
        assert await finish(provider, untold, voter_id=voter)


async def test_a_state_is_good_once(provider: Provider) -> None:
    back = await provider.visit()
    await finish(provider, back)
    assert await refused(provider, back) is ErrorCode.LOGIN_FAILED
    second = await provider.visit()
    results = await asyncio.gather(*(finish(provider, second) for _ in range(5)), return_exceptions=True)
    assert sum(not isinstance(result, DomainError) for result in results) == 1


async def test_a_code_of_another_login_is_refused(provider: Provider) -> None:
    mine, theirs = await provider.visit(), await provider.visit()
    assert await refused(provider, {"state": mine["state"], "code": theirs["code"]}) is ErrorCode.LOGIN_FAILED


async def test_another_client_cannot_finish_a_login(provider: Provider) -> None:
    back = await provider.visit()
    assert await refused(provider, back, jkt="z" * 43) is ErrorCode.LOGIN_FAILED
    assert await refused(provider, back) is ErrorCode.LOGIN_FAILED  # and it is used up


async def test_an_answer_of_another_issuer_is_a_mix_up(provider: Provider) -> None:
    back = await provider.visit()
    assert await refused(provider, back, issuer="https://evil.example.org/") is ErrorCode.LOGIN_FAILED
    again = await provider.visit()
    assert await finish(provider, again, issuer=provider.settings.issuer)


@pytest.mark.parametrize("state", ["", "nonsense", "st_eu_" + "a" * 43, "st_eu_" + "a" * 44])
async def test_a_state_that_nobody_began_is_refused(provider: Provider, state: str) -> None:
    assert await refused(provider, {"state": state, "code": "x"}) is ErrorCode.LOGIN_FAILED


async def test_a_refusal_of_the_person_is_told_with_the_state(provider: Provider) -> None:
    provider.issuer.error = "access_denied"
    assert (await provider.visit())["error"] == "access_denied"


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": None},
        {"nonce": "other"},
        {"iss": "https://evil.example.org/"},
        {"aud": "another-client"},
        {"aud": ["comitia", "another-client"]},
        {"azp": "another-client"},
        {"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7200},
        {"exp": None},
        {"iat": int(time.time()) + 3600},
        {"sub": None},
        {"sub": 7},
        {"sub": "a" * 256},
        {"events": {KIND: {}}},
    ],
    ids="-".join,
)
async def test_an_id_token_that_is_not_for_this_login_is_refused(provider: Provider, claims: dict[str, Any]) -> None:
    provider.issuer.flaw = claims
    assert await refused(provider, await provider.visit()) is ErrorCode.LOGIN_FAILED


async def test_the_issuer_without_its_slash_is_another(provider: Provider) -> None:
    provider.issuer.flaw = {"iss": provider.settings.issuer.rstrip("/")}
    assert await refused(provider, await provider.visit()) is ErrorCode.LOGIN_FAILED


async def test_an_audience_among_others_needs_the_authorized_party(provider: Provider) -> None:
    provider.issuer.flaw = {"aud": ["comitia", "https://api.example.org"], "azp": "comitia"}
    assert await finish(provider, await provider.visit())


@pytest.mark.parametrize(
    "confusion", ["none", "None", "HS256", "unknown kid", "no kid", "jwk", "at+jwt", "crit", "bit"]
)
async def test_a_token_that_confuses_verifiers_is_refused(
    provider: Provider, confusion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = provider.issuer.keys[0]
    whole = Issuer.sign

    def altered(claims: dict[str, Any]) -> str:
        token = whole(provider.issuer, claims)
        return token[:-6] + ("A" if token[-6] != "A" else "B") + token[-5:]

    header: dict[str, Any] = {"kid": key.key_id, "typ": "JWT"}
    makers: dict[str, Callable[[dict[str, Any]], str]] = {
        "none": lambda claims: forged({**header, "alg": "none"}, claims, None),
        "None": lambda claims: forged({**header, "alg": "None"}, claims, None),
        "HS256": lambda claims: forged({**header, "alg": "HS256"}, claims, key.public_pem),
        "unknown kid": lambda claims: jwt.encode(claims, key.private, "RS256", {**header, "kid": "unknown"}),
        "no kid": lambda claims: jwt.encode(claims, key.private, "RS256", {"typ": "JWT"}),
        "jwk": lambda claims: jwt.encode(claims, key.private, "RS256", {"typ": "JWT", "jwk": key.jwk}),
        "at+jwt": lambda claims: whole(provider.issuer, claims, typ="at+jwt"),
        "crit": lambda claims: jwt.encode(claims, key.private, "RS256", {**header, "crit": ["exp"], "exp": 1}),
        "bit": altered,
    }

    def sign(_: Issuer, claims: dict[str, Any], *, typ: str = "JWT") -> str:
        return makers[confusion](claims)

    monkeypatch.setattr(Issuer, "sign", sign)
    assert await refused(provider, await provider.visit()) is ErrorCode.LOGIN_FAILED


async def test_a_new_key_is_found_and_an_unknown_one_is_not_looked_for_all_the_time(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await finish(provider, await provider.visit())
    provider.issuer.rotate()
    assert await refused(provider, await provider.visit()) is ErrorCode.LOGIN_FAILED  # read a moment ago
    monkeypatch.setattr(provider_keys, "REFETCH_AFTER_S", 0.0)
    assert await finish(provider, await provider.visit())
    provider.issuer.rotate(publish=False)
    assert await refused(provider, await provider.visit()) is ErrorCode.LOGIN_FAILED


FAULTS = [
    Fault(kind=FaultKind.STATUS, status=500, path="token"),
    Fault(kind=FaultKind.STATUS, status=429, path="token", retry_after_s=7),
    Fault(kind=FaultKind.HTML, path="token"),
    Fault(kind=FaultKind.GARBAGE, path="token"),
    Fault(kind=FaultKind.HUGE, path="token"),
    Fault(kind=FaultKind.DROP, path="token"),
    Fault(kind=FaultKind.STATUS, status=503, path="jwks"),
    Fault(kind=FaultKind.HTML, path="jwks"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.path}")
async def test_a_provider_that_gives_no_answer_is_away(provider: Provider, fault: Fault) -> None:
    back = await provider.visit()
    body = fault.model_dump(by_alias=True)
    await provider.browser.post(f"{provider.settings.issuer}_control/faults", json=body)
    assert await refused(provider, back) is ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE
    assert await finish(provider, await provider.visit())


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "x"},
        {"aud": "another-client"},
        {"iss": "https://evil.example.org/"},
        {"exp": int(time.time()) - 200, "iat": int(time.time()) - 320},
        {"exp": int(time.time()) + 36_000},
        {"events": None},
        {"events": {}},
        {"events": {KIND: "x"}},
        {"jti": None},
        {"sid": None, "sub": None},
    ],
    ids="-".join,
)
async def test_a_logout_token_that_is_none_is_refused(provider: Provider, claims: dict[str, Any]) -> None:
    assert (await provider.logins.logout(provider.issuer.logout_token())).sid == "sid-auth0|sandbox"
    with pytest.raises(DomainError) as error:
        await provider.logins.logout(provider.issuer.logout_token(**claims))
    assert code(error) is ErrorCode.LOGOUT_TOKEN_INVALID


async def test_an_id_token_logs_nobody_out_and_a_logout_token_nobody_in(provider: Provider) -> None:
    with pytest.raises(DomainError) as error:
        await provider.logins.logout(provider.issuer.id_token("auth0|sandbox", "n"))
    assert code(error) is ErrorCode.LOGOUT_TOKEN_INVALID
    provider.issuer.flaw = {"events": {KIND: {}}}
    assert await refused(provider, await provider.visit()) is ErrorCode.LOGIN_FAILED
