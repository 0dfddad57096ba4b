"""Factors over a real database, attacked: guessed, repeated at once, copied, and brought from elsewhere."""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pyotp
import pytest
import pytest_asyncio

from domain.accounts import PersonalData
from domain.credentials import CODE_TRIES, Credential, CredentialKind, may_try, new_sent_code, wait_after
from domain.errors import DomainError
from domain.ids import new_voter_id
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import KEK_PERSONAL, LOOKUP
from integrations.login.passkeys import PASSKEYS_MAX, Passkeys
from integrations.login.passwords import PasswordCheck, Passwords
from integrations.login.recovery_codes import RecoveryCodes
from integrations.login.totp import STEP_S, TotpFactor
from integrations.postgres.credentials import PostgresCredentials, PostgresSentCodes
from integrations.postgres.login_transactions import PostgresLoginTransactions
from integrations.postgres.personal_records import PostgresPersonalRecords
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY
from integrations.vendor_settings import PasskeySettings
from tests.conftest import SettingsFor
from tests.integrations.login.authenticator import ORIGIN, RP_ID, Authenticator

PASSWORD = "correct horse battery staple"
AT = 1_800_000_000.0


@dataclass
class Factors:
    """What logins are made of, and the clock of authenticator apps."""

    pool: asyncpg.Pool
    credentials: PostgresCredentials
    records: PostgresPersonalRecords
    codes: PostgresSentCodes
    passkeys: Passkeys
    now: float = AT

    @property
    def totp(self) -> TotpFactor:
        return TotpFactor(self.credentials, self.records, now=lambda: self.now)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def factors(settings_for: SettingsFor) -> AsyncIterator[Factors]:
    settings = settings_for(IDENTITY)
    keys = open_keys(settings, KEK_PERSONAL, LOOKUP)
    pool = await open_pool(settings.cells["eu"].database, settings, IDENTITY)
    credentials, records = PostgresCredentials(pool), PostgresPersonalRecords(pool, keys)
    passkeys = Passkeys(
        "eu",
        PasskeySettings(rp_id=RP_ID, origins=(ORIGIN,)),
        credentials,
        records,
        PostgresLoginTransactions(pool),
    )
    yield Factors(pool, credentials, records, PostgresSentCodes(pool, KeyedLookupHashes(keys)), passkeys)
    await pool.close()


@pytest.fixture
def voter() -> str:
    return new_voter_id("eu")


async def enrolled(factors: Factors, voter: str, at: float = AT) -> pyotp.TOTP:
    factors.now = at
    uri = await factors.totp.enrol(voter, "ada")
    app = pyotp.TOTP(parse_qs(urlsplit(uri).query)["secret"][0])
    assert not await factors.totp.has(voter)
    assert not await factors.totp.check(voter, app.at(factors.now))  # not before it was confirmed
    assert await factors.totp.confirm(voter, app.at(factors.now))
    assert await factors.totp.has(voter)
    factors.now += 10 * STEP_S
    return app


async def test_a_password_is_right_or_not(factors: Factors, voter: str) -> None:
    passwords = Passwords()
    kept = await passwords.hash(PASSWORD)
    assert kept.startswith(b"$argon2id$v=19$m=19456,t=2,p=1$")
    assert (await passwords.check(PASSWORD, kept)).right
    for wrong in ("another horse battery staple", "", "x" * 100_000):
        assert not (await passwords.check(wrong, kept)).right
    assert not (await passwords.check("the password of nobody", None)).right
    assert not (await passwords.check(PASSWORD, b"nonsense")).right


class SlowPasswords(Passwords):
    """Checks take until they may go on."""

    def __init__(self) -> None:
        super().__init__(memory_kib=64, passes=1)
        self.begun = 0
        self.go_on = threading.Event()

    def _check(self, password: str, kept: bytes | None) -> PasswordCheck:
        self.begun += 1
        self.go_on.wait(20)
        return super()._check(password, kept)

    async def begins(self, count: int, within_s: float = 20) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.begun < count:
                    await asyncio.sleep(0.005)
        return self.begun >= count


async def test_a_hash_that_nobody_waits_for_keeps_its_turn_until_it_is_done() -> None:
    passwords = SlowPasswords()
    try:
        for count in range(1, 5):
            leaving = asyncio.create_task(passwords.check(PASSWORD, None))
            assert await passwords.begins(count)
            leaving.cancel()
            await asyncio.wait({leaving})
        waiting = asyncio.create_task(passwords.check(PASSWORD, None))
        assert not await passwords.begins(5, within_s=0.1)  # four work, though nobody waits for them
        assert passwords.waiting == 1
    finally:
        passwords.go_on.set()
    assert not (await waiting).right
    assert passwords.begun == 5
    assert passwords.waiting == 0


