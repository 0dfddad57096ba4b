"""Accounts in a real cell: what they are found by is unique among the open ones, whoever asks at once."""

import asyncio
import secrets

import asyncpg
import pytest

from domain.accounts import KeyedHash, LookupKind
from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.ids import new_person_id, new_voter_id
from domain.tokens import Assurance
from integrations.postgres.accounts import PostgresAccounts
from tests.conftest import OwnerPool


def hashes(versions: int = 1) -> tuple[KeyedHash, ...]:
    """Return the hashes of some value under that many versions."""
    return tuple(KeyedHash(f"lookup/2026-11-2{number}/1", secrets.token_bytes(32)) for number in range(versions))


@pytest.fixture
def accounts(identity_pool: asyncpg.Pool) -> PostgresAccounts:
    return PostgresAccounts(identity_pool, "eu")


async def opened(accounts: PostgresAccounts) -> str:
    voter = new_voter_id("eu")
    assert await accounts.open(voter, "DE", {LookupKind.MAIL: hashes()})
    return voter


async def activated(accounts: PostgresAccounts) -> tuple[str, str]:
    voter, person = await opened(accounts), new_person_id()
    assert await accounts.activate(voter, person, Assurance.HIGH, 18)
    return voter, person


async def refusal(awaitable: object) -> ErrorCode:
    with pytest.raises(DomainError) as refused:
        await awaitable  # type: ignore[misc]
    return refused.value.code


async def test_an_account_is_opened_once_and_found_under_every_version(accounts: PostgresAccounts) -> None:
    voter, mail, phone = new_voter_id("eu"), hashes(2), hashes(1)
    for _ in range(2):
        assert await accounts.open(voter, "DE", {LookupKind.MAIL: mail, LookupKind.PHONE: phone})
    for kind, wanted in ((LookupKind.MAIL, mail[:1]), (LookupKind.MAIL, mail[1:]), (LookupKind.PHONE, phone)):
        found = await accounts.find(kind, wanted)
        assert found is not None
        assert (found.voter_id, found.cell, found.status) == (voter, "eu", VoterStatus.REGISTERED)
        assert (found.assurance, found.region, found.person_id) == (Assurance.NONE, "DE", None)
    assert await accounts.find(LookupKind.PHONE, mail) is None
    assert await accounts.get(new_voter_id("eu")) is None


async def test_of_many_who_open_with_one_address_at_once_one_gets_it(accounts: PostgresAccounts) -> None:
    mail = hashes(3)  # each process knows the oldest version, and one of the others
    known = [(mail[0], mail[1 + number % 2]) for number in range(12)]
    voters = [new_voter_id("eu") for _ in known]
    wanted = [accounts.open(voter, "DE", {LookupKind.MAIL: of}) for voter, of in zip(voters, known, strict=True)]
    told = await asyncio.gather(*wanted)
    assert told.count(True) == 1
    found = await accounts.find(LookupKind.MAIL, mail)
    assert found is not None
    assert found.voter_id == voters[told.index(True)]
    kept = [await accounts.get(voter) for voter in voters]
    assert sum(account is not None for account in kept) == 1  # who lost left nothing behind


async def test_the_same_account_opened_by_many_at_once_is_one(accounts: PostgresAccounts) -> None:
    voter, mail = new_voter_id("eu"), hashes(2)
    assert all(await asyncio.gather(*(accounts.open(voter, "DE", {LookupKind.MAIL: mail}) for _ in range(10))))


async def test_two_addresses_in_either_order_never_wait_for_each_other(accounts: PostgresAccounts) -> None:
    mail, phone = hashes(2), hashes(2)
    first = {LookupKind.MAIL: mail, LookupKind.PHONE: phone}
    second = {LookupKind.PHONE: phone[::-1], LookupKind.MAIL: mail[::-1]}
    told = await asyncio.gather(*(accounts.open(new_voter_id("eu"), "DE", of) for of in [first, second] * 10))
    assert told.count(True) == 1


async def test_a_closed_account_frees_its_addresses_and_stays_closed(
    accounts: PostgresAccounts, owner_pool: OwnerPool
) -> None:
    voter, another, mail = new_voter_id("eu"), new_voter_id("eu"), hashes(2)
    await accounts.open(voter, "DE", {LookupKind.MAIL: mail})
    assert not await accounts.open(another, "DE", {LookupKind.MAIL: mail})
    for _ in range(2):
        await accounts.set_status(voter, VoterStatus.CLOSED, "deleted")
    assert await accounts.find(LookupKind.MAIL, mail) is None
    assert await refusal(accounts.open(voter, "DE", {LookupKind.MAIL: mail})) is ErrorCode.VOTER_NOT_ACTIVE
    assert await refusal(accounts.add_lookup(voter, LookupKind.MAIL, mail)) is ErrorCode.VOTER_NOT_ACTIVE
    assert await refusal(accounts.set_status(voter, VoterStatus.ACTIVE, "")) is ErrorCode.VOTER_NOT_ACTIVE
    assert await accounts.open(another, "DE", {LookupKind.MAIL: mail})
    changes = await (await owner_pool("eu")).fetch(
        "SELECT change, reason, actor FROM identity.change WHERE subject = $1", voter
    )
    assert [tuple(row) for row in changes] == [("status_closed", "deleted", "identity")]


