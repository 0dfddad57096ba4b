"""Logins over HTTP: by every method, challenged, denied, attacked, and while vendors are away."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio

from api.auth.login_room import AT_ONCE
from domain.contracts.login import LoginOutcome, StepUpFactor
from domain.eligibility import VoterStatus
from domain.federation import TRANSACTION_LIFETIME, new_state
from domain.ids import new_recovery_id, session_id_of
from domain.recovery import recovery_token
from domain.sessions import EndReason, LoginMethod
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.login.exchanges import AT_ONE
from integrations.login.passkeys import Passkeys
from integrations.login.passwords import Passwords
from integrations.postgres.account_recoveries import PostgresAccountRecoveries
from integrations.postgres.unopened_logins import end_unopened_logins
from integrations.vendor_settings import PasskeySettings
from tests.answers import code_of
from tests.api.auth.conftest import PUBLIC_URL, Auth
from tests.api.auth.login_town import PASSWORD, WITHIN_S, LoginTown, Person, open_login_town
from tests.audited import leaves
from tests.conftest import OwnerPool, SettingsFor
from tests.integrations.login.authenticator import ORIGIN, RP_ID, Authenticator
from tests.provider_world import SilentProvider, silent_provider

FAILED = (401, "login_failed")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def silent() -> AsyncIterator[SilentProvider]:
    async with silent_provider() as provider:
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def town(settings_for: SettingsFor, auth: Auth, silent: SilentProvider) -> AsyncIterator[LoginTown]:
    async with open_login_town(settings_for, auth, providers={"silent": silent.settings}) as opened:
        yield opened


def claims_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = jwt.decode(answer.json()["accessToken"], options={"verify_signature": False})
    return found


@asynccontextmanager
async def away(town: LoginTown, vendor: str, **fault: Any) -> AsyncIterator[None]:
    """Let a vendor answer nothing of use within the block."""
    await town.control(vendor, "faults", **{"kind": "status", "status": 500, "count": 1000, **fault})
    try:
        yield
    finally:
        await town.vendors.delete(f"/{vendor}/_control/faults")


async def test_a_voter_logs_in_by_mail_and_the_tokens_are_good_elsewhere(
    town: LoginTown, owner_pool: OwnerPool
) -> None:
    person = await town.person()
    async with leaves(await owner_pool("eu"), "auth POST /v1/auth/logins"):
        answer = await town.log_in_by_mail(person)
    claims, body = claims_of(answer), answer.json()
    assert (body["decision"], body["tokenType"], body["sessionId"]) == ("ALLOW", "DPoP", claims["sid"])
    assert (claims["sub"], claims["cell"], claims["cnf"]) == (person.voter_id, "eu", {"jkt": person.key.jkt})
    assert (claims["assurance"], claims["network"]) == ("substantial", "127.0.0.0/24")
    assert "risk" not in claims  # low
    assert len(claims["device"]) == 43
    token = body["accessToken"]
    proof = make_proof(person.key, "GET", f"{PUBLIC_URL}/v1/auth/sessions", time.time(), token=token)
    headers = {"authorization": f"DPoP {token}", "dpop": proof}
    elsewhere = await town.auth.client.get("/v1/auth/sessions", headers=headers)  # another process
    assert [found["method"] for found in elsewhere.json()["sessions"]] == ["mail_code"]
    attempt = await town.last_attempt(person)
    assert (attempt.method, attempt.outcome) == (LoginMethod.MAIL_CODE, LoginOutcome.ALLOWED)
    assert session_id_of(attempt.attempt_id) == body["sessionId"]
    assert attempt.signals.my_logins == 0


async def test_a_login_on_a_known_device_is_allowed_and_on_a_new_one_challenged(
    town: LoginTown, owner_pool: OwnerPool
) -> None:
    person = await town.person("us", password=PASSWORD)
    app = await town.totp(person)
    for _ in range(2):
        assert claims_of(await town.log_in(person))["cell"] == "us"
    person.device = "another"
    challenged = await town.log_in(person)
    assert challenged.status_code == 202, challenged.text
    body = challenged.json()
    assert (body["decision"], body["factors"]) == ("CHALLENGE", ["totp"])
    wrong = await town.step_up(person, body["attemptId"], factor="totp", code="000000")
    assert code_of(wrong) == FAILED
    attempt_id = body["attemptId"]
    async with leaves(await owner_pool("us"), "auth POST /v1/auth/logins/{attempt_id}/step-up", subject=attempt_id):
        claims = claims_of(await town.step_up(person, attempt_id, factor="totp", code=app.now()))
    assert (claims["risk"], claims["sid"]) == ("medium", session_id_of(body["attemptId"]))
    attempt = await town.attempt(body["attemptId"])
    assert "new_device" in attempt.verdict.reasons
    assert attempt.outcome is LoginOutcome.STEPPED_UP
    late = await town.step_up(person, body["attemptId"], factor="totp", code=app.now())
    assert code_of(late) == (404, "login_not_found")
    assert (await town.log_in(person)).status_code == 200  # the device is known now


async def test_a_challenge_is_for_the_client_that_began_and_for_a_factor_of_it(town: LoginTown) -> None:
    person = await town.person(password=PASSWORD)
    app = await town.totp(person)
    await town.log_in(person)
    person.device = "another"
    attempt_id = (await town.log_in(person)).json()["attemptId"]
    thief = await town.step_up(person, attempt_id, ProofKey.generate(), factor="totp", code=app.now())
    assert code_of(thief) == (401, "device_mismatch")
    options = await town.post(person, f"/v1/auth/logins/{attempt_id}/passkey-options", {})
    assert code_of(options) == (404, "factor_not_found")
    password = await town.step_up(person, attempt_id, factor="password", code=PASSWORD)
    assert code_of(password) == (404, "factor_not_found")
    for unknown in ("a_eu_" + "a" * 26, "a_eu_x", "r_eu_" + "a" * 26):
        assert code_of(await town.step_up(person, unknown, factor="totp", code="1")) == (404, "login_not_found")
    sent = await town.post(person, f"/v1/auth/logins/{attempt_id}/step-up-code", {})
    assert code_of(sent) == (404, "factor_not_found")  # who has an app has to use it


async def recover(town: LoginTown, voter_id: str) -> None:
    recoveries, token = (
        PostgresAccountRecoveries(town.auth.cells.of("eu").pool),
        recovery_token("eu", secrets.token_bytes(32)),
    )
    await recoveries.begin(new_recovery_id("eu"), voter_id, token, datetime.now(UTC))
    assert await recoveries.finish(token, b"another") is not None


async def log_out_everywhere(town: LoginTown, voter_id: str) -> None:
    await town.auth.desk.end_all(voter_id, EndReason.LOGGED_OUT_EVERYWHERE)


@pytest.mark.parametrize("end", [recover, log_out_everywhere])
async def test_a_login_that_waits_is_worthless_once_its_voter_has_ended_all(
    town: LoginTown, end: Callable[[LoginTown, str], Awaitable[None]]
) -> None:
    person = await town.person(password=PASSWORD)
    app = await town.totp(person)
    await town.log_in(person)
    thief = Person(person.voter_id, person.mail)
    attempt_id = (await town.log_in(thief)).json()["attemptId"]
    await end(town, person.voter_id)
    late = await town.step_up(thief, attempt_id, factor="totp", code=app.now())
    assert code_of(late) == (404, "login_not_found")
    assert await town.auth.desk.of_voter(person.voter_id) == []


async def test_a_login_whose_account_is_recovered_before_it_is_recorded_has_failed(town: LoginTown) -> None:
    person = await town.person(password=PASSWORD)
    visit, pool = await town.visit(person), town.auth.cells.of("eu").pool
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid())"
    async with pool.acquire() as connection, asyncio.timeout(WITHIN_S):
        async with connection.transaction():
            await connection.execute("SELECT FROM identity.voter WHERE voter_id = $1 FOR UPDATE", person.voter_id)
            logging_in = asyncio.create_task(town.log_in(person, visit=visit))
            while not await pool.fetchval(waiting):
                await asyncio.sleep(0.01)
            await end_unopened_logins(connection, person.voter_id)
        assert code_of(await logging_in) == FAILED
    assert (await town.last_attempt(person)).outcome is LoginOutcome.EXPIRED


async def test_who_has_no_app_steps_up_by_a_code_by_mail(town: LoginTown) -> None:
    person = await town.person(password=PASSWORD)
    await town.log_in(person)
    person.device = "another"
    attempt_id = (await town.log_in(person)).json()["attemptId"]
    sent = await town.post(person, f"/v1/auth/logins/{attempt_id}/step-up-code", {})
    assert sent.status_code == 202, sent.text
    code = await town.code(person)
    assert claims_of(await town.step_up(person, attempt_id, factor="mail_code", code=code))["sub"] == person.voter_id


async def test_a_recovered_account_is_asked_for_its_app_on_the_device_that_it_knew(town: LoginTown) -> None:
    person = await town.person(password=PASSWORD)
    app = await town.totp(person)
    for _ in range(2):
        assert (await town.log_in(person)).status_code == 200
    recoveries = PostgresAccountRecoveries(town.auth.cells.of("eu").pool)
    token, password = recovery_token("eu", secrets.token_bytes(32)), PASSWORD + " again"
    await recoveries.begin(new_recovery_id("eu"), person.voter_id, token, datetime.now(UTC))
    assert await recoveries.finish(token, await Passwords().hash(password)) is not None
    assert code_of(await town.log_in(person)) == FAILED  # the password of before
    challenged = await town.log_in(person, password=password)
    assert (challenged.status_code, challenged.json()["factors"]) == (202, ["totp"])
    attempt_id = challenged.json()["attemptId"]
    assert claims_of(await town.step_up(person, attempt_id, factor="totp", code=app.now()))["sub"] == person.voter_id


async def test_five_wrong_factors_end_a_login(town: LoginTown) -> None:
    person = await town.person(password=PASSWORD)
    await town.log_in(person)
    person.device = "another"
    attempt_id = (await town.log_in(person)).json()["attemptId"]
    codes = [await town.step_up(person, attempt_id, factor="mail_code", code="12345678") for _ in range(5)]
    assert [code_of(answer) for answer in codes] == [FAILED] * 5
    after = await town.step_up(person, attempt_id, factor="mail_code", code="12345678")
    assert code_of(after) == (404, "login_not_found")
    assert (await town.attempt(attempt_id)).outcome is LoginOutcome.STEP_UP_FAILED


@pytest.mark.parametrize(
    ("vendor", "reason", "fault"),
    [
        ("fingerprint", "device_unavailable", {}),
        ("fingerprint", "device_unavailable", {"kind": "html"}),
        ("turnstile", "challenge_unavailable", {}),
        ("turnstile", "challenge_unavailable", {"kind": "never"}),
        ("breaches", "leak_unknown", {"kind": "garbage"}),
    ],
    ids=["no device", "a page for a device", "no challenge", "challenge never", "garbled breaches"],
)
async def test_a_vendor_that_is_away_leads_to_a_further_factor(
    town: LoginTown, vendor: str, reason: str, fault: dict[str, Any]
) -> None:
    person = await town.person(password=PASSWORD)
    visit = await town.visit(person)
    async with away(town, vendor, **fault):
        answer = await town.log_in(person, visit=visit)
    assert answer.status_code == 202, answer.text
    attempt = await town.attempt(answer.json()["attemptId"])
    assert reason in attempt.verdict.reasons


@pytest.mark.parametrize(
    ("change", "event"),
    [
        ({"challengeToken": "made up"}, {}),
        ({"deviceEventId": "1700000000000.made1p"}, {}),
        ({}, {"profile": "bot"}),
        ({}, {"linkedId": "the nonce of another request"}),
        ({}, {"ageMs": 600_000}),
        ({}, {"changes": {"url": "https://vote.example.evil/login"}}),
    ],
    ids=["no token", "no event", "a bot", "event of another request", "old event", "another page"],
)
async def test_a_login_that_the_policy_refuses_is_denied(
    town: LoginTown, change: dict[str, Any], event: dict[str, Any]
) -> None:
    person = await town.person(password=PASSWORD)
    visit = {**await town.visit(person, **event), **change}
    assert code_of(await town.log_in(person, visit=visit)) == (403, "risk_denied")
    assert (await town.last_attempt(person)).outcome is LoginOutcome.DENIED


async def test_a_device_event_is_good_for_one_login(town: LoginTown) -> None:
    person = await town.person(password=PASSWORD)
    visit = await town.visit(person)
    assert (await town.log_in(person, visit=visit)).status_code == 200
    again = {**await town.visit(person, visit["nonce"]), "deviceEventId": visit["deviceEventId"]}
    assert code_of(await town.log_in(person, visit=again)) == (403, "risk_denied")
    assert "event_used" in (await town.last_attempt(person)).verdict.reasons
    assert (await town.log_in(person)).status_code == 200


async def test_a_device_event_that_comes_sealed_is_asked_of_nobody_and_judged_like_any_other(town: LoginTown) -> None:
    person = await town.person(password=PASSWORD)

    async def visit(nonce: str = "", **event: Any) -> dict[str, Any]:
        shown = await town.visit(person, nonce, **event)
        told = await town.control("fingerprint", f"events/{shown['deviceEventId']}/sealed")
        return {**shown, "deviceResult": told["sealed"]}

    first = await visit()
    async with away(town, "fingerprint"):
        assert claims_of(await town.log_in(person, visit=first))["sub"] == person.voter_id
    again = {**await town.visit(person, first["nonce"]), "deviceEventId": first["deviceEventId"]}
    refused = [again | {"deviceResult": first["deviceResult"]}, await visit(profile="bot"), await visit(ageMs=600_000)]
    refused.append({**await visit(), "nonce": secrets.token_hex(16)} | {"deviceResult": first["deviceResult"]})
    for each in refused:
        assert code_of(await town.log_in(person, visit=each)) == (403, "risk_denied")
    other = {**await town.visit(person), "deviceResult": first["deviceResult"]}  # of another event: the vendor is asked
    async with away(town, "fingerprint"):
        challenged = await town.log_in(person, visit=other)
    assert challenged.status_code == 202, challenged.text
    attempt = await town.attempt(challenged.json()["attemptId"])
    assert "device_unavailable" in attempt.verdict.reasons


async def test_what_is_said_against_a_device_is_kept_for_whoever_admits_it_to_a_vote(town: LoginTown) -> None:
    person = await town.person(password=PASSWORD)
    challenged = await town.log_in(person, visit=await town.visit(person, profile="rooted"))
    assert challenged.status_code == 202, challenged.text
    attempt_id = challenged.json()["attemptId"]
    await town.post(person, f"/v1/auth/logins/{attempt_id}/step-up-code", {})
    stepped_up = await town.step_up(person, attempt_id, factor="mail_code", code=await town.code(person))
    assert claims_of(stepped_up)["risk"] == "medium"
    flags = "SELECT DISTINCT flags FROM identity.device_sighting WHERE voter_id = $1"
    pool = town.auth.cells.of("eu").pool
    assert "rooted" in await pool.fetchval(flags, person.voter_id)
    assert (await town.log_in(person)).status_code == 200
    assert [row["flags"] for row in await pool.fetch(flags, person.voter_id)] == [[]]


async def test_whoever_is_refused_hears_one_and_the_same(town: LoginTown) -> None:
    known = await town.person(password=PASSWORD)
    without = await town.person()
    suspended = await town.person(password=PASSWORD, status=VoterStatus.SUSPENDED)
    nobody = Person(known.voter_id, f"{secrets.token_hex(5)}@example.org")
    offers: list[tuple[Person, dict[str, Any]]] = [
        (known, {"password": PASSWORD + "r"}),
        (known, {"password": "short"}),
        (without, {}),
        (nobody, {}),
        (suspended, {}),
        (known, {"method": "mail_code", "code": "12345678", "password": None}),
        (nobody, {"method": "mail_code", "code": "12345678", "password": None}),
        (known, {"method": "passkey", "passkey": {"id": "none"}, "mail": None, "password": None}),
        (known, {"method": "oidc", "state": "st_eu_" + "a" * 43, "code": "none", "mail": None, "password": None}),
    ]
    for person, offer in offers:
        began = time.monotonic()
        answer = await town.log_in(person, **offer)
        assert code_of(answer) == FAILED, offer
        assert time.monotonic() - began >= 0.25
        assert {**answer.json(), "requestId": ""} == {
            "type": "urn:comitia:problem:login_failed",
            "title": "The login was not accepted",
            "status": 401,
            "code": "login_failed",
            "requestId": "",
        }


async def test_without_a_humans_token_a_guess_tells_nothing(town: LoginTown) -> None:
    person = await town.person(password=PASSWORD)
    for password in (PASSWORD, PASSWORD + "r"):
        visit = {**await town.visit(person), "challengeToken": "made up"}
        began = time.monotonic()
        assert code_of(await town.log_in(person, password=password, visit=visit)) == (403, "risk_denied")
        assert time.monotonic() - began >= 0.25  # the good one is no sooner known
    visit = await town.visit(person)  # and one token is good for one guess
    assert code_of(await town.log_in(person, password=PASSWORD + "r", visit=visit)) == FAILED
    assert code_of(await town.log_in(person, visit=visit)) == (403, "risk_denied")


async def test_after_a_row_of_wrong_passwords_even_the_right_one_waits(town: LoginTown) -> None:
    person = await town.person(password=PASSWORD)
    for _ in range(5):
        assert code_of(await town.log_in(person, password=PASSWORD + "r")) == FAILED
    assert code_of(await town.log_in(person)) == FAILED
    pool = town.auth.cells.of("eu").pool
    await pool.execute(
        "UPDATE identity.credential SET last_failed_at = now() - interval '1 min' WHERE voter_id = $1", person.voter_id
    )
    assert (await town.log_in(person)).status_code in {200, 202}
    assert (await town.last_attempt(person)).signals.failures_per_hour == 6


async def test_a_password_known_from_breaches_asks_for_a_further_factor(town: LoginTown) -> None:
    password = f"{PASSWORD} {secrets.token_hex(4)}"
    person = await town.person(password=password)
    await town.control("breaches", "breaches", password=password)
    answer = await town.log_in(person, password=password)
    assert answer.status_code == 202, answer.text
    assert "credential_leaked" in (await town.attempt(answer.json()["attemptId"])).verdict.reasons


async def test_a_code_is_good_once_and_for_who_asked_for_it(town: LoginTown) -> None:
    person = await town.person()
    visit = await town.visit(person)
    await town.ask_for_code(person, visit["nonce"])
    code, method = await town.code(person), {"method": "mail_code", "password": None}
    assert code_of(await town.log_in(person, code=code, **method)) == FAILED  # with another nonce
    assert (await town.log_in(person, code=code, visit=visit, **method)).status_code == 200
    again = {**await town.visit(person, visit["nonce"])}
    assert code_of(await town.log_in(person, code=code, visit=again, **method)) == FAILED


async def test_a_code_for_nobody_is_answered_like_any_other(town: LoginTown) -> None:
    person = await town.person()
    nobody = Person(person.voter_id, f"{secrets.token_hex(5)}@example.org")
    answers = [await town.ask_for_code(each, secrets.token_hex(16)) for each in (person, nobody)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(202, "{}")}
    await town.code(person)
    assert not await town.mail.wait_for(nobody.mail, 0.2)
    bot = await town.ask_for_code(person, secrets.token_hex(16), challengeToken="made up")
    assert code_of(bot) == (403, "challenge_failed")


async def test_a_passkey_logs_in_whoever_has_it_in_whichever_cell(town: LoginTown) -> None:
    person, authenticator = await town.person("us"), Authenticator()
    passkeys = passkeys_of(town, "us")
    made = authenticator.register(await passkeys.begin_registration(person.voter_id, "account"))
    assert await passkeys.finish_registration(person.voter_id, made)
    options = (await town.client.post("/v1/auth/logins/passkey-options", json={})).json()["options"]
    answer = authenticator.sign(options)
    offer = {"method": "passkey", "passkey": answer, "mail": None, "password": None}
    assert claims_of(await town.log_in(person, **offer))["sub"] == person.voter_id
    assert code_of(await town.log_in(person, **offer)) == FAILED  # a challenge is good once
    person.device = "another"
    again = authenticator.sign((await town.client.post("/v1/auth/logins/passkey-options", json={})).json()["options"])
    challenged = await town.log_in(person, **{**offer, "passkey": again})
    assert challenged.json()["factors"] == [StepUpFactor.MAIL_CODE]


def passkeys_of(town: LoginTown, cell: str) -> Passkeys:
    kept = town.auth.cells.of(cell)
    settings = PasskeySettings(rp_id=RP_ID, origins=(ORIGIN,))
    return Passkeys(cell, settings, kept.credentials, kept.records, kept.transactions)


async def test_who_is_known_at_a_provider_logs_in_there(town: LoginTown) -> None:
    person, issuer = await town.person("us"), town.auth.provider.issuer()
    asked = {"dpop_jkt": person.key.jkt}
    offers = []
    for _ in range(2):
        url = (await town.client.get("/v1/auth/oidc/sandbox/authorize", params=asked)).json()["url"]
        async with httpx.AsyncClient() as browser:
            back = httpx.URL((await browser.get(url)).headers["location"]).params
        offers.append({"method": "oidc", "state": back["state"], "code": back["code"], "mail": None, "password": None})
    assert code_of(await town.log_in(person, **offers[0])) == FAILED  # nobody's account yet
    await town.knows_at_provider(person, issuer.settings.issuer, issuer.subject)
    claims = claims_of(await town.log_in(person, **offers[1]))
    assert claims["sub"] == person.voter_id
    row = await town.auth.cells.of("us").pool.fetchrow(
        "SELECT provider, provider_session FROM identity.session WHERE session_id = $1", claims["sid"]
    )
    assert row is not None
    assert row["provider"] == "sandbox"
    assert len(row["provider_session"]) == 32


async def test_a_provider_that_says_nothing_holds_up_its_own_logins_alone(
    town: LoginTown, silent: SilentProvider
) -> None:
    person = await town.person(password=PASSWORD)
    transactions = town.auth.cells.of("eu").transactions
    visit = {"nonce": secrets.token_hex(16), "challengeToken": "t", "deviceEventId": "e"}

    async def at_provider() -> httpx.Response:
        """Log in there; a process that is late with everything is asked again."""
        while True:
            state = new_state("eu")
            await transactions.begin("oidc", state, f"silent {person.key.jkt}", TRANSACTION_LIFETIME)
            back = {"state": state, "code": "c"}
            answer = await town.log_in(person, method="oidc", mail=None, password=None, visit=visit, **back)
            if code_of(answer) != (503, "overloaded"):
                return answer

    logins = [asyncio.create_task(at_provider()) for _ in range(2 * AT_ONE)]
    hanging: list[asyncio.Task[httpx.Response]] = []
    try:
        async with asyncio.timeout(2 * WITHIN_S):  # beside others a login takes a second, and these are many
            # Half of them are refused once the others have every place there is at this provider, and not before
            while not silent.callers or len(hanging := [each for each in logins if not each.done()]) > AT_ONE:
                await asyncio.sleep(0.02)
            refused = [each.result() for each in logins if each.done()]
            refused += [await at_provider() for _ in range(AT_ONCE)]  # more than there are places for logins
            assert (await town.log_in(person)).status_code == 200
        assert {code_of(each) for each in refused} == {(503, "identity_provider_unavailable")}
        assert {each.headers["retry-after"] for each in refused} == {"4", "5", "6"}
        assert not any(each.done() for each in hanging)
        assert await logins_in_work(town) == AT_ONE
    finally:
        silent.hang_up()
        await asyncio.gather(*logins)
    answers = [each.result() for each in hanging]
    assert len(answers) == AT_ONE
    assert {code_of(each) for each in answers} == {(503, "identity_provider_unavailable")}
    assert not silent.callers, "who waited for the answer that did not come has not asked once more"


async def logins_in_work(town: LoginTown) -> float:
    lines = (await town.client.get("/metrics")).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("logins_in_work ")))


async def test_what_is_not_whole_is_refused_before_anything_is_counted(town: LoginTown) -> None:
    person = await town.person()
    for body in ({"password": None}, {"mail": None}, {"mail": "nobody"}, {"method": "oidc"}):
        assert code_of(await town.log_in(person, **body)) == (400, "malformed_request"), body
    body = {"method": "password", "mail": "a@example.org", "password": "x", **await town.visit(person)}
    answer = await town.client.post("/v1/auth/logins", json=body)
    assert code_of(answer) == (401, "proof_invalid")


async def test_many_logins_at_once_are_each_one_attempt_and_one_session(town: LoginTown) -> None:
    person = await town.person(password=PASSWORD)
    await town.log_in(person)
    answers = await asyncio.gather(*(town.log_in(person) for _ in range(4)))
    sessions = {claims_of(answer)["sid"] for answer in answers}
    assert len(sessions) == 4
    pool = town.auth.cells.of("eu").pool
    rows = await pool.fetch("SELECT attempt_id FROM identity.login_attempt WHERE voter_id = $1", person.voter_id)
    assert len(rows) == 5
    assert sessions < {session_id_of(row["attempt_id"]) for row in rows}
    seen = await pool.fetchval(
        "SELECT seen FROM identity.login_feature WHERE voter_id = $1 AND feature = 'any'", person.voter_id
    )
    assert seen == 5