async def test_keyboards_agree_on_a_password() -> None:
    passwords = Passwords(memory_kib=64, passes=1)
    assert (await passwords.check("pa\u0308ssword of mine", await passwords.hash("p\u00e4ssword of mine"))).right


@pytest.mark.parametrize("password", ["", "fourteen chars", "x" * 257])
async def test_what_is_too_short_or_too_long_is_no_password(password: str) -> None:
    with pytest.raises(DomainError, match="password_not_accepted"):
        await Passwords().hash(password)


async def test_an_old_hash_is_replaced_and_a_changed_password_stays(factors: Factors, voter: str) -> None:
    old = await Passwords(memory_kib=64, passes=1).hash(PASSWORD)
    await factors.credentials.put(voter, CredentialKind.PASSWORD, old)
    [credential] = await factors.credentials.of(voter, CredentialKind.PASSWORD)
    checked = await Passwords().check(PASSWORD, credential.secret)
    assert checked.right
    assert checked.rehashed is not None
    await factors.credentials.rehash(credential, checked.rehashed)
    [renewed] = await factors.credentials.of(voter, CredentialKind.PASSWORD)
    assert await Passwords().check(PASSWORD, renewed.secret) == type(checked)(right=True)
    await factors.credentials.rehash(credential, b"late")
    assert [found.secret for found in await factors.credentials.of(voter, CredentialKind.PASSWORD)] == [renewed.secret]


async def test_a_step_of_an_app_is_good_once(factors: Factors, voter: str) -> None:
    app = await enrolled(factors, voter)
    code = app.at(factors.now)
    results = await asyncio.gather(*(factors.totp.check(voter, code) for _ in range(4)))
    assert sorted(results) == [False, False, False, True]
    factors.now += STEP_S
    assert not await factors.totp.check(voter, code)  # still in the window, but used
    assert await factors.totp.check(voter, app.at(factors.now))
    assert not await factors.totp.check(voter, app.at(factors.now - STEP_S))  # earlier than what was used


async def test_an_app_may_be_one_step_away(factors: Factors, voter: str) -> None:
    app = await enrolled(factors, voter)
    assert not await factors.totp.check(voter, app.at(factors.now - 2 * STEP_S))
    assert not await factors.totp.check(voter, app.at(factors.now + 2 * STEP_S))
    assert await factors.totp.check(voter, app.at(factors.now - STEP_S))
    assert await factors.totp.check(voter, app.at(factors.now + STEP_S))


async def test_guessing_at_an_app_is_slowed_down(factors: Factors, voter: str) -> None:
    app = await enrolled(factors, voter, time.time() - 3600)
    factors.now = time.time()  # failures are dated by the database
    for _ in range(5):
        assert not await factors.totp.check(voter, "x")
    assert not await factors.totp.check(voter, app.at(factors.now))  # right, but not now
    factors.now += 60
    assert await factors.totp.check(voter, app.at(factors.now))


async def test_of_guesses_that_come_all_at_once_no_more_are_tried_than_one_by_one(factors: Factors, voter: str) -> None:
    await factors.credentials.put(voter, CredentialKind.PASSWORD, b"hashed")
    guesses = [(await factors.credentials.of(voter, CredentialKind.PASSWORD))[0] for _ in range(12)]
    for wrong in guesses[:4]:
        await factors.credentials.failed(wrong)
    assert await factors.credentials.succeeded(guesses[4], 0)
    for wrong in guesses[:5]:
        await factors.credentials.failed(wrong)
    assert not await factors.credentials.succeeded(guesses[5], 0)  # read before any of the others had failed
    waited = (await factors.credentials.of(voter, CredentialKind.PASSWORD))[0]
    assert await factors.credentials.succeeded(waited, 0)


def test_waiting_doubles_and_ends() -> None:
    waits = [wait_after(failures).total_seconds() for failures in (0, 4, 5, 6, 7, 11, 1000)]
    assert waits == [0, 0, 15, 30, 60, 900, 900]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    tried = Credential("c", "v", CredentialKind.TOTP, b"", 0, True, 5, now, now)  # noqa: FBT003
    assert not may_try(tried, now + timedelta(seconds=14.9))
    assert may_try(tried, now + timedelta(seconds=15))


