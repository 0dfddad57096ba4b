import copy

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from domain.retry_budget import RetryBudget
from integrations.redis.retries import BudgetedRetry


class Server:
    """Fails as often as it is told to."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.asked = 0
        self.closed = 0
        self._failures = failures
        self._error = error or RedisConnectionError()

    async def ask(self) -> str:
        self.asked += 1
        if self.asked <= self._failures:
            raise self._error
        return "pong"

    async def close(self, error: Exception) -> None:
        self.closed += 1


async def test_a_connection_that_broke_is_replaced_once() -> None:
    retry, server = BudgetedRetry(RetryBudget()), Server(1)
    assert await retry.call_with_retry(server.ask, server.close) == "pong"
    assert (server.asked, server.closed) == (2, 1)


async def test_a_server_that_is_gone_is_asked_twice_by_few() -> None:
    retry, server = BudgetedRetry(RetryBudget(share=0.1, reserve=5)), Server(10_000)
    for _ in range(100):
        with pytest.raises(RedisConnectionError):
            await retry.call_with_retry(server.ask, server.close)
    assert 100 + 5 <= server.asked <= 100 + 16
    assert server.closed == server.asked


async def test_connections_share_the_budget() -> None:
    retry = BudgetedRetry(RetryBudget(share=0, reserve=1))
    first, second = Server(1), Server(1)
    assert await copy.deepcopy(retry).call_with_retry(first.ask, first.close) == "pong"
    with pytest.raises(RedisConnectionError):
        await copy.deepcopy(retry).call_with_retry(second.ask, second.close)


async def test_what_the_server_answers_is_never_asked_again() -> None:
    retry, server = BudgetedRetry(RetryBudget()), Server(1, ResponseError())
    with pytest.raises(ResponseError):
        await retry.call_with_retry(server.ask, server.close)
    assert (server.asked, server.closed) == (1, 0)
