"""Ways into accounts in a real cell: a login at a provider is one account's, and the last way stays."""

import asyncio
from collections.abc import Awaitable

import asyncpg
import pytest

from domain.accounts import KeyedHash, LookupKind
from domain.credentials import CredentialKind
from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.ids import new_voter_id
from domain.sessions import EndReason
from integrations.postgres.accounts import PostgresAccounts
from integrations.postgres.credentials import PostgresCredentials
from integrations.postgres.login_ways import PostgresLoginWays
from integrations.postgres.sessions import PostgresSessions
from tests.conftest import OwnerPool
from tests.integrations.postgres.account_rows import hashed, make_account, open_session


@pytest.fixture
def ways(identity_pool: asyncpg.Pool) -> PostgresLoginWays:
    return PostgresLoginWays(identity_pool)


async def refused(call: Awaitable[object]) -> ErrorCode:
    with pytest.raises(DomainError) as refusal:
        await call
    return refusal.value.code


async def linked(ways: PostgresLoginWays, voter: str, provider: str = "google") -> list[KeyedHash]:
    """Return the hashes of a login that is linked to a voter."""
    login = [hashed(), hashed()]
    assert await ways.begin_link(voter, provider, login)
    assert await ways.finish_link(voter, provider, login)
    return login


async def test_a_login_counts_once_it_is_linked_and_leads_to_its_account(
    ways: PostgresLoginWays, identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    login = [hashed(), hashed()]
    voter, accounts = await make_account(identity_pool), PostgresAccounts(identity_pool, "eu")
    for _ in range(2):
        assert await ways.begin_link(voter, "google", login)
    assert await accounts.find(LookupKind.LOGIN, login) is None
    assert list(await ways.links(voter)) == []
    for _ in range(2):
        assert await ways.finish_link(voter, "google", login)
    assert await ways.begin_link(voter, "google", login[:1])  # linked as it is
    for each in login:
        found = await accounts.find(LookupKind.LOGIN, [each])
        assert found is not None
        assert found.voter_id == voter
    assert [link.provider for link in await ways.links(voter)] == ["google"]
    await PostgresCredentials(identity_pool).put(voter, CredentialKind.PASSWORD, b"hash")
    assert [await ways.unlink(voter, "google") for _ in range(2)] == [True, False]
    assert await accounts.find(LookupKind.LOGIN, login) is None
    changes = await (await owner_pool("eu")).fetch(
        "SELECT change, reason FROM identity.change WHERE subject = $1 AND change LIKE 'provider%' ORDER BY change_id",
        voter,
    )
    assert list(map(tuple, changes)) == [("provider_linked", "google"), ("provider_unlinked", "google")]


async def test_a_login_is_one_accounts_whoever_begins_it_at_once(
    ways: PostgresLoginWays, identity_pool: asyncpg.Pool
) -> None:
    voters, login = [await make_account(identity_pool) for _ in range(4)], [hashed(), hashed()]
    begun = await asyncio.gather(*(ways.begin_link(voter, "google", login) for voter in voters))
    assert begun.count(True) == 1
    holder = voters.pop(begun.index(True))
    assert [await ways.is_taken(login[1:], voter) for voter in (holder, *voters)] == [False, True, True, True]
    assert not any([await ways.finish_link(voter, "google", login) for voter in voters])
    await ways.drop_link(holder, "google", login)
    assert not await ways.finish_link(holder, "google", login)
    assert await ways.begin_link(voters[0], "google", login)


async def test_an_account_has_one_login_at_each_provider(ways: PostgresLoginWays, identity_pool: asyncpg.Pool) -> None:
    voter, begun = await make_account(identity_pool), [hashed()]
    assert await ways.begin_link(voter, "google", begun)
    await linked(ways, voter)  # what was begun and not finished before is forgotten
    assert await ways.begin_link(await make_account(identity_pool), "google", begun)
    assert await refused(ways.begin_link(voter, "google", [hashed()])) is ErrorCode.PROVIDER_LINKED
    await linked(ways, voter, "apple")
    assert [link.provider for link in await ways.links(voter)] == ["google", "apple"]


async def test_of_two_logins_that_are_begun_none_is_linked_in_the_others_place(
    ways: PostgresLoginWays, identity_pool: asyncpg.Pool
) -> None:
    voter, first, last = await make_account(identity_pool), [hashed(), hashed()], [hashed(), hashed()]
    assert await ways.begin_link(voter, "google", first)
    assert await ways.begin_link(voter, "google", last)
    assert not await ways.finish_link(voter, "google", first)  # who looked for the first has not looked for the last
    assert list(await ways.links(voter)) == []
    await ways.drop_link(voter, "google", first)
    assert await ways.finish_link(voter, "google", last)
    assert not await ways.finish_link(voter, "google", first)
    found = await PostgresAccounts(identity_pool, "eu").find(LookupKind.LOGIN, first)
    assert found is None


async def test_what_was_on_its_way_when_its_session_ended_changes_nothing(
    ways: PostgresLoginWays, identity_pool: asyncpg.Pool
) -> None:
    voter, credentials, login = await make_account(identity_pool), PostgresCredentials(identity_pool), [hashed()]
    session, other = await open_session(identity_pool, voter), await open_session(identity_pool, voter)
    stranger = await open_session(identity_pool, await make_account(identity_pool))
    assert await ways.begin_link(voter, "google", login, session)
    await credentials.put(voter, CredentialKind.PASSWORD, b"hash", session_id=session)
    await linked(ways, voter, "facebook")
    await credentials.put(voter, CredentialKind.TOTP, b"sealed", confirmed=False)
    await credentials.replace_recovery_codes(voter, [hashed().digest], session)
    (password,), (app,), codes = [
        await credentials.of(voter, kind)
        for kind in (CredentialKind.PASSWORD, CredentialKind.TOTP, CredentialKind.RECOVERY_CODE)
    ]
    await PostgresSessions(identity_pool).end_all(voter, EndReason.RECOVERED, but=other)
    for ended in (session, stranger):
        late = (
            ways.begin_link(voter, "apple", [hashed()], ended),
            ways.finish_link(voter, "google", login, ended),
            credentials.put(voter, CredentialKind.PASSWORD, b"thief's", session_id=ended),
            credentials.put(voter, CredentialKind.PASSKEY, b"thief's", handle=hashed().digest, session_id=ended),
            credentials.succeeded(app, 7, ended),
            credentials.replace_recovery_codes(voter, [hashed().digest], ended),
            ways.unlink(voter, "facebook", ended),
            ways.remove_credential(voter, password.credential_id, ended),
        )
        assert [await refused(call) for call in late] == [ErrorCode.STEP_UP_REQUIRED] * len(late)
    assert await credentials.of(voter, CredentialKind.PASSWORD) == [password]
    assert await credentials.of(voter, CredentialKind.TOTP) == [app]
    assert not app.confirmed
    assert await credentials.of(voter, CredentialKind.RECOVERY_CODE) == codes
    assert await credentials.of(voter, CredentialKind.PASSKEY) == []
    assert [link.provider for link in await ways.links(voter)] == ["facebook"]
    assert await ways.finish_link(voter, "google", login, other)
    assert await credentials.succeeded(app, 7, other)
    assert await ways.unlink(voter, "facebook", other)
    assert await ways.remove_credential(voter, password.credential_id, other)


async def test_new_recovery_codes_are_all_there_are_whoever_asks_at_once(identity_pool: asyncpg.Pool) -> None:
    voter, credentials = await make_account(identity_pool), PostgresCredentials(identity_pool)
    session, made = await open_session(identity_pool, voter), [{hashed().digest for _ in range(10)} for _ in range(4)]
    await asyncio.gather(*(credentials.replace_recovery_codes(voter, list(each), session) for each in made))
    assert {kept.secret for kept in await credentials.of(voter, CredentialKind.RECOVERY_CODE)} in made


async def test_the_last_way_in_stays_whoever_asks_at_once(ways: PostgresLoginWays, identity_pool: asyncpg.Pool) -> None:
    voter, credentials = await make_account(identity_pool), PostgresCredentials(identity_pool)
    await credentials.put(voter, CredentialKind.PASSWORD, b"hash")
    await credentials.put(voter, CredentialKind.TOTP, b"sealed")
    await linked(ways, voter)
    await linked(ways, voter, "apple")
    (password,) = await credentials.of(voter, CredentialKind.PASSWORD)
    told = await asyncio.gather(
        ways.unlink(voter, "google"),
        ways.unlink(voter, "apple"),
        ways.remove_credential(voter, password.credential_id),
        return_exceptions=True,
    )
    assert told.count(True) == 2
    (failure,) = [each for each in told if isinstance(each, DomainError)]
    assert failure.code is ErrorCode.LAST_CREDENTIAL
    left = [*await ways.links(voter), *await credentials.of(voter, CredentialKind.PASSWORD)]
    assert len(left) == 1
    (app,) = await credentials.of(voter, CredentialKind.TOTP)
    assert [await ways.remove_credential(voter, app.credential_id) for _ in range(2)] == [True, False]


async def test_a_credential_of_somebody_else_is_not_removed(
    ways: PostgresLoginWays, identity_pool: asyncpg.Pool
) -> None:
    voter, other = await make_account(identity_pool), await make_account(identity_pool)
    credentials = PostgresCredentials(identity_pool)
    await credentials.put(voter, CredentialKind.PASSWORD, b"hash")
    (password,) = await credentials.of(voter, CredentialKind.PASSWORD)
    assert not await ways.remove_credential(other, password.credential_id)
    assert await refused(ways.remove_credential(voter, password.credential_id)) is ErrorCode.LAST_CREDENTIAL
    assert await credentials.of(voter, CredentialKind.PASSWORD) == [password]


async def test_what_was_begun_by_who_then_died_is_forgotten(
    ways: PostgresLoginWays, identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    voter, dead, alive = await make_account(identity_pool), [hashed()], [hashed()]
    kept = await linked(ways, voter, "apple")
    await ways.begin_link(voter, "google", dead)
    await (await owner_pool("eu")).execute(
        "UPDATE identity.lookup SET begun_at = now() - interval '2 hours' WHERE voter_id = $1 AND kind = 'login'", voter
    )
    await ways.begin_link(voter, "facebook", alive)
    assert await ways.drop_abandoned() >= 1
    other = await make_account(identity_pool)
    taken = [await ways.is_taken(login, other) for login in (dead, alive, kept)]
    assert taken == [False, True, True]


async def test_who_may_not_log_in_links_nothing(ways: PostgresLoginWays, identity_pool: asyncpg.Pool) -> None:
    voter = await make_account(identity_pool)
    await PostgresAccounts(identity_pool, "eu").set_status(voter, VoterStatus.SUSPENDED, "test")
    for nobody in (voter, new_voter_id("eu")):
        assert await refused(ways.begin_link(nobody, "google", [hashed()])) is ErrorCode.VOTER_NOT_ACTIVE


async def test_ways_that_are_away_say_so(closed_pool: asyncpg.Pool) -> None:
    ways, voter = PostgresLoginWays(closed_pool), new_voter_id("eu")
    for call in (
        ways.begin_link(voter, "google", [hashed()]),
        ways.is_taken([hashed()], voter),
        ways.finish_link(voter, "google", [hashed()]),
        ways.drop_link(voter, "google", [hashed()]),
        ways.links(voter),
        ways.unlink(voter, "google"),
        ways.remove_credential(voter, "1e9e9f2a-4d2c-4f36-8ed4-4a2a5e1a1e9e"),
        ways.drop_abandoned(),
    ):
        assert await refused(call) is ErrorCode.DIRECTORY_UNAVAILABLE