async def test_the_secret_of_an_app_ends_with_the_voters_key(factors: Factors, voter: str) -> None:
    app = await enrolled(factors, voter)
    [credential] = await factors.credentials.of(voter, CredentialKind.TOTP)
    assert app.secret.encode() not in credential.secret
    other = new_voter_id("eu")
    await factors.records.put(other, PersonalData({"mail": "x"}))
    with pytest.raises(DomainError, match="key_unavailable"):
        await factors.records.unseal(other, credential.secret)
    await factors.records.destroy(voter)
    assert not await factors.totp.check(voter, app.at(factors.now))
    assert await factors.credentials.remove(voter) == 1


async def test_a_sent_code_is_good_once_and_for_its_subject(factors: Factors) -> None:
    subject, code = f"a_eu_{secrets.token_hex(8)}", new_sent_code()
    await factors.codes.put(subject, code)
    assert not await factors.codes.redeem(subject + "x", code)
    results = await asyncio.gather(*(factors.codes.redeem(subject, code) for _ in range(4)))
    assert sorted(results) == [False, False, False, True]
    stored = await factors.pool.fetchrow("SELECT * FROM identity.sent_code WHERE subject = $1", subject)
    assert code not in str(stored)


async def test_five_guesses_at_once_are_five(factors: Factors) -> None:
    subject, code = f"a_eu_{secrets.token_hex(8)}", "12345678"
    await factors.codes.put(subject, code)
    guesses = [f"{guess:08}" for guess in range(CODE_TRIES)]
    assert not any(await asyncio.gather(*(factors.codes.redeem(subject, guess) for guess in guesses)))
    assert not await factors.codes.redeem(subject, code)
    await factors.codes.put(subject, code)  # sent again
    assert await factors.codes.redeem(subject, code)


async def test_an_expired_code_is_none(factors: Factors) -> None:
    subject = f"a_eu_{secrets.token_hex(8)}"
    await factors.codes.put(subject, "12345678")
    await factors.pool.execute("UPDATE identity.sent_code SET expires_at = now() WHERE subject = $1", subject)
    assert not await factors.codes.redeem(subject, "12345678")


async def test_recovery_codes_are_good_once_and_for_their_voter(factors: Factors, voter: str) -> None:
    recovery = RecoveryCodes(factors.credentials)
    old, codes = await recovery.renew(voter), await recovery.renew(voter)
    assert len(set(codes)) == 10
    assert not await recovery.redeem(voter, old[0])
    assert not await recovery.redeem(new_voter_id("eu"), codes[0])
    results = await asyncio.gather(*(recovery.redeem(voter, codes[0]) for _ in range(4)))
    assert sorted(results) == [False, False, False, True]
    assert await recovery.redeem(voter, codes[1].upper().replace("-", " "))


async def registered(factors: Factors, voter: str) -> Authenticator:
    authenticator = Authenticator()
    options = await factors.passkeys.begin_registration(voter, "ada")
    assert options["rp"]["id"] == RP_ID
    assert await factors.passkeys.finish_registration(voter, authenticator.register(options))
    return authenticator


async def test_a_passkey_says_who_it_is(factors: Factors, voter: str) -> None:
    authenticator = await registered(factors, voter)
    assert await factors.passkeys.finish_login(authenticator.sign(await factors.passkeys.begin_login())) == voter
    options = await factors.passkeys.begin_login(voter)
    assert len(options["allowCredentials"]) == 1
    assert await factors.passkeys.finish_login(authenticator.sign(options)) == voter


async def test_a_voter_has_so_many_passkeys_and_those_in_doubt_do_not_count_where_they_are_removed(
    factors: Factors, voter: str
) -> None:
    sealed, month = await factors.records.seal(voter, PersonalData({"passkey_id": "AAAA"})), timedelta(days=30)

    async def is_taken(**doubted: timedelta) -> bool:
        options = await factors.passkeys.begin_registration(voter, "ada", **doubted)
        assert len(options.get("excludeCredentials", [])) == (0 if doubted and not is_old else PASSKEYS_MAX)
        made = await factors.passkeys.checked_registration(voter, Authenticator().register(options), **doubted)
        return made is not None

    is_old = False
    for _ in range(PASSKEYS_MAX):
        await factors.credentials.put(voter, CredentialKind.PASSKEY, sealed, handle=secrets.token_bytes(32))
    assert [await is_taken(), await is_taken(doubted_for=month)] == [False, True]
    is_old = True
    await factors.pool.execute(
        "UPDATE identity.credential SET created_at = created_at - interval '31 days' WHERE voter_id = $1", voter
    )
    assert not await is_taken(doubted_for=month)


