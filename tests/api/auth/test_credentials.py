"""Credentials over HTTP: changed by who has just logged in, and every change ends the other sessions."""

import asyncio
import json
import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp
import pytest

from domain.credentials import RECOVERY_CODES, CredentialKind
from domain.sessions import EndReason
from integrations.login.passwords import AT_ONCE
from tests.answers import code_of
from tests.api.auth.conftest import Auth, LoggedIn
from tests.integrations.login.authenticator import Authenticator

PASSWORD = "a long way to the polling station"
_PASSWORDS = AT_ONCE + 2
_THREADS = 40  # more than an event loop has


async def send(auth: Auth, login: LoggedIn, method: str, path: str, **body: Any) -> httpx.Response:
    return await auth.call(login, method, f"/v1/account/{path}", json.dumps(body).encode() if body else b"")


async def held(auth: Auth, login: LoggedIn) -> dict[str, Any]:
    answer = await send(auth, login, "GET", "credentials")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_password_is_kept_as_a_slow_hash_and_ends_the_other_sessions(auth: Auth) -> None:
    login = await auth.log_in()
    other = await auth.log_in(login.voter_id)
    assert (await held(auth, login)) == {"credentials": [], "recoveryCodesLeft": 0}
    for password in (PASSWORD, PASSWORD + " again"):
        assert (await send(auth, login, "PUT", "password", password=password)).status_code == 204
    (shown,) = (await held(auth, login))["credentials"]
    assert (shown["kind"], shown["confirmed"]) == ("password", True)
    (kept,) = await auth.cells.of("eu").credentials.of(login.voter_id, CredentialKind.PASSWORD)
    assert kept.secret.startswith(b"$argon2id$")
    ends = await auth.world.identity["eu"].fetch(
        "SELECT session_id, end_reason FROM identity.session WHERE voter_id = $1", login.voter_id
    )
    assert dict(map(tuple, ends)) == {
        login.tokens.session_id: None,
        other.tokens.session_id: EndReason.CREDENTIALS_CHANGED,
    }
    assert code_of(await send(auth, other, "GET", "credentials")) == (401, "session_revoked")


async def test_a_password_that_is_short_or_lost_is_not_taken(auth: Auth) -> None:
    login = await auth.log_in()
    lost = "everybody has this password"
    await auth.breaches.control("POST", "breaches", password=lost, count=7)
    for password in ("too short", lost):
        refused = await send(auth, login, "PUT", "password", password=password)
        assert code_of(refused) == (422, "password_not_accepted")
        assert password not in refused.text
    await auth.breaches.fail("status", status=500, count=10)
    try:
        away = await send(auth, login, "PUT", "password", password=PASSWORD)
    finally:
        await auth.breaches.heal()
    assert code_of(away) == (503, "breaches_unavailable")
    assert (await held(auth, login))["credentials"] == []


async def test_passwords_that_wait_for_their_turn_are_seen(auth: Auth) -> None:
    logins = [await auth.log_in() for _ in range(_PASSWORDS)]
    released = threading.Event()
    threads = [asyncio.create_task(asyncio.to_thread(released.wait, 20)) for _ in range(_THREADS)]  # each that hashes
    changes = [asyncio.create_task(send(auth, login, "PUT", "password", password=PASSWORD)) for login in logins]
    try:
        async with asyncio.timeout(20):
            while await passwords_waiting(auth) < _PASSWORDS - AT_ONCE:
                await asyncio.sleep(0.01)
    finally:
        released.set()
    assert {answer.status_code for answer in await asyncio.gather(*changes)} == {204}
    assert await passwords_waiting(auth) == 0
    await asyncio.gather(*threads)


async def passwords_waiting(auth: Auth) -> float:
    lines = (await auth.client.get("/metrics")).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("passwords_waiting ")))


async def test_every_change_is_to_be_told_by_mail(auth: Auth) -> None:
    login, device = await auth.log_in(), Authenticator()
    await send(auth, login, "PUT", "password", password=PASSWORD)
    options = (await send(auth, login, "POST", "passkeys/options")).json()["options"]
    await send(auth, login, "POST", "passkeys", passkey=device.register(options))
    await send(auth, login, "POST", "totp")
    await send(auth, login, "POST", "recovery-codes")
    (passkey,) = [each for each in (await held(auth, login))["credentials"] if each["kind"] == "passkey"]
    assert (await send(auth, login, "DELETE", f"credentials/{passkey['credentialId']}")).status_code == 204
    rows = await auth.world.identity["eu"].fetch(
        "SELECT notice FROM identity.account_notice WHERE voter_id = $1 ORDER BY notice_id", login.voter_id
    )
    assert [row["notice"] for row in rows] == [
        "password_changed",
        "passkey_added",
        "app_changed",
        "recovery_codes_changed",
        "credential_removed",
    ]


CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", "password", {"password": PASSWORD}),
    ("DELETE", "credentials/1e9e9f2a-4d2c-4f36-8ed4-4a2a5e1a1e9e", {}),
    ("POST", "passkeys/options", {}),
    ("POST", "passkeys", {"passkey": {}}),
    ("POST", "totp", {}),
    ("POST", "totp/confirm", {"code": "123456"}),
    ("POST", "recovery-codes", {}),
    ("POST", "credentials/providers/sandbox", {}),
    ("POST", "credentials/providers/sandbox/finish", {"state": "s", "code": "c"}),
    ("DELETE", "credentials/providers/sandbox", {}),
]


