"""Links in a real cell: good once, for a while, and only the newest; what follows a use is one transaction."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from domain.accounts import LookupKind
from domain.contracts.login import EndLoginInput, LoginDecision, LoginOutcome, RecordLoginInput, StepUpFactor
from domain.credentials import CredentialKind, NewPasskey
from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.ids import new_recovery_id
from domain.recovery import Recoverable, recovery_token
from domain.sessions import EndReason
from integrations.postgres.account_recoveries import PostgresAccountRecoveries
from integrations.postgres.accounts import PostgresAccounts
from integrations.postgres.credentials import PostgresCredentials
from integrations.postgres.device_sightings import PostgresDeviceSightings
from integrations.postgres.login_ways import PostgresLoginWays
from integrations.postgres.logins import PostgresLogins
from integrations.postgres.sessions import PostgresSessions
from integrations.postgres.unopened_logins import end_unopened_logins
from tests.conftest import OwnerPool
from tests.integrations.postgres.account_rows import hashed, make_account, open_session
from tests.integrations.postgres.test_logins import login

AT = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def recoveries(identity_pool: asyncpg.Pool) -> PostgresAccountRecoveries:
    return PostgresAccountRecoveries(identity_pool)


async def linked(recoveries: PostgresAccountRecoveries, voter: str, at: datetime = AT) -> tuple[str, str]:
    """Return a request and its token."""
    request, token = new_recovery_id("eu"), recovery_token("eu", secrets.token_bytes(32))
    await recoveries.begin(request, voter, token, at)
    return request, token


async def test_an_address_leads_to_an_account_that_may_log_in(
    recoveries: PostgresAccountRecoveries, identity_pool: asyncpg.Pool
) -> None:
    mail = hashed()
    voter = await make_account(identity_pool, mail)
    accounts, credentials = PostgresAccounts(identity_pool, "eu"), PostgresCredentials(identity_pool)
    assert await recoveries.find([hashed(), mail]) == Recoverable(voter, at_provider=False)
    assert await recoveries.find([hashed()]) is None
    await accounts.add_lookup(voter, LookupKind.LOGIN, [hashed()])
    assert await recoveries.find([mail]) == Recoverable(voter, at_provider=True)
    await credentials.put(voter, CredentialKind.TOTP, b"sealed")
    assert await recoveries.find([mail]) == Recoverable(voter, at_provider=True)
    await credentials.put(voter, CredentialKind.PASSWORD, b"hash")
    assert await recoveries.find([mail]) == Recoverable(voter, at_provider=False)
    await accounts.set_status(voter, VoterStatus.SUSPENDED, "test")
    assert await recoveries.find([mail]) is None


async def test_a_thief_who_links_a_login_and_removes_the_rest_keeps_nobody_out(
    recoveries: PostgresAccountRecoveries, identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    mail = hashed()
    voter = await make_account(identity_pool, mail)
    credentials, ways = PostgresCredentials(identity_pool), PostgresLoginWays(identity_pool)
    await credentials.put(voter, CredentialKind.PASSWORD, b"hash")
    await linked_at_provider(ways, voter, "google")
    (password,) = await credentials.of(voter, CredentialKind.PASSWORD)
    assert await ways.remove_credential(voter, password.credential_id)
    assert await recoveries.find([mail]) == Recoverable(voter, at_provider=False)  # a link is sent to the mailbox
    await (await owner_pool("eu")).execute(
        "UPDATE identity.lookup SET linked_at = linked_at - interval '31 days' WHERE voter_id = $1", voter
    )
    assert await recoveries.find([mail]) == Recoverable(voter, at_provider=True)


async def test_a_link_is_good_once_and_changes_everything_at_once(
    recoveries: PostgresAccountRecoveries, identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    voter = await make_account(identity_pool)
    sessions = {await open_session(identity_pool, voter) for _ in range(2)}
    credentials = PostgresCredentials(identity_pool)
    await credentials.put(voter, CredentialKind.TOTP, b"sealed")
    device, sightings = [hashed()], PostgresDeviceSightings(identity_pool)
    await sightings.note(device, voter, AT)
    request, token = await linked(recoveries, voter)
    assert await recoveries.voter_of(token) == voter
    done = await asyncio.gather(*(recoveries.finish(token, f"hash {number}".encode()) for number in range(6)))
    (used,) = [each for each in done if each is not None]
    assert (used.request_id, used.voter_id, set(used.ended)) == (request, voter, sessions)
    assert await recoveries.voter_of(token) == ""
    assert await recoveries.is_used(request)
    assert list(await PostgresSessions(identity_pool).of_voter(voter)) == []
    (password,) = await credentials.of(voter, CredentialKind.PASSWORD)
    assert password.secret == f"hash {done.index(used)}".encode()
    assert len(await credentials.of(voter, CredentialKind.TOTP)) == 1  # no way around the second factor
    assert (await sightings.correlate(device, voter, AT)).devices_of_account == 0
    owner = await owner_pool("eu")
    reasons = await owner.fetch("SELECT end_reason FROM identity.session WHERE voter_id = $1", voter)
    assert {row["end_reason"] for row in reasons} == {"recovered"}
    text = str(await owner.fetch("SELECT * FROM identity.recovery WHERE voter_id = $1", voter))
    assert token[6:] not in text


async def test_what_was_added_lately_goes_and_what_is_older_stays(
    recoveries: PostgresAccountRecoveries, identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    voter, owner = await make_account(identity_pool), await owner_pool("eu")
    credentials, ways = PostgresCredentials(identity_pool), PostgresLoginWays(identity_pool)
    old, thiefs, own = (secrets.token_bytes(32) for _ in range(3))
    await credentials.put(voter, CredentialKind.PASSKEY, b"old", handle=old)
    await credentials.put(voter, CredentialKind.RECOVERY_CODE, b"old", handle=secrets.token_bytes(32))
    await credentials.put(voter, CredentialKind.PASSWORD, b"known to a thief")
    await linked_at_provider(ways, voter, "google")
    for table, column in (("credential", "created_at"), ("lookup", "linked_at")):
        await owner.execute(
            f"UPDATE identity.{table} SET {column} = {column} - interval '31 days' WHERE voter_id = $1", voter
        )
    await credentials.put(voter, CredentialKind.PASSKEY, b"new", handle=thiefs)
    for _ in range(2):
        await credentials.put(voter, CredentialKind.RECOVERY_CODE, b"new", handle=secrets.token_bytes(32))
    await credentials.put(voter, CredentialKind.TOTP, b"sealed")
    await linked_at_provider(ways, voter, "apple")
    begun = [hashed()]
    await ways.begin_link(voter, "facebook", begun)
    _, token = await linked(recoveries, voter)
    used = await recoveries.finish(token, passkey=NewPasskey(b"own", own, 3))
    assert used is not None
    assert used.removed == 4
    assert await credentials.of(voter, CredentialKind.PASSWORD) == []  # whoever knows it
    assert [code.secret for code in await credentials.of(voter, CredentialKind.RECOVERY_CODE)] == [b"old"]
    kept = await credentials.of(voter, CredentialKind.PASSKEY)
    assert [(passkey.secret, passkey.counter) for passkey in kept] == [(b"old", 0), (b"own", 3)]
    assert [link.provider for link in await ways.links(voter)] == ["google"]
    assert not await ways.finish_link(voter, "facebook", begun)
    assert len(await credentials.of(voter, CredentialKind.TOTP)) == 1
    reason = "SELECT reason FROM identity.change WHERE subject = $1 AND change = 'account_recovered'"
    assert await owner.fetchval(reason, voter) == "removed=4"


async def test_a_login_that_was_proven_before_opens_no_session_afterwards(
    recoveries: PostgresAccountRecoveries, identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    voter, logins, owner = await make_account(identity_pool), PostgresLogins(identity_pool), await owner_pool("eu")
    waits = login(LoginDecision.CHALLENGE, voter, factors=(StepUpFactor.IDP,))
    await logins.record(waits)
    passed_at = await owner.fetchval("SELECT now()")
    _, token = await linked(recoveries, voter)
    assert await recoveries.finish(token, b"hash") is not None
    late = EndLoginInput(
        attempt_id=waits.request.attempt_id, voter_id=voter, outcome=LoginOutcome.STEPPED_UP, counts=waits.counts
    )
    assert await logins.end(late) is LoginOutcome.EXPIRED
    ends = "SELECT body ->> 'outcome' FROM audit.entry WHERE kind = 'login.ended' AND body ->> 'subject' = $1"
    assert [row[0] for row in await owner.fetch(ends, waits.request.attempt_id)] == ["expired"]
    with pytest.raises(DomainError) as refused:
        await open_session(identity_pool, voter, passed_at)
    assert refused.value.code is ErrorCode.LOGIN_FAILED
    assert await PostgresSessions(identity_pool).of_voter(voter) == []
    opened = await open_session(identity_pool, voter, await owner.fetchval("SELECT now()"))
    assert [each.session_id for each in await PostgresSessions(identity_pool).of_voter(voter)] == [opened]


async def test_who_opens_a_session_while_the_account_is_recovered_waits_and_is_refused(
    identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    voter, owner = await make_account(identity_pool), await owner_pool("eu")
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid())"
    passed_at = await owner.fetchval("SELECT now()")
    async with identity_pool.acquire() as connection, asyncio.timeout(20):
        async with connection.transaction():
            await end_unopened_logins(connection, voter)
            opening = asyncio.create_task(open_session(identity_pool, voter, passed_at))
            while not await owner.fetchval(waiting):
                await asyncio.sleep(0.01)
        with pytest.raises(DomainError, match="login_failed"):
            await opening


def proven(decision: LoginDecision, voter: str, at: datetime) -> RecordLoginInput:
    """Return a login to record that was proven at an instant."""
    made = login(decision, voter, factors=(StepUpFactor.IDP,))
    return made.model_copy(update={"request": made.request.model_copy(update={"proven_at": at})})


@pytest.mark.parametrize("decision", [LoginDecision.ALLOW, LoginDecision.CHALLENGE])
async def test_a_login_that_was_proven_before_and_is_recorded_afterwards_has_expired(
    identity_pool: asyncpg.Pool, owner_pool: OwnerPool, decision: LoginDecision
) -> None:
    voter, logins, owner = await make_account(identity_pool), PostgresLogins(identity_pool), await owner_pool("eu")
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid())"
    late = proven(decision, voter, await owner.fetchval("SELECT now()"))
    async with identity_pool.acquire() as connection, asyncio.timeout(20):
        async with connection.transaction():
            await end_unopened_logins(connection, voter)
            recording = asyncio.create_task(logins.record(late))
            while not await owner.fetchval(waiting):
                await asyncio.sleep(0.01)
        kept = await recording
    assert kept.outcome is LoginOutcome.EXPIRED
    assert await logins.record(late) == kept
    assert (await logins.known(voter, late.request.seen[0].hashes[0])).my_logins == 0
    entries = "SELECT kind, body ->> 'outcome' FROM audit.entry WHERE body ->> 'subject' = $1 ORDER BY kind"
    told = [tuple(row) for row in await owner.fetch(entries, late.request.attempt_id)]
    assert told == [("login.decided", decision.lower()), ("login.ended", "expired")]
    after = proven(decision, voter, await owner.fetchval("SELECT clock_timestamp()"))
    assert (await logins.record(after)).outcome is (LoginOutcome.ALLOWED if decision is LoginDecision.ALLOW else None)


async def test_a_further_factor_of_a_login_that_was_proven_before_lets_nobody_in(
    identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    voter, logins, owner = await make_account(identity_pool), PostgresLogins(identity_pool), await owner_pool("eu")
    waits = proven(LoginDecision.CHALLENGE, voter, await owner.fetchval("SELECT now()"))
    assert (await logins.record(waits)).outcome is None
    # As where it is recorded while what ends logins has looked for them already
    await owner.execute("UPDATE identity.voter SET logins_from = clock_timestamp() WHERE voter_id = $1", voter)
    passed = EndLoginInput(
        attempt_id=waits.request.attempt_id, voter_id=voter, outcome=LoginOutcome.STEPPED_UP, counts=waits.counts
    )
    for _ in range(2):
        assert await logins.end(passed) is LoginOutcome.EXPIRED
    assert (await logins.known(voter, waits.request.seen[0].hashes[0])).my_logins == 0
    ends = "SELECT body ->> 'outcome' FROM audit.entry WHERE kind = 'login.ended' AND body ->> 'subject' = $1"
    assert [row[0] for row in await owner.fetch(ends, waits.request.attempt_id)] == ["expired"]


async def test_what_ends_all_other_sessions_ends_logins_that_wait(identity_pool: asyncpg.Pool) -> None:
    voter, logins, sessions = (
        await make_account(identity_pool),
        PostgresLogins(identity_pool),
        PostgresSessions(identity_pool),
    )
    waits = login(LoginDecision.CHALLENGE, voter, factors=(StepUpFactor.IDP,))
    others = login(LoginDecision.CHALLENGE, factors=(StepUpFactor.IDP,))
    began = (await logins.record(waits)).at
    await logins.record(others)
    own, other = await open_session(identity_pool, voter, began), await open_session(identity_pool, voter, began)
    assert await sessions.end_all(voter, EndReason.CREDENTIALS_CHANGED, but=own) == (other,)
    found = [await logins.get(each.request.attempt_id) for each in (waits, others)]
    assert [each.outcome for each in found if each is not None] == [LoginOutcome.EXPIRED, None]
    with pytest.raises(DomainError, match="login_failed"):
        await open_session(identity_pool, voter, began)
    assert [each.session_id for each in await sessions.of_voter(voter)] == [own]


async def linked_at_provider(ways: PostgresLoginWays, voter: str, provider: str) -> None:
    login = [hashed(), hashed()]
    assert await ways.begin_link(voter, provider, login)
    assert await ways.finish_link(voter, provider, login)


async def test_a_passkey_that_is_somebodys_leaves_the_link_good_and_everything_as_it_was(
    recoveries: PostgresAccountRecoveries, identity_pool: asyncpg.Pool
) -> None:
    voter, other = await make_account(identity_pool), await make_account(identity_pool)
    credentials, handle = PostgresCredentials(identity_pool), secrets.token_bytes(32)
    await credentials.put(other, CredentialKind.PASSKEY, b"theirs", handle=handle)
    await credentials.put(voter, CredentialKind.PASSKEY, b"mine", handle=secrets.token_bytes(32))
    await open_session(identity_pool, voter)
    _, token = await linked(recoveries, voter)
    with pytest.raises(DomainError) as refused:
        await recoveries.finish(token, passkey=NewPasskey(b"copied", handle, 0))
    assert refused.value.code is ErrorCode.PASSKEY_NOT_ACCEPTED
    assert len(await credentials.of(voter, CredentialKind.PASSKEY)) == 1
    assert len(await PostgresSessions(identity_pool).of_voter(voter)) == 1
    assert await recoveries.voter_of(token) == voter


async def test_only_the_newest_link_is_good_in_whatever_order_they_come(
    recoveries: PostgresAccountRecoveries, identity_pool: asyncpg.Pool
) -> None:
    voter = await make_account(identity_pool)
    _, newest = await linked(recoveries, voter, AT)
    _, older = await linked(recoveries, voter, AT - timedelta(minutes=1))
    assert await recoveries.finish(older, b"hash") is None
    assert await recoveries.finish(newest, b"hash") is not None


async def test_a_link_that_is_sent_again_stays_what_it_was(
    recoveries: PostgresAccountRecoveries, identity_pool: asyncpg.Pool
) -> None:
    voter = await make_account(identity_pool)
    request, token = await linked(recoveries, voter)
    await recoveries.finish(token, b"hash")
    await recoveries.begin(request, voter, token, AT)
    assert await recoveries.finish(token, b"hash") is None
    assert not await recoveries.is_used(new_recovery_id("eu"))


@pytest.mark.parametrize("status", [VoterStatus.SUSPENDED, VoterStatus.CLOSED])
async def test_a_link_to_an_account_that_may_not_log_in_is_not_good(
    recoveries: PostgresAccountRecoveries, identity_pool: asyncpg.Pool, status: VoterStatus
) -> None:
    voter = await make_account(identity_pool)
    _, token = await linked(recoveries, voter)
    await PostgresAccounts(identity_pool, "eu").set_status(voter, status, "test")
    assert await recoveries.voter_of(token) == ""
    assert await recoveries.finish(token, b"hash") is None
    assert await PostgresCredentials(identity_pool).of(voter, CredentialKind.PASSWORD) == []


async def test_a_link_expires_and_is_forgotten_a_day_later(
    recoveries: PostgresAccountRecoveries, identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    voter = await make_account(identity_pool)
    request, token = await linked(recoveries, voter)
    owner = await owner_pool("eu")
    expire = "UPDATE identity.recovery SET expires_at = now() - $2::interval WHERE request_id = $1"
    await owner.execute(expire, request, timedelta(seconds=1))
    assert await recoveries.voter_of(token) == ""
    assert await recoveries.finish(token, b"hash") is None
    await recoveries.forget_older()
    kept = "SELECT count(*) FROM identity.recovery WHERE request_id = $1"
    assert await owner.fetchval(kept, request) == 1
    await owner.execute(expire, request, timedelta(days=2))
    assert await recoveries.forget_older() >= 1
    assert await owner.fetchval(kept, request) == 0
