"""Claims under several versions, in several cells, of which any may be away at any step."""

from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from domain.accounts import Claim, ClaimState, KeyedHash, claiming_cell
from domain.claiming import claim_everywhere, release_everywhere, settle_everywhere
from domain.errors import DomainError, ErrorCode
from domain.ids import new_person_id, new_voter_id

CELLS = ("eu", "us")


def version(number: int, cell: str) -> KeyedHash:
    """Return a hash under a version that selects this cell."""
    digest = next(bytes([place, number]) * 16 for place in range(256) if _selects(bytes([place, number]) * 16, cell))
    return KeyedHash(f"document/2026-11-2{number}/1", digest)


def _selects(digest: bytes, cell: str) -> bool:
    return claiming_cell(digest, CELLS) == cell


DOCUMENT = (version(1, "us"), version(2, "eu"), version(3, "us"))


@dataclass
class Row:
    person_id: str
    home_cell: str
    holder: str | None
    settled: bool = False


@dataclass
class Cell:
    """The claims of one cell, by the rules of the port; `away_after` calls it is away until set otherwise."""

    rows: dict[KeyedHash, Row] = field(default_factory=dict)
    away_after: int | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)

    def _reach(self, what: str, document: KeyedHash) -> None:
        if self.away_after is not None and len(self.calls) >= self.away_after:
            raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)
        self.calls.append((what, document.key_id))

    async def claim(self, document: KeyedHash, person_id: str, home_cell: str, voter_id: str) -> Claim:
        self._reach("claim", document)
        row = self.rows.setdefault(document, Row(person_id, home_cell, voter_id))
        if row.holder is None and row.home_cell == home_cell:
            row.holder = voter_id
        if row.holder == voter_id:
            return Claim(ClaimState.GRANTED, row.person_id, row.home_cell)
        return Claim(ClaimState.ELSEWHERE if row.holder is None else ClaimState.HELD, row.person_id, row.home_cell)

    async def release(self, document: KeyedHash, voter_id: str) -> None:
        self._reach("release", document)
        row = self.rows.get(document)
        if row is not None and row.holder == voter_id:
            if row.settled:
                row.holder = None
            else:
                del self.rows[document]

    async def settle(self, document: KeyedHash, voter_id: str) -> None:
        self._reach("settle", document)
        if self.rows[document].holder != voter_id:
            raise DomainError(ErrorCode.CLAIM_CONTRADICTED)
        self.rows[document].settled = True


@pytest.fixture
def cells() -> dict[str, Cell]:
    return {name: Cell() for name in CELLS}


def held(cells: dict[str, Cell]) -> dict[KeyedHash, str | None]:
    return {document: row.holder for cell in cells.values() for document, row in cell.rows.items()}


async def test_every_version_is_claimed_in_the_cell_of_its_hash_for_one_person(cells: dict[str, Cell]):
    person, voter = new_person_id(), new_voter_id("eu")
    for _ in range(2):
        assert await claim_everywhere(cells, DOCUMENT, person, "eu", voter) == Claim(ClaimState.GRANTED, person, "eu")
    await settle_everywhere(cells, DOCUMENT, voter)
    assert set(cells["us"].rows) == {DOCUMENT[0], DOCUMENT[2]}
    assert set(cells["eu"].rows) == {DOCUMENT[1]}
    await release_everywhere(cells, DOCUMENT, voter)
    assert set(held(cells).values()) == {None}


async def test_who_registers_again_is_the_same_person_also_under_a_new_version(cells: dict[str, Cell]):
    person, first, second = new_person_id(), new_voter_id("eu"), new_voter_id("eu")
    await claim_everywhere(cells, DOCUMENT[:1], person, "eu", first)
    await settle_everywhere(cells, DOCUMENT[:1], first)
    await release_everywhere(cells, DOCUMENT[:1], first)
    again = await claim_everywhere(cells, DOCUMENT, new_person_id(), "eu", second)
    assert again == Claim(ClaimState.GRANTED, person, "eu")
    assert {row.person_id for cell in cells.values() for row in cell.rows.values()} == {person}


async def test_a_held_document_is_refused_and_nothing_stays_claimed(cells: dict[str, Cell]):
    other = new_voter_id("us")
    await claim_everywhere(cells, DOCUMENT[2:], new_person_id(), "us", other)
    refused = await claim_everywhere(cells, DOCUMENT, new_person_id(), "eu", new_voter_id("eu"))
    assert refused.state is ClaimState.HELD
    assert held(cells) == {DOCUMENT[2]: other}
    released = [call for cell in ("us", "eu") for call in cells[cell].calls if call[0] == "release"]
    assert released == [("release", DOCUMENT[0].key_id), ("release", DOCUMENT[1].key_id)]


async def test_a_person_at_home_elsewhere_is_told_where(cells: dict[str, Cell]):
    person, voter = new_person_id(), new_voter_id("us")
    await claim_everywhere(cells, DOCUMENT, person, "us", voter)
    await settle_everywhere(cells, DOCUMENT, voter)
    await release_everywhere(cells, DOCUMENT, voter)
    refused = await claim_everywhere(cells, DOCUMENT, new_person_id(), "eu", new_voter_id("eu"))
    assert refused == Claim(ClaimState.ELSEWHERE, person, "us")
    assert set(held(cells).values()) == {None}


async def test_claims_that_name_two_persons_are_a_fault_and_none_is_held(cells: dict[str, Cell]):
    first, second = new_voter_id("eu"), new_voter_id("eu")
    for place, voter in ((0, first), (1, second)):
        await claim_everywhere(cells, DOCUMENT[place : place + 1], new_person_id(), "eu", voter)
        await settle_everywhere(cells, DOCUMENT[place : place + 1], voter)
        await release_everywhere(cells, DOCUMENT[place : place + 1], voter)
    with pytest.raises(DomainError) as fault:
        await claim_everywhere(cells, DOCUMENT, new_person_id(), "eu", new_voter_id("eu"))
    assert fault.value.code is ErrorCode.CLAIM_CONTRADICTED
    assert set(held(cells).values()) == {None}


@pytest.mark.parametrize("away", CELLS)
@pytest.mark.parametrize("after", range(3))
@pytest.mark.parametrize("taken", [False, True])
async def test_a_cell_that_is_away_at_any_step_changes_no_end(
    cells: dict[str, Cell], away: str, after: int, *, taken: bool
):
    person, voter, other = new_person_id(), new_voter_id("eu"), new_voter_id("us")
    if taken:
        await claim_everywhere(cells, DOCUMENT[2:], new_person_id(), "us", other)
    cells[away].calls.clear()
    cells[away].away_after = after
    found = None
    with suppress(DomainError):
        found = await claim_everywhere(cells, DOCUMENT, person, "eu", voter)
    if found is None:
        cells[away].away_after = None
        found = await claim_everywhere(cells, DOCUMENT, person, "eu", voter)
    assert found.state is (ClaimState.HELD if taken else ClaimState.GRANTED)
    assert held(cells) == ({DOCUMENT[2]: other} if taken else dict.fromkeys(DOCUMENT, voter))


async def test_a_document_without_a_hash_is_not_granted(cells: dict[str, Cell]):
    with pytest.raises(DomainError) as refused:
        await claim_everywhere(cells, (), new_person_id(), "eu", new_voter_id("eu"))
    assert refused.value.code is ErrorCode.KEY_UNAVAILABLE
