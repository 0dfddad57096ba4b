"""One more try after a connection broke, within a budget: a server that is gone is not asked twice by everybody."""

from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from domain.retry_budget import RetryBudget

T = TypeVar("T")


class BudgetedRetry(Retry):
    """Tries a command once more where its connection broke, as long as the client's budget lasts.

    A connection that died while idle is the usual reason, and then the second try succeeds.
    """

    def __init__(self, budget: RetryBudget) -> None:
        super().__init__(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
        self._budget = budget
        self.in_flight = 0  # commands without an answer

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: every connection of a client gets a copy, and they share the budget."""
        return self

    async def call_with_retry(
        self,
        do: Callable[[], Awaitable[T]],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,  # noqa: FBT001, FBT002 - the driver's own signature
    ) -> T:
        """Call `do`, and once more where the connection broke and a retry is left."""
        self.in_flight += 1
        try:
            return await self._call(do, fail, is_retryable, with_failure_count=with_failure_count)
        finally:
            self.in_flight -= 1

    async def _call(
        self,
        do: Callable[[], Awaitable[T]],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None,
        *,
        with_failure_count: bool,
    ) -> T:
        self._budget.requested()
        try:
            return await do()
        except RedisConnectionError as error:
            if is_retryable is not None and not is_retryable(error):
                raise
            await (fail(error, 1) if with_failure_count else fail(error))
            if not self._budget.spend():
                raise
        try:
            return await do()
        except RedisConnectionError as error:
            await (fail(error, 2) if with_failure_count else fail(error))
            raise
