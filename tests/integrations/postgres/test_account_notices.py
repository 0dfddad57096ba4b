"""Notices in a real cell: kept with the change that they are about or not at all, and sent by one at a time."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from domain.credentials import CredentialKind
from domain.errors import DomainError, ErrorCode
from domain.ids import new_voter_id
from domain.mailing import MessageKind
from integrations.postgres.account_notices import PostgresAccountNotices
from integrations.postgres.credentials import PostgresCredentials
from integrations.postgres.login_ways import PostgresLoginWays
from tests.conftest import OwnerPool
from tests.integrations.postgres.account_rows import hashed, make_account

LEASE = timedelta(minutes=1)


@pytest.fixture
def notices(identity_pool: asyncpg.Pool) -> PostgresAccountNotices:
    return PostgresAccountNotices(identity_pool)


@pytest.fixture(autouse=True)
async def _alone(owner_pool: OwnerPool) -> None:
    """Hide what earlier tests left waiting."""
    await (await owner_pool("eu")).execute("UPDATE identity.account_notice SET taken_until = 'infinity'")


async def change(pool: asyncpg.Pool, voters: int = 1) -> list[str]:
    """Change the password of new voters, and return them."""
    made = [new_voter_id("eu") for _ in range(voters)]
    for voter in made:
        notice = MessageKind.PASSWORD_CHANGED
        await PostgresCredentials(pool).put(voter, CredentialKind.PASSWORD, b"hash", notice=notice)
    return made


async def test_every_change_leaves_its_notice_and_what_changes_nothing_leaves_none(
    notices: PostgresAccountNotices, identity_pool: asyncpg.Pool
) -> None:
    voter, other = await make_account(identity_pool), await make_account(identity_pool)
    credentials, ways = PostgresCredentials(identity_pool), PostgresLoginWays(identity_pool)
    handle, added = hashed().digest, MessageKind.PASSKEY_ADDED
    assert await credentials.put(voter, CredentialKind.PASSKEY, b"sealed", handle=handle, notice=added)
    assert not await credentials.put(other, CredentialKind.PASSKEY, b"sealed", handle=handle, notice=added)
    await credentials.put(voter, CredentialKind.PASSWORD, b"hash")  # told in another way
    (passkey,) = await credentials.of(voter, CredentialKind.PASSKEY)
    login = [hashed()]
    await ways.begin_link(voter, "google", login)
    for _ in range(2):
        await ways.finish_link(voter, "google", login)
        await ways.remove_credential(voter, passkey.credential_id)
    for _ in range(2):
        await ways.unlink(voter, "google")
    (password,) = await credentials.of(voter, CredentialKind.PASSWORD)
    with pytest.raises(DomainError):
        await ways.remove_credential(voter, password.credential_id)  # the last one
    found = list(await notices.take(100, LEASE))
    assert {notice.voter_id for notice in found} == {voter}
    assert [notice.kind for notice in found] == [
        MessageKind.PASSKEY_ADDED,
        MessageKind.PROVIDER_LINKED,
        MessageKind.CREDENTIAL_REMOVED,
        MessageKind.PROVIDER_UNLINKED,
    ]


async def test_a_notice_comes_again_until_it_is_told(
    notices: PostgresAccountNotices, identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    voters = await change(identity_pool, 2)
    first, second = await notices.take(100, LEASE)
    assert [first.voter_id, second.voter_id] == voters
    assert await notices.take(100, LEASE) == []
    for _ in range(2):
        await notices.told(first.notice_id)
    await (await owner_pool("eu")).execute(
        "UPDATE identity.account_notice SET taken_until = now() WHERE voter_id = ANY ($1)", voters
    )
    assert await notices.take(100, LEASE) == [second]  # who took it has died


async def test_many_who_take_at_once_never_have_the_same(
    notices: PostgresAccountNotices, identity_pool: asyncpg.Pool
) -> None:
    voters = await change(identity_pool, 12)
    taken = await asyncio.gather(*(notices.take(4, LEASE) for _ in range(6)))
    names = [notice.voter_id for found in taken for notice in found]
    assert len(names) == len(set(names))
    assert sorted(names + [notice.voter_id for notice in await notices.take(100, LEASE)]) == sorted(voters)


async def test_what_is_no_news_any_more_is_forgotten(
    notices: PostgresAccountNotices, identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    old, new = await change(identity_pool, 2)
    await (await owner_pool("eu")).execute(
        "UPDATE identity.account_notice SET noted_at = now() - interval '8 days' WHERE voter_id = $1", old
    )
    assert await notices.forget_older() >= 1
    assert [notice.voter_id for notice in await notices.take(100, LEASE)] == [new]


async def test_notices_that_are_away_say_so(closed_pool: asyncpg.Pool) -> None:
    notices = PostgresAccountNotices(closed_pool)
    for call in (notices.take(1, LEASE), notices.told(1), notices.forget_older()):
        with pytest.raises(DomainError) as away:
            await call
        assert away.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
