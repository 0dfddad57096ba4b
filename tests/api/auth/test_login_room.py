"""More logins than a process can work on: who waits, who is told to come again, and who is not held up by them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx
import pytest
import pytest_asyncio

from api.auth.login_room import LoginRoom
from domain.errors import DomainError, ErrorCode
from domain.federation import TRANSACTION_LIFETIME, new_state
from integrations.deadlines import until
from tests.api.auth.conftest import Auth
from tests.api.auth.login_town import PASSWORD, LoginTown, open_login_town
from tests.conftest import SettingsFor
from tests.provider_world import SilentProvider, silent_provider

DECIDED = "login_decision_seconds_count "


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def room() -> LoginRoom:
    return LoginRoom(at_once=1, waiting_max=1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def silent() -> AsyncIterator[SilentProvider]:
    async with silent_provider() as provider:
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def town(
    settings_for: SettingsFor, auth: Auth, room: LoginRoom, silent: SilentProvider
) -> AsyncIterator[LoginTown]:
    async with open_login_town(settings_for, auth, room, {"silent": silent.settings}) as opened:
        yield opened


async def happens(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.005)


async def test_who_comes_first_has_a_place_first() -> None:
    room, served = LoginRoom(at_once=2, waiting_max=3), []

    async def log_in(number: int) -> None:
        async with room.place():
            served.append(number)
            await asyncio.sleep(0)

    async with AsyncExitStack() as held:
        for _ in range(2):
            await held.enter_async_context(room.place())
        waiting = [asyncio.create_task(log_in(number)) for number in range(3)]
        await happens(lambda: room.waiting == 3)
        assert (room.working, served) == (2, [])
        for _ in range(2):
            with pytest.raises(DomainError) as refusal:
                await log_in(9)
            assert refusal.value.code is ErrorCode.OVERLOADED
            assert refusal.value.retry_after_s in {1, 2, 3}
    await asyncio.gather(*waiting)
    assert served == [0, 1, 2]
    assert (room.working, room.waiting) == (0, 0)


async def test_who_gives_up_waiting_leaves_the_place_to_the_next() -> None:
    room = LoginRoom(at_once=1, waiting_max=2)

    async def log_in() -> str:
        async with room.place():
            return "served"

    async with room.place():
        first, second = asyncio.create_task(log_in()), asyncio.create_task(log_in())
        await happens(lambda: room.waiting == 2)
        first.cancel()
        await asyncio.wait({first})
        assert room.waiting == 1
    assert await second == "served"
    assert (room.working, room.waiting) == (0, 0)


async def test_whose_time_is_over_when_his_turn_comes_is_not_served() -> None:
    room = LoginRoom(at_once=1, waiting_max=1)

    async def log_in() -> None:
        with until(time.monotonic() + 0.01):
            async with room.place():
                raise AssertionError("nobody waits for this")

    async with room.place():
        late = asyncio.create_task(log_in())
        await asyncio.sleep(0.02)
    with pytest.raises(DomainError) as refusal:
        await late
    assert refusal.value.code is ErrorCode.DEADLINE_EXCEEDED
    assert (room.working, room.waiting) == (0, 0)


async def test_a_full_room_refuses_at_once_and_holds_up_nobody_who_is_half_way_in(
    town: LoginTown, room: LoginRoom
) -> None:
    half_way, (decided,) = await town.person(password=PASSWORD), await sampled(town, DECIDED)
    app = await town.totp(half_way)
    assert (await town.log_in(half_way)).status_code == 200
    half_way.device = "another"
    challenged = (await town.log_in(half_way)).json()
    waiting, refused = [await town.person(password=PASSWORD) for _ in range(2)]
    visits = [await town.visit(person) for person in (waiting, refused)]
    async with room.place():  # as a login that is being worked on has it
        begun = asyncio.create_task(town.log_in(waiting, visit=visits[0]))
        await happens(lambda: room.waiting == 1)
        assert await gauges(town) == {"logins_in_work": 1, "logins_waiting": 1}
        answer = await town.log_in(refused, password="not the password of anybody", visit=visits[1])
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"] in {"1", "2", "3"}
        passed = await town.step_up(half_way, challenged["attemptId"], factor="totp", code=app.now())
        assert passed.status_code == 200, passed.text
        assert not begun.done()
    assert (await begun).status_code == 200
    assert (await town.log_in(refused, visit=visits[1])).status_code == 200  # neither proof nor token had been used
    pool, failed = town.auth.cells.of("eu").pool, "SELECT count(*) FROM identity.login_failure WHERE voter_id = $1"
    assert await pool.fetchval(failed, refused.voter_id) == 0
    assert await gauges(town) == {"logins_in_work": 0, "logins_waiting": 0}
    assert await sampled(town, DECIDED) == [decided + 4]


async def test_who_gives_up_waiting_holds_up_nobody(town: LoginTown, room: LoginRoom) -> None:
    gone, late, patient = [await town.person(password=PASSWORD) for _ in range(3)]
    visits = [await town.visit(person) for person in (gone, late, patient)]
    hurried = httpx.AsyncClient(base_url=town.client.base_url, headers={"request-timeout": "300m"}, timeout=30)
    async with room.place(), hurried:
        leaving = asyncio.create_task(town.log_in(gone, visit=visits[0]))
        await happens(lambda: room.waiting == 1)
        leaving.cancel()  # which closes the connection
        await happens(lambda: room.waiting == 0)
        answer = await replace(town, client=hurried).log_in(late, visit=visits[1])
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
        assert room.waiting == 0
        begun = asyncio.create_task(town.log_in(patient, visit=visits[2]))
        await happens(lambda: room.waiting == 1)
    assert (await begun).status_code == 200
    assert (await town.log_in(gone, visit=visits[0])).status_code == 200  # nothing of it had been used


async def test_who_gives_up_while_a_login_is_worked_on_leaves_the_place(
    town: LoginTown, room: LoginRoom, silent: SilentProvider
) -> None:
    person, state = await town.person(password=PASSWORD), new_state("eu")
    await town.auth.cells.of("eu").transactions.begin("oidc", state, f"silent {person.key.jkt}", TRANSACTION_LIFETIME)
    back = {"method": "oidc", "mail": None, "password": None, "state": state, "code": "c"}
    leaving = asyncio.create_task(town.log_in(person, **back))
    await happens(lambda: bool(silent.callers))
    assert room.working == 1
    leaving.cancel()
    await happens(lambda: room.working == 0)  # long before the provider would have been given up
    assert (await town.log_in(person)).status_code == 200


async def gauges(town: LoginTown) -> dict[str, float]:
    names = ("logins_in_work", "logins_waiting")
    return dict(zip(names, [value for name in names for value in await sampled(town, f"{name} ")], strict=True))


async def sampled(town: LoginTown, start: str) -> list[float]:
    """Return the values of the metrics that begin so."""
    answer: httpx.Response = await town.client.get("/metrics")
    return [float(line.split()[-1]) for line in answer.text.splitlines() if line.startswith(start)]
