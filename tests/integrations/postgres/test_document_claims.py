"""Claims of documents in real cells: one holder, one person for good, whoever comes at once."""

import asyncio
import secrets
from collections.abc import Sequence

import asyncpg
import pytest

from domain.accounts import Claim, ClaimState, KeyedHash, claiming_cell
from domain.errors import DomainError, ErrorCode
from domain.ids import new_person_id, new_voter_id
from integrations.postgres.document_claims import PostgresDocumentClaims
from tests.claimants import claim_everywhere, release_everywhere, settle_everywhere
from tests.conftest import OwnerPool

CELLS = ("eu", "us")


def document(*cells: str) -> tuple[KeyedHash, ...]:
    """Return a document's hashes under as many versions as there are cells, each selecting its cell."""
    return tuple(KeyedHash(f"document/2026-11-2{number}/1", _selecting(cell)) for number, cell in enumerate(cells))


def _selecting(cell: str) -> bytes:
    while True:
        digest = secrets.token_bytes(32)
        if claiming_cell(digest, CELLS) == cell:
            return digest


@pytest.fixture
def claims(identity_pool: asyncpg.Pool) -> PostgresDocumentClaims:
    return PostgresDocumentClaims(identity_pool)


@pytest.fixture
def everywhere(identity_pools: dict[str, asyncpg.Pool]) -> dict[str, PostgresDocumentClaims]:
    return {cell: PostgresDocumentClaims(pool) for cell, pool in identity_pools.items()}


async def holders(owner_pool: OwnerPool, versions: Sequence[KeyedHash]) -> list[tuple[str, str | None]]:
    """Return person and holder of each claim there is."""
    found = []
    for version in versions:
        pool = await owner_pool(claiming_cell(version.digest, CELLS))
        row = await pool.fetchrow(
            "SELECT person_id, holder FROM identity.document_claim WHERE key_id = $1 AND digest = $2",
            version.key_id,
            version.digest,
        )
        found += [] if row is None else [tuple(row)]
    return found


async def test_a_claim_is_granted_once_and_again_to_its_holder(claims: PostgresDocumentClaims) -> None:
    (passport,), person, voter = document("eu"), new_person_id(), new_voter_id("us")
    for proposed in (person, new_person_id()):
        assert await claims.claim(passport, proposed, "us", voter) == Claim(ClaimState.GRANTED, person, "us")
    refused = await claims.claim(passport, new_person_id(), "us", new_voter_id("us"))
    assert refused == Claim(ClaimState.HELD, person, "us")


async def test_of_many_who_claim_at_once_one_is_granted(claims: PostgresDocumentClaims) -> None:
    (passport,) = document("eu")
    voters = [new_voter_id(cell) for cell in CELLS * 10]
    asked = [(claims.claim(passport, new_person_id(), voter.split("_")[1], voter)) for voter in voters]
    found = await asyncio.gather(*asked)
    assert [claim.state for claim in found].count(ClaimState.GRANTED) == 1
    assert {claim.state for claim in found} == {ClaimState.GRANTED, ClaimState.HELD}
    assert len({(claim.person_id, claim.home_cell) for claim in found}) == 1


async def test_a_claim_that_led_to_an_account_names_its_person_for_good(claims: PostgresDocumentClaims) -> None:
    (passport,), person, voter, next_one = document("eu"), new_person_id(), new_voter_id("eu"), new_voter_id("eu")
    await claims.claim(passport, person, "eu", voter)
    for _ in range(2):
        await claims.settle(passport, voter)
    for _ in range(2):
        await claims.release(passport, voter)
    elsewhere = await claims.claim(passport, new_person_id(), "us", new_voter_id("us"))
    assert elsewhere == Claim(ClaimState.ELSEWHERE, person, "eu")
    again = await claims.claim(passport, new_person_id(), "eu", next_one)
    assert again == Claim(ClaimState.GRANTED, person, "eu")
    await claims.release(passport, voter)  # no more its holder
    assert (await claims.claim(passport, new_person_id(), "eu", voter)).state is ClaimState.HELD


async def test_of_many_accounts_of_one_person_one_gets_a_freed_claim(claims: PostgresDocumentClaims) -> None:
    (passport,), person, voter = document("eu"), new_person_id(), new_voter_id("eu")
    await claims.claim(passport, person, "eu", voter)
    await claims.settle(passport, voter)
    await claims.release(passport, voter)
    found = await asyncio.gather(
        *(claims.claim(passport, new_person_id(), "eu", new_voter_id("eu")) for _ in range(12))
    )
    assert [claim.state for claim in found].count(ClaimState.GRANTED) == 1
    assert {claim.person_id for claim in found} == {person}


async def test_a_claim_that_led_to_nothing_is_removed_whole(claims: PostgresDocumentClaims) -> None:
    (passport,), voter, another = document("eu"), new_voter_id("eu"), new_person_id()
    await claims.claim(passport, new_person_id(), "eu", voter)
    await asyncio.gather(*(claims.release(passport, voter) for _ in range(4)))
    found = await claims.claim(passport, another, "us", new_voter_id("us"))
    assert found == Claim(ClaimState.GRANTED, another, "us")


