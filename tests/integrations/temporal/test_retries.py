"""Calls to Temporal are tried again within a budget, and while it is away by one for all."""

import asyncio

import pytest
from temporalio.service import RPCError, RPCStatusCode

from integrations.temporal.retries import BURST, BudgetedRetries

BROKEN = RPCStatusCode.UNAVAILABLE


class Server:
    """Fails calls with a status for as long as `fails`, and answers who asks whether it is there unless `away`."""

    def __init__(self, status: RPCStatusCode = BROKEN) -> None:
        self.asked = self.looked_for = 0
        self.fails = True
        self.away = False
        self._status = status

    async def call(self) -> str:
        self.asked += 1
        if self.fails or self.away:
            raise RPCError("no", self._status, b"")
        return "done"

    async def answers(self) -> bool:
        self.looked_for += 1
        return not self.away


async def failures(calls: list[asyncio.Task[str]]) -> int:
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert all(answer == "done" or isinstance(answer, RPCError) for answer in found)
    return sum(answer != "done" for answer in found)


def calls(server: Server, retries: BudgetedRetries, how_many: int) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(retries.insist(server.call)) for _ in range(how_many)]


@pytest.mark.parametrize("status", [BROKEN, RPCStatusCode.UNKNOWN])
async def test_a_server_that_answers_badly_is_asked_again_by_few(status: RPCStatusCode) -> None:
    server = Server(status)
    retries = BudgetedRetries(server.answers)
    assert await failures(calls(server, retries, 1_000)) == 1_000
    assert 1_000 + BURST <= server.asked <= 1_000 + BURST + 100
    assert await failures(calls(server, retries, 1_000)) == 1_000
    assert server.asked <= 2_000 + BURST + 200
    assert server.looked_for <= 30


async def test_one_that_has_too_much_to_do_is_given_time() -> None:
    server = Server(RPCStatusCode.RESOURCE_EXHAUSTED)
    retries = BudgetedRetries(server.answers)
    (call,) = calls(server, retries, 1)
    await asyncio.sleep(0.3)
    assert (server.asked, server.looked_for) == (1, 0)
    server.fails = False
    assert await call == "done"
    assert server.asked == 2


@pytest.mark.parametrize("status", [RPCStatusCode.NOT_FOUND, RPCStatusCode.DEADLINE_EXCEEDED])
async def test_what_another_try_would_not_change_is_not_tried_again(status: RPCStatusCode) -> None:
    server = Server(status)
    retries = BudgetedRetries(server.answers)
    assert await failures(calls(server, retries, 1)) == 1
    assert (server.asked, server.looked_for) == (1, 0)


async def test_a_server_that_is_away_is_looked_for_by_one_and_then_has_each_call_once() -> None:
    server = Server()
    server.away, server.fails = True, False
    retries = BudgetedRetries(server.answers)
    before = calls(server, retries, 300)
    await asyncio.sleep(0.3)
    later = calls(server, retries, 300)
    await asyncio.sleep(0.3)
    assert retries.waiting == 600
    assert server.asked == 300  # those who came later knew
    assert server.looked_for <= 8
    server.away = False
    assert await failures(before + later) == 0
    assert server.asked == 900
    assert retries.waiting == 0
    server.fails = True
    assert await failures(calls(server, retries, 100)) == 100
    assert server.asked >= 1_000 + BURST  # nothing of the budget was spent on waiting


async def test_who_waits_no_longer_gives_up_and_another_one_looks_for_the_server() -> None:
    server = Server()
    server.away, server.fails = True, False
    retries = BudgetedRetries(server.answers)
    (impatient,) = calls(server, retries, 1)
    await asyncio.sleep(0)
    (patient,) = calls(server, retries, 1)
    await asyncio.sleep(0.05)
    impatient.cancel()
    looked_for = server.looked_for
    await asyncio.sleep(0.3)
    assert server.looked_for > looked_for
    server.away = False
    assert await patient == "done"
    assert retries.waiting == 0


async def test_nobody_waits_for_its_return_without_end() -> None:
    server = Server()
    server.away = True
    retries = BudgetedRetries(server.answers, patience_s=0.1)
    for _ in range(2):
        with pytest.raises(RPCError) as raised:
            await asyncio.wait_for(retries.insist(server.call), 5)
        assert raised.value.status is BROKEN
    assert server.asked == 1
