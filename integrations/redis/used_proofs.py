"""The proofs that a cell's processes have seen, in its Redis: each is known for as long as it could be taken."""

import secrets
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from redis.asyncio import Redis

from domain.errors import ErrorCode
from integrations.redis.connection import redis_failures

_MARK_BYTES: Final = 8
_SCRIPT: Final = files("integrations.redis").joinpath("proofs.lua").read_text()


class RedisUsedProofs:
    """Remembers proofs by 16 bytes each, which tell nothing of the key or the request that they were for."""

    def __init__(self, redis: Redis, cell: str, *, kept_s: int) -> None:
        """Remember for `kept_s`: from the earliest moment that any process takes a proof to the latest."""
        self._script = redis.register_script(_SCRIPT)
        self._prefix = f"{cell}:proofs:".encode()
        self._kept_s = kept_s

    async def use(self, proofs: Sequence[bytes]) -> list[bool]:
        """Remember proofs, of which none is named twice; return which are used for the first time, in order.

        Raises:
            DomainError: `used_proofs_unavailable`; whether they are remembered is not known.
        """
        keys = [self._prefix + proof for proof in proofs]
        arguments: list[bytes | int] = [secrets.token_bytes(_MARK_BYTES), self._kept_s]
        with redis_failures(ErrorCode.USED_PROOFS_UNAVAILABLE):
            return [is_first == 1 for is_first in await self._script(keys=keys, args=arguments)]