async def test_claiming_and_releasing_at_once_never_gives_two_holders(claims: PostgresDocumentClaims) -> None:
    (passport,) = document("eu")

    async def try_for_it(voter: str) -> int:
        claim = await claims.claim(passport, new_person_id(), "eu", voter)
        if claim.state is not ClaimState.GRANTED:
            return 0
        await claims.settle(passport, voter)  # raises where somebody else holds it
        await claims.release(passport, voter)
        return 1

    assert sum(await asyncio.gather(*(try_for_it(new_voter_id("eu")) for _ in range(20)))) >= 1


async def test_who_does_not_hold_a_claim_cannot_settle_it(claims: PostgresDocumentClaims) -> None:
    (passport,), voter = document("eu"), new_voter_id("eu")
    await claims.claim(passport, new_person_id(), "eu", voter)
    for stranger, of in ((new_voter_id("eu"), passport), (voter, document("eu")[0])):
        with pytest.raises(DomainError) as fault:
            await claims.settle(of, stranger)
        assert fault.value.code is ErrorCode.CLAIM_CONTRADICTED


@pytest.mark.parametrize(
    "change", [f"person_id = 'p_{'a' * 26}'", "home_cell = 'us'", "settled = false", "digest = digest || ''"]
)
async def test_the_database_keeps_the_name_of_a_claim(
    claims: PostgresDocumentClaims, identity_pool: asyncpg.Pool, owner_pool: OwnerPool, change: str
) -> None:
    (passport,), voter = document("eu"), new_voter_id("eu")
    await claims.claim(passport, new_person_id(), "eu", voter)
    await claims.settle(passport, voter)
    statement = f"UPDATE identity.document_claim SET {change} WHERE digest = $1"
    pool = identity_pool if change.startswith("digest") else await owner_pool("eu")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute(statement, passport.digest)


@pytest.mark.parametrize("cells", [("eu", "us"), ("us", "eu"), ("us", "us"), ("eu", "us", "eu")])
async def test_two_registrations_of_one_person_in_two_cells_at_once_give_one(
    everywhere: dict[str, PostgresDocumentClaims], owner_pool: OwnerPool, cells: tuple[str, ...]
) -> None:
    for _ in range(5):
        passport = document(*cells)
        voters = [new_voter_id(cell) for cell in ("eu", "us", "eu", "us")]
        persons = [new_person_id() for _ in voters]
        asked = [
            claim_everywhere(everywhere, passport, person, voter.split("_")[1], voter)
            for person, voter in zip(persons, voters, strict=True)
        ]
        states = [claim.state for claim in await asyncio.gather(*asked)]
        assert states.count(ClaimState.GRANTED) == 1
        winner = states.index(ClaimState.GRANTED)
        assert await holders(owner_pool, passport) == [(persons[winner], voters[winner])] * len(cells)


async def test_processes_that_know_different_versions_meet_at_the_oldest(
    everywhere: dict[str, PostgresDocumentClaims], owner_pool: OwnerPool
) -> None:
    for _ in range(5):
        passport = document("us", "eu", "us")
        voters = [new_voter_id("eu") for _ in range(6)]
        asked = [
            claim_everywhere(everywhere, passport[: 1 + place % 3], new_person_id(), "eu", voter)
            for place, voter in enumerate(voters)
        ]
        states = [claim.state for claim in await asyncio.gather(*asked)]
        assert states.count(ClaimState.GRANTED) == 1
        assert {holder for _, holder in await holders(owner_pool, passport)} == {
            voters[states.index(ClaimState.GRANTED)]
        }


async def test_a_claiming_cell_that_is_away_is_come_back_to(
    everywhere: dict[str, PostgresDocumentClaims], closed_pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    passport, person, voter = document("eu", "us"), new_person_id(), new_voter_id("eu")
    without_us = {**everywhere, "us": PostgresDocumentClaims(closed_pool)}
    for _ in range(2):
        with pytest.raises(DomainError) as away:
            await claim_everywhere(without_us, passport, person, "eu", voter)
        assert away.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
    assert await holders(owner_pool, passport) == [(person, voter)]
    rival = await claim_everywhere(everywhere, passport, new_person_id(), "us", new_voter_id("us"))
    assert rival.state is ClaimState.HELD  # meanwhile nobody else gets it
    assert (await claim_everywhere(everywhere, passport, person, "eu", voter)).state is ClaimState.GRANTED
    await settle_everywhere(everywhere, passport, voter)
    with pytest.raises(DomainError):
        await release_everywhere(without_us, passport, voter)
    assert await holders(owner_pool, passport) == [(person, voter)] * 2  # the newest is let go of first
    await release_everywhere(everywhere, passport, voter)
    assert await holders(owner_pool, passport) == [(person, None)] * 2
