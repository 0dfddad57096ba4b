"""Staff in a real cell: one first administrator, never none."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import asyncpg
import pytest
import pytest_asyncio

from domain.accounts import KeyedHash, LookupKind
from domain.errors import DomainError, ErrorCode
from domain.ids import new_staff_id
from domain.staff import DisabledStaff, OnAnotherRollError, StaffMember
from domain.tokens import Role
from integrations.postgres.staff_accounts import PostgresStaffAccounts, StaffRolls
from tests.conftest import OwnerPool

BY = "comitia:tests"
MAIL = LookupKind.MAIL


def login(versions: int = 2) -> tuple[KeyedHash, ...]:
    return tuple(KeyedHash(f"lookup/2026-11-2{number}/1", secrets.token_bytes(32)) for number in range(versions))


@pytest.fixture
def staff(staffing_pool: asyncpg.Pool) -> PostgresStaffAccounts:
    return PostgresStaffAccounts(staffing_pool)


def adding(staff_id: str, by: Sequence[KeyedHash]) -> Callable[[PostgresStaffAccounts], Awaitable[bool]]:
    return lambda roll: roll.add(staff_id, {Role.SUPPORT}, MAIL, by, BY)


@pytest_asyncio.fixture
async def nobody(owner_pool: OwnerPool) -> AsyncIterator[None]:
    """A cell without staff, since what is tested is about all staff of a cell."""
    pool = await owner_pool("eu")
    empty = "DELETE FROM identity.staff_login; DELETE FROM identity.staff"
    await pool.execute(empty)
    yield
    await pool.execute(empty)


@pytest.mark.usefixtures("nobody")
async def test_of_many_first_administrators_at_once_one_is_made_and_never_another(
    staff: PostgresStaffAccounts, owner_pool: OwnerPool
) -> None:
    ids, logins = [new_staff_id("eu") for _ in range(8)], [login() for _ in range(8)]
    told = await asyncio.gather(*(staff.bootstrap(one, MAIL, by, BY) for one, by in zip(ids, logins, strict=True)))
    assert told.count(True) == 1
    first = ids[told.index(True)]
    assert await staff.bootstrap(first, MAIL, logins[told.index(True)], BY)
    assert await staff.find(MAIL, logins[told.index(True)]) == StaffMember(first, frozenset({Role.ADMIN}))
    assert await staff.disable(first, BY) is DisabledStaff.LAST_ADMINISTRATOR
    assert await staff.add(new_staff_id("eu"), {Role.ADMIN}, MAIL, login(), BY)
    assert await staff.disable(first, BY) is DisabledStaff.DISABLED
    assert not await staff.bootstrap(new_staff_id("eu"), MAIL, login(), BY)
    changes = await (await owner_pool("eu")).fetch(
        "SELECT change, reason, actor FROM identity.change WHERE subject = $1 ORDER BY change_id", first
    )
    assert [tuple(row) for row in changes] == [("staff_added", "admin", BY), ("staff_disabled", "", BY)]


@pytest.mark.usefixtures("nobody")
async def test_administrators_who_disable_each_other_at_once_leave_one(staff: PostgresStaffAccounts) -> None:
    administrators = [new_staff_id("eu") for _ in range(6)]
    for one in administrators:
        await staff.add(one, {Role.ADMIN}, MAIL, login(), BY)
    told = await asyncio.gather(*(staff.disable(one, BY) for one in administrators))
    assert told.count(DisabledStaff.LAST_ADMINISTRATOR) == 1
    assert told.count(DisabledStaff.DISABLED) == 5


async def test_a_member_is_added_once_and_a_login_is_of_one(staff: PostgresStaffAccounts) -> None:
    one, another, by = new_staff_id("eu"), new_staff_id("eu"), login(3)
    roles = {Role.SUPPORT, Role.AUDITOR}
    for _ in range(2):
        assert await staff.add(one, roles, MAIL, by[:2], BY)
    assert not await staff.add(another, {Role.ADMIN}, MAIL, by[1:], BY)
    assert await staff.get(another) is None
    for version in by[:2]:
        assert await staff.find(MAIL, [version]) == StaffMember(one, frozenset(roles))
    assert await staff.find(LookupKind.LOGIN, by) is None


async def test_of_many_who_are_added_with_one_login_at_once_one_gets_it(staff: PostgresStaffAccounts) -> None:
    by = login()
    added = await asyncio.gather(*(staff.add(new_staff_id("eu"), {Role.SUPPORT}, MAIL, by, BY) for _ in range(8)))
    assert added.count(True) == 1


async def test_a_login_is_on_the_roll_of_one_cell(staffing_pools: dict[str, asyncpg.Pool]) -> None:
    rolls, by, here, there = StaffRolls(staffing_pools), login(3), new_staff_id("eu"), new_staff_id("us")
    for _ in range(2):
        assert await rolls.add("eu", MAIL, by[:2], adding(here, by[:2]))
    with pytest.raises(OnAnotherRollError, match="eu has this login"):
        await rolls.add("us", MAIL, by[1:], adding(there, by[1:]))
    assert await PostgresStaffAccounts(staffing_pools["us"]).get(there) is None
    assert await rolls.add("us", LookupKind.LOGIN, by, adding(there, login()))  # of another kind it is another login
    await PostgresStaffAccounts(staffing_pools["eu"]).disable(here, BY)
    assert await rolls.add("us", MAIL, by, adding(new_staff_id("us"), by))


async def test_a_person_is_one_member_of_all_cells(staffing_pools: dict[str, asyncpg.Pool]) -> None:
    rolls, person, here = StaffRolls(staffing_pools), login(3), new_staff_id("eu")

    def adding_person(staff_id: str, by: Sequence[KeyedHash]) -> Callable[[PostgresStaffAccounts], Awaitable[bool]]:
        return lambda roll: roll.add(staff_id, {Role.SUPPORT}, MAIL, by, BY, person=person[1:])

    first, second = login(), login()
    for _ in range(2):
        assert await rolls.add("eu", MAIL, first, adding_person(here, first), person=person[:2])
    for_another = new_staff_id("eu")
    assert not await rolls.add("eu", MAIL, second, adding_person(for_another, second), person=person[1:])
    assert await PostgresStaffAccounts(staffing_pools["eu"]).get(for_another) is None
    with pytest.raises(OnAnotherRollError, match="eu has this person"):
        await rolls.add("us", MAIL, second, adding_person(new_staff_id("us"), second), person=person[1:])
    await PostgresStaffAccounts(staffing_pools["eu"]).disable(here, BY)
    there = new_staff_id("us")
    assert await rolls.add("us", MAIL, second, adding_person(there, second), person=person[1:])
    found = await PostgresStaffAccounts(staffing_pools["us"]).find(LookupKind.LOGIN, person[2:])
    assert found == StaffMember(there, frozenset({Role.SUPPORT}))


async def test_of_both_cells_at_once_one_gets_a_login(staffing_pools: dict[str, asyncpg.Pool]) -> None:
    for _ in range(5):
        rolls, by = StaffRolls(staffing_pools), login()
        told = await asyncio.gather(
            *(rolls.add(cell, MAIL, by, adding(new_staff_id(cell), by)) for cell in ("eu", "us", "us", "eu")),
            return_exceptions=True,
        )
        assert told.count(True) == 1
        assert all(one in (True, False) or isinstance(one, OnAnotherRollError) for one in told)
        found = [await PostgresStaffAccounts(pool).find(MAIL, by) for pool in staffing_pools.values()]
        assert found.count(None) == 1


async def test_nobody_is_added_while_a_cell_cannot_be_asked(
    staffing_pools: dict[str, asyncpg.Pool], closed_pool: asyncpg.Pool
) -> None:
    one, by = new_staff_id("eu"), login()
    with pytest.raises(DomainError) as away:
        await StaffRolls({**staffing_pools, "us": closed_pool}).add("eu", MAIL, by, adding(one, by))
    assert away.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
    assert await PostgresStaffAccounts(staffing_pools["eu"]).get(one) is None


async def test_a_disabled_member_logs_in_no_more_and_frees_the_login(staff: PostgresStaffAccounts) -> None:
    one, by = new_staff_id("eu"), login()
    await staff.add(one, {Role.COMPLIANCE}, MAIL, by, BY)
    told = await asyncio.gather(*(staff.disable(one, BY) for _ in range(4)))
    assert set(told) == {DisabledStaff.DISABLED}
    assert await staff.find(MAIL, by) is None
    assert await staff.get(one) == StaffMember(one, frozenset({Role.COMPLIANCE}), disabled=True)
    assert await staff.add(new_staff_id("eu"), {Role.COMPLIANCE}, MAIL, by, BY)
    assert await staff.disable(new_staff_id("eu"), BY) is DisabledStaff.UNKNOWN


async def test_staff_that_is_away_says_so(closed_pool: asyncpg.Pool) -> None:
    staff, one = PostgresStaffAccounts(closed_pool), new_staff_id("eu")
    for call in (
        staff.bootstrap(one, MAIL, login(), BY),
        staff.add(one, {Role.ADMIN}, MAIL, login(), BY),
        staff.disable(one, BY),
        staff.find(MAIL, login()),
        staff.get(one),
    ):
        with pytest.raises(DomainError) as away:
            await call
        assert away.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