async def test_a_passkey_is_one_accounts(factors: Factors, voter: str) -> None:
    authenticator, thief = await registered(factors, voter), new_voter_id("eu")
    options = await factors.passkeys.begin_registration(thief, "eve")
    assert not await factors.passkeys.finish_registration(thief, authenticator.register(options))
    options = await factors.passkeys.begin_registration(voter, "ada")
    assert not await factors.passkeys.finish_registration(thief, Authenticator().register(options))
    options = await factors.passkeys.begin_login(thief)
    assert await factors.passkeys.finish_login(authenticator.sign(options)) is None


WRONG: list[dict[str, Any]] = [
    {"origin": "https://vote.example.org.evil.example"},
    {"origin": "http://vote.example.org"},
    {"rp_id": "evil.example"},
    {"challenge": "c3RfZXVfYWFh"},
    {"flags": 0x01},  # present, not verified
    {"flags": 0x04},  # verified, not present
    {"type": "webauthn.other"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: "{}={}".format(*next(iter(wrong.items()))))
async def test_an_answer_that_is_not_ours_is_refused(factors: Factors, voter: str, wrong: dict[str, Any]) -> None:
    options = await factors.passkeys.begin_registration(voter, "ada")
    assert not await factors.passkeys.finish_registration(voter, Authenticator().register(options, **wrong))
    authenticator = await registered(factors, voter)
    options = await factors.passkeys.begin_login(voter)
    assert await factors.passkeys.finish_login(authenticator.sign(options, **wrong)) is None


DEEP: dict[str, Any] = {}
for _ in range(20_000):
    DEEP = {"": DEEP}


@pytest.mark.parametrize(
    "change",
    [
        {"attestation": {"fmt": "none", "attStmt": {}, "authData": b""}},
        {"attestation": {"fmt": "android-safetynet", "attStmt": {"ver": "1", "response": "x"}}},
        {"attestation": [], "cose": []},
        {"cose": [1]},
        {"besides": {"clientExtensionResults": DEEP}},
    ],
    ids=["no data", "another type", "no map", "no key", "deep"],
)
async def test_an_authenticator_that_says_nonsense_is_refused(
    factors: Factors, voter: str, change: dict[str, Any]
) -> None:
    options = await factors.passkeys.begin_registration(voter, "ada")
    answer = {**Authenticator().register(options, **change), **change.get("besides", {})}
    assert not await factors.passkeys.finish_registration(voter, answer)


async def test_a_challenge_is_good_once(factors: Factors, voter: str) -> None:
    authenticator = await registered(factors, voter)
    options = await factors.passkeys.begin_login(voter)
    answers = [authenticator.sign(options) for _ in range(3)]
    results = await asyncio.gather(*(factors.passkeys.finish_login(answer) for answer in answers))
    assert sorted(results, key=str) == [None, None, voter]
    wrong = await factors.passkeys.begin_login(voter)
    assert await factors.passkeys.finish_login(authenticator.sign(wrong, signature=True)) is None
    assert await factors.passkeys.finish_login(authenticator.sign(wrong)) is None  # used up by the wrong answer
    enrolment = await factors.passkeys.begin_registration(voter, "ada")
    assert await factors.passkeys.finish_login(authenticator.sign(enrolment)) is None  # of another kind


@pytest.mark.parametrize("counter", [0, 1, 5])
async def test_a_counter_that_does_not_grow_is_of_a_copy(factors: Factors, voter: str, counter: int) -> None:
    authenticator = await registered(factors, voter)
    authenticator.signatures = 4
    assert await factors.passkeys.finish_login(authenticator.sign(await factors.passkeys.begin_login())) == voter
    options = await factors.passkeys.begin_login()
    assert await factors.passkeys.finish_login(authenticator.sign(options, counter=counter)) is None


@pytest.mark.parametrize("response", [{}, {"response": 7}, {"rawId": 1, "response": {"clientDataJSON": "\xff"}}])
async def test_what_is_no_answer_is_refused(factors: Factors, voter: str, response: dict[str, Any]) -> None:
    assert await factors.passkeys.finish_login(response) is None
    assert not await factors.passkeys.finish_registration(voter, response)
