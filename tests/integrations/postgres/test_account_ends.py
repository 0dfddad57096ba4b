"""The end of accounts in a real cell: each step once, whoever repeats it, and nothing that leads to the voter left."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from domain.account_ends import Deletion, DeletionStage
from domain.accounts import LookupKind
from domain.credentials import CredentialKind
from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.ids import new_deletion_id, new_person_id, new_recovery_id, new_session_id, new_voter_id
from domain.recovery import recovery_token
from domain.sessions import LoginMethod, NewSession, new_refresh_token
from domain.tokens import Assurance, RiskBand
from integrations.postgres.account_ends import PostgresAccountEnds
from integrations.postgres.account_recoveries import PostgresAccountRecoveries
from integrations.postgres.accounts import PostgresAccounts
from integrations.postgres.credentials import PostgresCredentials
from integrations.postgres.device_sightings import PostgresDeviceSightings
from integrations.postgres.document_claims import PostgresDocumentClaims
from integrations.postgres.login_transactions import PostgresLoginTransactions
from integrations.postgres.sessions import PostgresSessions
from tests.conftest import OwnerPool
from tests.integrations.postgres.account_rows import hashed, make_account, open_session

NOW = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def ends(identity_pool: asyncpg.Pool) -> PostgresAccountEnds:
    return PostgresAccountEnds(identity_pool)


async def full_account(pool: asyncpg.Pool) -> str:
    """Return a voter of whom there is something in every table."""
    voter = await make_account(pool)
    for _ in range(2):
        await open_session(pool, voter)
    credentials = PostgresCredentials(pool)
    await credentials.put(voter, CredentialKind.PASSWORD, b"hash")
    await credentials.put(voter, CredentialKind.TOTP, b"sealed", confirmed=False)
    await PostgresDeviceSightings(pool).note([hashed()], voter, NOW)
    transactions = PostgresLoginTransactions(pool)
    for kind, subject in (("passkey", voter), ("oidc_link", f"sandbox {'k' * 43} {voter}")):
        await transactions.begin(kind, hashed().digest.hex(), subject, timedelta(minutes=10))
    token = recovery_token("eu", hashed().digest)
    await PostgresAccountRecoveries(pool).begin(new_recovery_id("eu"), voter, token, NOW)
    return voter


async def left(owner: asyncpg.Pool, voter: str) -> dict[str, int]:
    tables = ("lookup", "credential", "device_sighting", "recovery")
    query = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM identity.{name} WHERE voter_id = $1" for name in tables)
    query += " UNION ALL SELECT 'login_transaction', count(*) FROM identity.login_transaction"
    query += " WHERE position($1 IN subject) > 0"
    return {name: count for name, count in await owner.fetch(query, voter) if count}


async def test_an_account_ends_step_by_step_and_nothing_leads_to_it(
    ends: PostgresAccountEnds, identity_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    voter, deletion = await full_account(identity_pool), new_deletion_id("eu")
    accounts, owner = PostgresAccounts(identity_pool, "eu"), await owner_pool("eu")
    assert set(await left(owner, voter)) == {"lookup", "credential", "device_sighting", "recovery", "login_transaction"}
    await ends.request(deletion, voter)
    await ends.stop(deletion)
    account = await accounts.get(voter)
    assert account is not None
    assert account.status is VoterStatus.SUSPENDED
    assert list(await PostgresSessions(identity_pool).of_voter(voter)) == []
    await ends.close(deletion)
    assert await left(owner, voter) == {}
    account = await accounts.get(voter)
    assert account is not None
    assert account.status is VoterStatus.CLOSED
    done = await ends.complete(deletion, 1)
    assert (done.stage, done.sessions_ended, done.credentials_removed, done.devices_erased) == (
        DeletionStage.COMPLETED,
        2,
        2,
        1,
    )
    assert done.completed_at is not None
    rows = await owner.fetch("SELECT device, network, end_reason FROM identity.session WHERE voter_id = $1", voter)
    assert {tuple(row) for row in rows} == {("", "", "account_closed")}
    changes = await owner.fetch("SELECT change FROM identity.change WHERE subject = $1 ORDER BY change_id", voter)
    assert [row["change"] for row in changes][-3:] == ["status_suspended", "status_closed", "account_deleted"]


async def test_steps_are_done_once_however_often_and_whenever_they_come(
    ends: PostgresAccountEnds, identity_pool: asyncpg.Pool
) -> None:
    voter, deletion = await full_account(identity_pool), new_deletion_id("eu")
    await ends.request(deletion, voter)
    await ends.close(deletion)  # not before it is stopped
    assert (await ends.get(deletion)).stage is DeletionStage.REQUESTED  # type: ignore[union-attr]
    for step in (ends.stop, ends.close):
        await asyncio.gather(*(step(deletion) for _ in range(5)))
    await ends.stop(deletion)
    done = await asyncio.gather(*(ends.complete(deletion, number) for number in range(3)))
    assert len({each.completed_at for each in done}) == 1
    assert len({each.devices_erased for each in done}) == 1
    assert {(each.sessions_ended, each.credentials_removed) for each in done} == {(2, 2)}


async def test_a_voter_has_one_deletion_whoever_asks_at_once(
    ends: PostgresAccountEnds, identity_pool: asyncpg.Pool
) -> None:
    voter = await make_account(identity_pool)
    asked = await asyncio.gather(*(ends.request(new_deletion_id("eu"), voter) for _ in range(6)))
    assert len({each.deletion_id for each in asked}) == 1
    found = await ends.unstarted(datetime.now(UTC) + timedelta(minutes=1), 1000)
    assert [each for each in found if each.voter_id == voter] == [asked[0]]
    await ends.stop(asked[0].deletion_id)
    assert voter not in {each.voter_id for each in await ends.unstarted(datetime.now(UTC) + timedelta(minutes=1), 1000)}


async def test_what_is_not_completed_is_found_page_by_page(
    ends: PostgresAccountEnds, identity_pool: asyncpg.Pool
) -> None:
    deletions = sorted([new_deletion_id("eu") for _ in range(4)])
    for deletion in deletions:
        await ends.request(deletion, await make_account(identity_pool))
    await ends.stop(deletions[1])
    for step in (ends.stop, ends.close):
        await step(deletions[3])
    await ends.complete(deletions[3], 0)
    soon, after = datetime.now(UTC) + timedelta(minutes=1), ""
    found: list[Deletion] = []
    while page := await ends.unfinished(soon, after, 2):
        assert len(page) <= 2
        found += page
        after = page[-1].deletion_id
    assert [each.deletion_id for each in found if each.deletion_id in deletions] == deletions[:3]
    earlier = await ends.unfinished(datetime.now(UTC) - timedelta(hours=1), "", 1000)
    assert not {each.deletion_id for each in earlier} & set(deletions)


async def test_a_deletion_that_nobody_asked_for_is_not_carried_out(ends: PostgresAccountEnds) -> None:
    unknown = new_deletion_id("eu")
    assert await ends.get(unknown) is None
    for step in (ends.stop(unknown), ends.note_devices_erased(unknown, 1), ends.close(unknown)):
        with pytest.raises(DomainError) as refusal:
            await step
        assert refusal.value.code is ErrorCode.DELETION_NOT_FOUND


async def test_devices_that_were_erased_are_certified_also_by_who_finds_none_any_more(
    ends: PostgresAccountEnds, identity_pool: asyncpg.Pool
) -> None:
    deletion = new_deletion_id("eu")
    await ends.request(deletion, await make_account(identity_pool))
    await ends.stop(deletion)
    for devices in (1, 3, 0):
        await ends.note_devices_erased(deletion, devices)
    await ends.close(deletion)
    done = await ends.complete(deletion, 0)
    assert done.devices_erased == 3
    await ends.note_devices_erased(deletion, 9)
    assert await ends.get(deletion) == done


async def test_who_logs_in_while_the_account_is_stopped_gets_no_session_that_lasts(
    ends: PostgresAccountEnds, identity_pool: asyncpg.Pool
) -> None:
    sessions = PostgresSessions(identity_pool)
    for _ in range(5):
        voter, deletion = await make_account(identity_pool), new_deletion_id("eu")
        await ends.request(deletion, voter)
        login = NewSession(
            new_session_id("eu"), voter, "k" * 43, LoginMethod.PASSKEY, Assurance.SUBSTANTIAL, RiskBand.LOW
        )
        opened = sessions.open(login, new_refresh_token("eu"))
        await asyncio.gather(opened, ends.stop(deletion), return_exceptions=True)
        assert list(await sessions.of_voter(voter)) == []


async def test_an_account_that_is_stopped_before_it_was_active_does_not_become_so(
    ends: PostgresAccountEnds, identity_pool: asyncpg.Pool
) -> None:
    voter, deletion = new_voter_id("eu"), new_deletion_id("eu")
    accounts = PostgresAccounts(identity_pool, "eu")
    await accounts.open(voter, "DE", {LookupKind.MAIL: [hashed()]})
    await ends.request(deletion, voter)
    await ends.stop(deletion)
    with pytest.raises(DomainError) as refusal:
        await accounts.activate(voter, new_person_id(), Assurance.SUBSTANTIAL, 18)
    assert refusal.value.code is ErrorCode.VOTER_NOT_ACTIVE


async def test_every_claim_of_a_voter_is_let_go_and_names_the_person(identity_pool: asyncpg.Pool) -> None:
    claims, voter, person = PostgresDocumentClaims(identity_pool), new_voter_id("eu"), new_person_id()
    settled, unsettled, others = hashed(), hashed(), hashed()
    for each in (settled, unsettled):
        await claims.claim(each, person, "eu", voter)
    await claims.settle(settled, voter)
    other = new_voter_id("eu")
    await claims.claim(others, new_person_id(), "eu", other)
    for _ in range(2):
        await claims.release_all(voter)
    again, proposed = new_voter_id("eu"), new_person_id()
    assert (await claims.claim(settled, proposed, "eu", again)).person_id == person
    assert (await claims.claim(unsettled, proposed, "eu", again)).person_id == proposed
    assert (await claims.claim(others, proposed, "eu", again)).state == "held"