async def test_closing_and_adding_an_address_at_once_leaves_none(accounts: PostgresAccounts) -> None:
    for _ in range(5):
        voter, mail = await opened(accounts), hashes()
        await asyncio.gather(
            accounts.set_status(voter, VoterStatus.CLOSED, "deleted"),
            *(accounts.add_lookup(voter, LookupKind.MAIL, mail) for _ in range(4)),
            return_exceptions=True,
        )
        assert await accounts.open(new_voter_id("eu"), "DE", {LookupKind.MAIL: mail})


async def test_an_address_is_added_replaced_and_refused_where_another_has_it(accounts: PostgresAccounts) -> None:
    voter, other, old, new = await opened(accounts), await opened(accounts), hashes(2), hashes(2)
    for value in (old, new, new):
        assert await accounts.add_lookup(voter, LookupKind.LOGIN, value)
    assert not await accounts.add_lookup(other, LookupKind.LOGIN, new)
    for _ in range(2):
        await accounts.remove_lookups(voter, LookupKind.LOGIN, kept=new)
    assert await accounts.find(LookupKind.LOGIN, old) is None
    found = await accounts.find(LookupKind.LOGIN, new)
    assert found is not None
    assert found.voter_id == voter
    assert await refusal(accounts.add_lookup(new_voter_id("eu"), LookupKind.LOGIN, old)) is ErrorCode.VOTER_NOT_FOUND


async def test_a_voter_becomes_one_person_for_good(accounts: PostgresAccounts) -> None:
    voter, person = await activated(accounts)
    assert all(await asyncio.gather(*(accounts.activate(voter, person, Assurance.HIGH, 18) for _ in range(5))))
    account = await accounts.get(voter)
    assert account is not None
    assert (account.status, account.person_id, account.age_class) == (VoterStatus.ACTIVE, person, 18)
    other = accounts.activate(voter, new_person_id(), Assurance.HIGH, 18)
    assert await refusal(other) is ErrorCode.CLAIM_CONTRADICTED
    stranger = accounts.activate(new_voter_id("eu"), person, Assurance.HIGH, 18)
    assert await refusal(stranger) is ErrorCode.VOTER_NOT_FOUND


async def test_a_person_has_one_open_account_whoever_activates_at_once(accounts: PostgresAccounts) -> None:
    voters, person = [await opened(accounts) for _ in range(6)], new_person_id()
    told = await asyncio.gather(*(accounts.activate(voter, person, Assurance.HIGH, 16) for voter in voters))
    assert told.count(True) == 1
    first, second = voters[told.index(True)], voters[told.index(False)]
    await accounts.set_status(first, VoterStatus.CLOSED, "deleted")
    assert await accounts.activate(second, person, Assurance.HIGH, 16)
    late = accounts.activate(first, person, Assurance.HIGH, 16)
    assert await refusal(late) is ErrorCode.VOTER_NOT_ACTIVE


async def test_an_account_is_suspended_and_reactivated_once_each(
    accounts: PostgresAccounts, owner_pool: OwnerPool
) -> None:
    voter, _ = await activated(accounts)
    for status in (VoterStatus.SUSPENDED, VoterStatus.ACTIVE):
        await asyncio.gather(*(accounts.set_status(voter, status, "looked_into") for _ in range(4)))
    changes = await (await owner_pool("eu")).fetch(
        "SELECT change FROM identity.change WHERE subject = $1 ORDER BY change_id", voter
    )
    assert [row["change"] for row in changes] == ["activated", "status_suspended", "status_active"]
    assert await refusal(accounts.set_status(voter, VoterStatus.REGISTERED, "")) is ErrorCode.VOTER_NOT_VERIFIED


async def test_who_was_not_proofed_cannot_be_active(accounts: PostgresAccounts) -> None:
    voter = await opened(accounts)
    assert await refusal(accounts.set_status(voter, VoterStatus.ACTIVE, "")) is ErrorCode.VOTER_NOT_VERIFIED
    await accounts.set_status(voter, VoterStatus.SUSPENDED, "looked_into")
    await accounts.set_status(voter, VoterStatus.REGISTERED, "looked_into")
    absent = accounts.set_status(new_voter_id("eu"), VoterStatus.CLOSED, "")
    assert await refusal(absent) is ErrorCode.VOTER_NOT_FOUND


async def test_what_was_done_is_never_changed(accounts: PostgresAccounts, owner_pool: OwnerPool) -> None:
    await activated(accounts)
    pool = await owner_pool("eu")
    for statement in ("DELETE FROM identity.change", "UPDATE identity.change SET reason = ''"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)


async def test_accounts_that_are_away_say_so(closed_pool: asyncpg.Pool) -> None:
    accounts, voter = PostgresAccounts(closed_pool, "eu"), new_voter_id("eu")
    for call in (
        accounts.open(voter, "DE", {}),
        accounts.find(LookupKind.MAIL, hashes()),
        accounts.get(voter),
        accounts.activate(voter, new_person_id(), Assurance.HIGH, 18),
        accounts.set_status(voter, VoterStatus.CLOSED, ""),
        accounts.add_lookup(voter, LookupKind.MAIL, hashes()),
        accounts.remove_lookups(voter, LookupKind.MAIL),
    ):
        assert await refusal(call) is ErrorCode.DIRECTORY_UNAVAILABLE
