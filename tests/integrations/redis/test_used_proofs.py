"""Used proofs in a real Redis: each once for all processes of a cell, and no longer than it could be taken."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from domain.errors import DomainError, ErrorCode
from integrations.addresses import RedisAddress
from integrations.keys.dpop import AGE_MAX_S, AHEAD_MAX_S, KEPT_S
from integrations.redis.connection import open_redis
from integrations.redis.used_proofs import RedisUsedProofs
from tests.conftest import SettingsFor


@pytest_asyncio.fixture(loop_scope="session")
async def redis(settings_for: SettingsFor) -> AsyncIterator[Redis]:
    client = open_redis(settings_for().cells["eu"].redis)
    yield client
    await client.aclose()


@pytest.fixture
def cell() -> str:
    return f"test-{secrets.token_hex(4)}"


def proof() -> bytes:
    return secrets.token_bytes(16)


async def test_a_proof_is_new_once_for_all_processes_of_a_cell(redis: Redis, cell: str) -> None:
    one, other = (RedisUsedProofs(redis, cell, kept_s=60) for _ in range(2))
    a, b, c = proof(), proof(), proof()
    assert await one.use([a, b]) == [True, True]
    assert await other.use([c, b, a]) == [True, False, False]
    assert await one.use([a, c]) == [False, False]
    assert await RedisUsedProofs(redis, f"{cell}-other", kept_s=60).use([a]) == [True]


async def test_of_many_at_once_one_is_the_first(redis: Redis, cell: str) -> None:
    shown = proof()
    answers = await asyncio.gather(*(RedisUsedProofs(redis, cell, kept_s=60).use([shown]) for _ in range(30)))
    assert sorted(answers) == [[False]] * 29 + [[True]]


async def test_a_proof_is_kept_small_and_for_as_long_as_it_could_be_taken(redis: Redis, cell: str) -> None:
    assert KEPT_S >= AGE_MAX_S + AHEAD_MAX_S
    shown = proof()
    await RedisUsedProofs(redis, cell, kept_s=KEPT_S).use([shown])
    (key,) = [key async for key in redis.scan_iter(match=f"{cell}:*", count=10_000)]
    assert KEPT_S - 5 < await redis.ttl(key) <= KEPT_S
    assert 0 < (await redis.memory_usage(key) or 0) < 160
    await RedisUsedProofs(redis, cell, kept_s=600).use([shown])
    assert await redis.ttl(key) <= KEPT_S, "a repeat keeps it no longer"


class SentTwice:
    """A client whose first answer is lost with its connection, so that the call is made again."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def register_script(self, script: str) -> Callable[..., Awaitable[Any]]:
        call = self._redis.register_script(script)

        async def twice(**asked: Any) -> Any:
            await call(**asked)
            return await call(**asked)

        return twice


async def test_a_call_that_is_made_again_is_no_repeat(redis: Redis, cell: str) -> None:
    shown = proof()
    again = RedisUsedProofs(SentTwice(redis), cell, kept_s=60)  # type: ignore[arg-type]
    assert await again.use([shown, proof()]) == [True, True]
    assert await RedisUsedProofs(redis, cell, kept_s=60).use([shown]) == [False]


async def test_a_redis_that_is_away_is_said_to_be() -> None:
    nowhere = open_redis(RedisAddress(host="127.0.0.1", port=1))
    with pytest.raises(DomainError) as raised:
        await RedisUsedProofs(nowhere, "eu", kept_s=60).use([proof()])
    assert raised.value.code is ErrorCode.USED_PROOFS_UNAVAILABLE