async def test_who_logged_in_long_ago_changes_nothing(auth: Auth) -> None:
    for method, path, body in CHANGES:
        login = await auth.log_in()  # somebody else each time: where Redis is slow, a process alone lets each do little
        await auth.world.identity["eu"].execute(
            "UPDATE identity.session SET created_at = created_at - interval '16 min' WHERE session_id = $1",
            login.tokens.session_id,
        )
        assert code_of(await send(auth, login, method, path, **body)) == (403, "step_up_required"), path
        assert (await held(auth, login)) == {"credentials": [], "recoveryCodesLeft": 0}


async def test_a_token_of_no_session_changes_nothing(auth: Auth) -> None:
    for method, path, body in CHANGES:
        headers = {"authorization": f"Bearer {auth.world.token(await auth.world.voter())}"}
        answer = await auth.client.request(method, f"/v1/account/{path}", json=body or None, headers=headers)
        assert code_of(answer) == (403, "step_up_required"), path
        nobody = await auth.client.request(method, f"/v1/account/{path}", json=body or None)
        assert code_of(nobody) == (401, "unauthenticated"), path


async def test_an_app_counts_once_a_code_of_it_was_good(auth: Auth) -> None:
    login = await auth.log_in()
    answer = await send(auth, login, "POST", "totp")
    assert answer.status_code == 200, answer.text
    app = pyotp.parse_uri(answer.json()["uri"])
    assert isinstance(app, pyotp.TOTP)
    assert [each["confirmed"] for each in (await held(auth, login))["credentials"]] == [False]
    code = app.now()
    wrong = f"{(int(code) + 1) % 10**6:06}"
    assert code_of(await send(auth, login, "POST", "totp/confirm", code=wrong)) == (422, "code_wrong")
    assert (await send(auth, login, "POST", "totp/confirm", code=app.now())).status_code == 204
    assert [each["confirmed"] for each in (await held(auth, login))["credentials"]] == [True]
    secret = parse_qs(urlsplit(answer.json()["uri"]).query)["secret"][0]
    (kept,) = await auth.cells.of("eu").credentials.of(login.voter_id, CredentialKind.TOTP)
    assert secret.encode() not in kept.secret


async def test_a_passkey_is_added_and_removed(auth: Auth) -> None:
    login, device = await auth.log_in(), Authenticator()
    options = (await send(auth, login, "POST", "passkeys/options")).json()["options"]
    foreign = device.register(options, origin="https://evil.example.org")
    assert code_of(await send(auth, login, "POST", "passkeys", passkey=foreign)) == (422, "passkey_not_accepted")
    options = (await send(auth, login, "POST", "passkeys/options")).json()["options"]
    good = device.register(options)
    assert (await send(auth, login, "POST", "passkeys", passkey=good)).status_code == 204
    assert code_of(await send(auth, login, "POST", "passkeys", passkey=good)) == (422, "passkey_not_accepted")
    (shown,) = (await held(auth, login))["credentials"]
    assert shown["kind"] == "passkey"
    stranger = await auth.log_in()
    path = f"credentials/{shown['credentialId']}"
    assert code_of(await send(auth, login, "DELETE", path)) == (409, "last_credential")
    assert (await send(auth, login, "PUT", "password", password=PASSWORD)).status_code == 204
    for voter, wrong in ((stranger, path), (login, "credentials/x"), (login, f"credentials/{stranger.voter_id}")):
        assert code_of(await send(auth, voter, "DELETE", wrong)) == (404, "factor_not_found")
    assert (await send(auth, login, "DELETE", path)).status_code == 204
    assert code_of(await send(auth, login, "DELETE", path)) == (404, "factor_not_found")


async def test_a_passkey_made_for_somebody_else_is_not_taken(auth: Auth) -> None:
    login, other = await auth.log_in(), await auth.log_in()
    options = (await send(auth, other, "POST", "passkeys/options")).json()["options"]
    answer = await send(auth, login, "POST", "passkeys", passkey=Authenticator().register(options))
    assert code_of(answer) == (422, "passkey_not_accepted")


async def test_new_recovery_codes_take_the_place_of_the_old(auth: Auth) -> None:
    login = await auth.log_in()
    old = (await send(auth, login, "POST", "recovery-codes")).json()["codes"]
    new = (await send(auth, login, "POST", "recovery-codes")).json()["codes"]
    assert len(set(old) | set(new)) == 2 * RECOVERY_CODES
    assert (await held(auth, login))["recoveryCodesLeft"] == RECOVERY_CODES
    codes = auth.cells.of("eu").recovery_codes
    assert not await codes.redeem(login.voter_id, old[0])
    assert await codes.redeem(login.voter_id, new[0])


@pytest.mark.parametrize(
    "body", [{"password": ""}, {"password": 7}, {"password": "\u0000" * 20}, {"password": PASSWORD, "more": 1}]
)
async def test_what_is_no_password_is_malformed(auth: Auth, body: dict[str, Any]) -> None:
    login = await auth.log_in()
    assert code_of(await send(auth, login, "PUT", "password", **body)) == (400, "malformed_request")
