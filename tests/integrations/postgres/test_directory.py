"""The directory, its rolls, its electorates and its machine clients, in a real cell."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from domain.access import api_key_hash, new_api_key
from domain.accounts import KeyedHash
from domain.eligibility import Asked, Candidate, VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.ids import new_client_id, new_survey_id, new_voter_id
from domain.tokens import Assurance, Role
from integrations.keys.file_kms import FileKms
from integrations.postgres import api_clients, electorates
from integrations.postgres.accounts import PostgresAccounts
from integrations.postgres.api_clients import ApiClients
from integrations.postgres.device_sightings import PostgresDeviceSightings
from integrations.postgres.directory import Directory
from integrations.postgres.electorates import CachedElectorates
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY, ROLLS, SURVEYS
from tests.conftest import OwnerPool, SettingsFor
from tests.identity_world import IdentityWorld, open_identity_world


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(settings_for: SettingsFor) -> AsyncIterator[IdentityWorld]:
    async with open_identity_world(settings_for(IDENTITY, ROLLS, SURVEYS), ("eu",)) as opened:
        yield opened


@pytest.fixture
def directory(world: IdentityWorld) -> Directory:
    return world.directories["eu"]


async def broken_pool(settings_for: SettingsFor) -> asyncpg.Pool:
    settings = settings_for(IDENTITY)
    pool = await open_pool(settings.cells["eu"].database, settings, IDENTITY, size=1)
    await pool.close()
    return pool


async def test_voters_are_found_in_the_order_asked_for(world: IdentityWorld, directory: Directory) -> None:
    survey_id, stranger = await world.survey(), new_voter_id("eu")
    first = (await directory.create_voters(1, "DE", age_class=16, assurance=Assurance.HIGH))[0]
    second = (await directory.create_voters(1, "FR", status=VoterStatus.SUSPENDED))[0]
    await world.enrol(survey_id, second)
    surveys = (survey_id, survey_id, survey_id, new_survey_id())
    asked = [Asked(*one) for one in zip((second, stranger, first, second), surveys, strict=True)]
    found = await directory.candidates(asked)
    assert found[1] is None
    assert found[2] is not None
    assert found[0] is not None
    person = found[2].person_id
    assert found[2] == Candidate(first, person, VoterStatus.ACTIVE, Assurance.HIGH, "DE", 16, on_roll=False)
    assert (found[0].status, found[0].on_roll) == (VoterStatus.SUSPENDED, True)
    assert found[3] is not None
    assert not found[3].on_roll
    assert await directory.candidates([]) == []


async def test_a_voter_comes_with_what_was_said_of_the_device_that_is_named(
    world: IdentityWorld, directory: Directory
) -> None:
    survey_id, (voter, other) = await world.survey(), await directory.create_voters(2, "DE")
    sightings, now = PostgresDeviceSightings(world.identity["eu"]), datetime.now(UTC)
    phone, tablet = ([KeyedHash(f"lookup/{number}", secrets.token_bytes(32)) for number in range(2)] for _ in range(2))
    await sightings.note(phone, voter, now - timedelta(hours=1), ["rooted"])
    await sightings.note(phone, voter, now, ["rooted", "vpn"])
    await sightings.note(tablet, voter, now)
    devices = [phone[0].digest, phone[1].digest, tablet[0].digest, secrets.token_bytes(32), None]
    asked = [*(Asked(voter, survey_id, device) for device in devices), Asked(other, survey_id, phone[0].digest)]
    found = [(one.device_flags, one.device_seen_at) for one in await directory.candidates(asked) if one is not None]
    nothing = frozenset[str](), None
    assert found == [(frozenset({"rooted", "vpn"}), now)] * 2 + [(frozenset(), now)] + [nothing] * 3


async def test_thousands_of_voters_are_persons_of_their_own(directory: Directory, owner_pool: OwnerPool) -> None:
    voters = await directory.create_voters(3000, "DE")
    assert len(set(voters)) == 3000
    pool = await owner_pool("eu")
    counted = await pool.fetchval(
        "SELECT count(DISTINCT person_id) FROM identity.voter WHERE voter_id = ANY ($1)", voters
    )
    assert counted == 3000


async def test_admission_reads_by_index_alone(world: IdentityWorld, owner_pool: OwnerPool) -> None:
    pool = await owner_pool("eu")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(
            row[0]
            for row in await connection.fetch(
                "EXPLAIN SELECT v.person_id, EXISTS (SELECT FROM identity.roll AS r"
                " WHERE r.survey_id = $1 AND r.person_id = v.person_id) FROM identity.voter AS v WHERE v.voter_id = $2",
                await world.survey(),
                new_voter_id("eu"),
            )
        )
    assert "Seq Scan" not in plan
    assert "pk_voter" in plan
    assert "pk_roll" in plan


async def test_person_has_one_open_account(world: IdentityWorld, directory: Directory, owner_pool: OwnerPool) -> None:
    pool = await owner_pool("eu")
    voter = (await directory.create_voters(1, "DE"))[0]
    again = (
        "INSERT INTO identity.voter (voter_id, person_id, region)"
        " SELECT $2, person_id, region FROM identity.voter WHERE voter_id = $1"
    )
    with pytest.raises(asyncpg.UniqueViolationError, match="uq_voter_person"):
        await pool.execute(again, voter, new_voter_id("eu"))
    await PostgresAccounts(world.identity["eu"], "eu").set_status(voter, VoterStatus.CLOSED, "test")
    await asyncio.gather(*(pool.execute(again, voter, new_voter_id("eu")) for _ in range(3)), return_exceptions=True)
    open_accounts = await pool.fetchval(
        "SELECT count(*) FROM identity.voter WHERE status <> 'closed' AND person_id ="
        " (SELECT person_id FROM identity.voter WHERE voter_id = $1)",
        voter,
    )
    assert open_accounts == 1


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("voter_id = 'somebody'", "ck_voter_id"),
        ("status = 'dead'", "ck_voter_status"),
        ("assurance = 'certain'", "ck_voter_assurance"),
        ("person_id = NULL", "ck_voter_proofed"),
        ("age_class = 17", "ck_voter_age_class"),
        ("region = ''", "ck_voter_region"),
    ],
)
async def test_database_refuses_what_the_rules_refuse(
    directory: Directory, owner_pool: OwnerPool, change: str, constraint: str
) -> None:
    voter = (await directory.create_voters(1, "DE"))[0]
    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await (await owner_pool("eu")).execute(f"UPDATE identity.voter SET {change} WHERE voter_id = $1", voter)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("identity", "DELETE FROM identity.voter"),
        ("identity", "DELETE FROM identity.person"),
        ("identity", "UPDATE identity.person SET created_at = now()"),
        ("identity", "UPDATE identity.survey SET minimum_age = 0"),
        ("identity", "SELECT FROM voting.participation"),
        ("identity", "SELECT FROM voting.ballot"),
        ("surveys", "SELECT FROM identity.voter"),
        ("surveys", "SELECT FROM identity.roll"),
        ("surveys", "DELETE FROM identity.survey"),
    ],
)
async def test_each_role_may_do_its_own_work_only(world: IdentityWorld, role: str, statement: str) -> None:
    pools = {"identity": world.identity, "surveys": world.surveys}
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pools[role]["eu"].execute(statement)


async def test_vote_path_sees_nobody(settings_for: SettingsFor) -> None:
    settings = settings_for("comitia_voting")
    pool = await open_pool(settings.cells["eu"].database, settings, "comitia_voting", size=1)
    try:
        for table in ("voter", "person", "roll", "survey", "api_client"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(f"SELECT FROM identity.{table}")
    finally:
        await pool.close()


async def test_directory_that_is_away_says_so(settings_for: SettingsFor) -> None:
    directory = Directory(await broken_pool(settings_for), "eu")
    for call in (
        directory.candidates([Asked(new_voter_id("eu"), new_survey_id())]),
        directory.create_voters(1, "DE"),
    ):
        with pytest.raises(DomainError) as raised:
            await call
        assert raised.value.code is ErrorCode.DIRECTORY_UNAVAILABLE


async def test_electorate_is_read_once_a_second(world: IdentityWorld) -> None:
    clock = Clock()
    cached = CachedElectorates(world.identity["eu"], world.keys, now=clock)
    survey_id = await world.survey(regions=["DE"], minimum_age=16, roll_required=True)
    found = await cached.get(survey_id)
    assert found is not None
    assert (found.regions, found.minimum_age, found.roll_required) == (frozenset({"DE"}), 16, True)
    assert len(found.eligibility_key) == 32
    assert found.eligibility_key.hex() not in repr(found)
    ended = datetime(2026, 1, 1, tzinfo=UTC)
    await world.surveys["eu"].execute(
        "UPDATE identity.survey SET finish_at = $2 WHERE survey_id = $1", survey_id, ended
    )
    assert cached.fresh(survey_id) is found
    clock.at += electorates.FRESH_S
    assert cached.fresh(survey_id) is None
    renewed = await cached.get(survey_id)
    assert renewed is not None
    assert renewed.finish_at == ended
    assert renewed.eligibility_key == found.eligibility_key


async def test_electorate_that_many_ask_for_is_read_once(world: IdentityWorld) -> None:
    cached = CachedElectorates(world.identity["eu"], world.keys)
    survey_id = await world.survey()
    found = await asyncio.gather(*(cached.get(survey_id) for _ in range(50)))
    assert len({id(one) for one in found}) == 1


async def test_survey_that_is_not_here_is_asked_for_again_after_a_second(world: IdentityWorld) -> None:
    clock = Clock()
    cached = CachedElectorates(world.identity["eu"], world.keys, now=clock)
    survey_id = new_survey_id()
    assert await cached.get(survey_id) is None
    key = await world.keys.generate_data_key("kek/eligibility", survey_id)
    await world.surveys["eu"].execute(
        "INSERT INTO identity.survey (survey_id, wrapped_eligibility_key) VALUES ($1, $2)", survey_id, key.wrapped
    )
    assert await cached.get(survey_id) is None
    clock.at += electorates.FRESH_S
    found = await cached.get(survey_id)
    assert found is not None
    assert found.eligibility_key == key.plaintext


async def test_electorate_of_a_destroyed_key_is_gone(world: IdentityWorld) -> None:
    survey_id = new_survey_id()
    key = await world.keys.generate_data_key("kek/eligibility", survey_id)
    gone = f"kek/eligibility/2020-01-01/{secrets.randbelow(900_000) + 1}"
    name = gone.encode()
    wrapped = bytes((1, len(name))) + name + key.wrapped[-60:]
    assert isinstance(world.keys, FileKms)
    folder = world.keys.folder / gone
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.with_name(folder.name + ".destroyed").touch()
    await world.surveys["eu"].execute(
        "INSERT INTO identity.survey (survey_id, wrapped_eligibility_key) VALUES ($1, $2)", survey_id, wrapped
    )
    cached = CachedElectorates(world.identity["eu"], world.keys)
    with pytest.raises(DomainError) as raised:
        await cached.get(survey_id)
    assert raised.value.code is ErrorCode.KEY_DESTROYED


async def test_electorates_of_a_database_that_is_away(settings_for: SettingsFor, world: IdentityWorld) -> None:
    cached = CachedElectorates(await broken_pool(settings_for), world.keys)
    with pytest.raises(DomainError) as raised:
        await cached.get(new_survey_id())
    assert raised.value.code is ErrorCode.DIRECTORY_UNAVAILABLE


async def test_machine_client_is_known_by_its_key_until_disabled(
    world: IdentityWorld, staffing_pools: dict[str, asyncpg.Pool], owner_pool: OwnerPool
) -> None:
    clock, by = Clock(), "comitia:tests"
    clients, making = ApiClients(world.identity, now=clock), ApiClients(staffing_pools)
    client_id = new_client_id()
    api_key = await making.create("eu", client_id, "Roll import", [Role.ADMIN, Role.AUDITOR], 60, actor=by)
    found = await clients.find(api_key)
    assert found is not None
    assert (found.client_id, found.requests_per_minute) == (client_id, 60)
    assert found.roles == {Role.ADMIN, Role.AUDITOR}
    row = await (await owner_pool("eu")).fetchrow("SELECT * FROM identity.api_client WHERE client_id = $1", client_id)
    assert row is not None
    assert row["key_hash"] == api_key_hash(api_key)
    assert api_key not in str(dict(row))
    await making.disable("eu", client_id, actor=by)
    await making.disable("eu", client_id, actor=by)
    clock.at += api_clients.FRESH_S
    assert await clients.find(api_key) is None


async def test_what_is_no_key_finds_nobody(world: IdentityWorld) -> None:
    clients = ApiClients(world.identity)
    for api_key in ("", "ck_eu_", "x" * 10_000, "ck_eu_" + "\x00" * 43, new_api_key("eu"), new_api_key("us")):
        assert await clients.find(api_key) is None
