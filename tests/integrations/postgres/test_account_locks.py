"""Locks of accounts in PostgreSQL: lifted once for each action, some times a day, and never against a deletion."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime

import asyncpg
import pytest
import pytest_asyncio

from domain.accounts import KeyedHash
from domain.contracts.registration import HashedValue
from domain.credentials import CredentialKind, may_try
from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.ids import derived_id, new_deletion_id, new_voter_id
from domain.support_actions import UNLOCKS_MAX
from integrations.postgres.account_ends import PostgresAccountEnds
from integrations.postgres.account_locks import PostgresAccountLocks
from integrations.postgres.accounts import PostgresAccounts
from integrations.postgres.credentials import PostgresCredentials
from integrations.postgres.logins import PostgresLogins
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY
from tests.conftest import SettingsFor
from tests.integrations.postgres.account_rows import make_account

NETWORK = KeyedHash("lookup/1", secrets.token_bytes(32))


@pytest_asyncio.fixture
async def pool(settings_for: SettingsFor) -> AsyncIterator[asyncpg.Pool]:
    settings = settings_for(IDENTITY)
    made = await open_pool(settings.cells["eu"].database, settings, IDENTITY, size=4)
    yield made
    await made.close()


def action() -> str:
    return derived_id("sa", secrets.token_hex(8))


async def refusal(asking: Awaitable[None]) -> ErrorCode:
    with pytest.raises(DomainError) as refused:
        await asking
    return refused.value.code


async def locked_out(pool: asyncpg.Pool) -> str:
    """Return a voter whose password and app were tried wrong ten times."""
    voter, credentials, logins = await make_account(pool), PostgresCredentials(pool), PostgresLogins(pool)
    for kind in (CredentialKind.PASSWORD, CredentialKind.TOTP):
        await credentials.put(voter, kind, b"a secret")
        (kept,) = await credentials.of(voter, kind)
        for _ in range(10):
            await credentials.failed(kept)
            await logins.failed(voter, NETWORK)
    return voter


async def waits(pool: asyncpg.Pool, voter: str) -> list[bool]:
    credentials, now = PostgresCredentials(pool), datetime.now(UTC)
    kept = [await credentials.of(voter, kind) for kind in (CredentialKind.PASSWORD, CredentialKind.TOTP)]
    return [not may_try(found, now) for (found,) in kept]


async def failures(pool: asyncpg.Pool, voter: str) -> int:
    known = await PostgresLogins(pool).known(voter, HashedValue(key_id=NETWORK.key_id, digest=NETWORK.digest))
    return known.failures_per_hour


async def test_whoever_is_unlocked_may_try_at_once_and_failures_until_then_do_not_count(pool: asyncpg.Pool) -> None:
    voter, other, locks = await locked_out(pool), await locked_out(pool), PostgresAccountLocks(pool)
    assert (await waits(pool, voter), await failures(pool, voter)) == ([True, True], 20)
    asked = action()
    await asyncio.gather(*(locks.unlock(voter, asked) for _ in range(5)))
    assert (await waits(pool, voter), await failures(pool, voter)) == ([False, False], 0)
    assert (await waits(pool, other), await failures(pool, other)) == ([True, True], 20)
    noted = "SELECT count(*) FROM identity.change WHERE subject = $1 AND change = 'unlocked'"
    assert await pool.fetchval(noted, voter) == 1


async def test_an_account_is_unlocked_so_often_a_day_and_a_repeat_is_no_further_time(pool: asyncpg.Pool) -> None:
    voter, locks = await locked_out(pool), PostgresAccountLocks(pool)
    actions = [action() for _ in range(UNLOCKS_MAX)]
    for each in actions:
        await locks.unlock(voter, each)
    assert await refusal(locks.unlock(voter, action())) == ErrorCode.CASE_STAGE
    await locks.unlock(voter, actions[0])
    assert await refusal(locks.unlock(new_voter_id("eu"), action())) == ErrorCode.VOTER_NOT_FOUND


async def test_a_suspension_is_lifted_but_not_that_of_a_deletion(pool: asyncpg.Pool) -> None:
    accounts, locks, asked = PostgresAccounts(pool, "eu"), PostgresAccountLocks(pool), action()
    voter, deleted = await make_account(pool), await make_account(pool)
    assert await refusal(locks.reinstate(voter, asked)) == ErrorCode.CASE_STAGE  # it is active
    await accounts.set_status(voter, VoterStatus.SUSPENDED, "reversed")
    assert await refusal(locks.unlock(voter, action())) == ErrorCode.CASE_STAGE
    await asyncio.gather(*(locks.reinstate(voter, asked) for _ in range(3)))
    account = await accounts.get(voter)
    assert account is not None
    assert account.status is VoterStatus.ACTIVE
    await accounts.set_status(voter, VoterStatus.SUSPENDED, "reversed")  # once more
    await locks.reinstate(voter, asked)  # late, and about the time before
    account = await accounts.get(voter)
    assert account is not None
    assert account.status is VoterStatus.SUSPENDED
    ends, deletion = PostgresAccountEnds(pool), new_deletion_id("eu")
    await ends.request(deletion, deleted)
    await ends.stop(deletion)
    assert await refusal(locks.reinstate(deleted, action())) == ErrorCode.CASE_STAGE


async def test_who_was_never_proofed_is_not_made_active(pool: asyncpg.Pool) -> None:
    accounts, voter = PostgresAccounts(pool, "eu"), new_voter_id("eu")
    await accounts.open(voter, "DE", {})
    await accounts.set_status(voter, VoterStatus.SUSPENDED, "suspected")
    assert await refusal(PostgresAccountLocks(pool).reinstate(voter, action())) == ErrorCode.CASE_STAGE
