"""Connections to Redis, refused where the server may drop what it was told to keep."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis, SSLConnection
from redis.asyncio.connection import Connection, ConnectionPool
from redis.exceptions import RedisError

from domain.errors import DomainError, ErrorCode
from domain.retry_budget import RetryBudget
from integrations.addresses import RedisAddress
from integrations.redis.retries import BudgetedRetry

_CONNECT_TIMEOUT_S = 1.0
_ANSWER_TIMEOUT_S = 2.0
_CONNECTIONS_MAX = 32
Watch = Callable[[Callable[[], float]], None]


class ForgetfulServerError(RuntimeError):
    """The server drops keys when its memory is full, so a batch could be counted twice."""


def open_redis(
    address: RedisAddress,
    *,
    answer_timeout_s: float = _ANSWER_TIMEOUT_S,
    connections: int = _CONNECTIONS_MAX,
    watch: Watch | None = None,
) -> Redis:
    """Return a client that connects on first use; a connection that died while idle is replaced once per command.

    That is a retry, and retries have a budget. Answers are bytes. The caller closes it with `aclose()`. `watch` is told
    how the commands that wait for an answer are read.
    """
    retry = BudgetedRetry(RetryBudget())
    if watch is not None:
        watch(lambda: retry.in_flight)
    options: dict[str, Any] = {
        "host": address.host,
        "port": address.port,
        "db": address.database,
        "password": address.password.get_secret_value() if address.password else None,
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "socket_timeout": answer_timeout_s,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "retry": retry,
    }
    connection_class: type[Connection] = Connection
    if address.tls is not None:
        connection_class = SSLConnection
        options |= {
            "ssl_ca_certs": str(address.tls.ca),
            "ssl_certfile": str(address.tls.certificate) if address.tls.certificate else None,
            "ssl_keyfile": str(address.tls.key) if address.tls.key else None,
            "ssl_check_hostname": True,
        }
    return Redis.from_pool(ConnectionPool(connection_class, max_connections=connections, **options))


@contextmanager
def redis_failures(code: ErrorCode = ErrorCode.TALLY_UNAVAILABLE) -> Iterator[None]:
    """Raise DomainError with `code` where Redis cannot serve."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise DomainError(code, type(error).__name__) from error


async def durability(redis: Redis) -> dict[str, str]:
    """Return how the server keeps what it is told, as it reports it.

    Raises:
        ForgetfulServerError: it may evict keys.
        DomainError: `tally_unavailable`.
    """
    with redis_failures():
        memory = await redis.info("memory")
        persistence = await redis.info("persistence")
    found = {
        "maxmemory_policy": str(memory.get("maxmemory_policy", "unknown")),
        "appendonly": "on" if persistence.get("aof_enabled") else "off",
    }
    if found["maxmemory_policy"] not in {"noeviction", "unknown"}:
        raise ForgetfulServerError(f"maxmemory-policy is {found['maxmemory_policy']}, not noeviction")
    return found
