"""Machine clients as kept in `identity.api_client` of the cell that their key names."""

import time
from collections.abc import Callable, Iterable, Mapping

import asyncpg

from domain.access import MachineClient, api_key_hash, cell_of_api_key, new_api_key
from domain.audit import AuditEntry, AuditKind
from domain.errors import ErrorCode
from domain.tokens import Role
from integrations.postgres.audit_entries import append
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

FRESH_S = 5.0  # for so long a disabled client may still be let in
_KEPT_MAX = 10_000

_FIND = """
SELECT client_id, roles, requests_per_minute FROM identity.api_client
WHERE key_hash = $1 AND disabled_at IS NULL
"""
_CREATE = """
INSERT INTO identity.api_client (client_id, name, key_hash, roles, requests_per_minute) VALUES ($1, $2, $3, $4, $5)
"""
_DISABLE = """
UPDATE identity.api_client SET disabled_at = now() WHERE client_id = $1 AND disabled_at IS NULL RETURNING true
"""
_IS_KNOWN = "SELECT EXISTS (SELECT FROM identity.api_client WHERE client_id = $1)"


class ApiClients:
    """Finds machine clients by their keys, remembering for a few seconds what it found, or did not find.

    To make and disable them takes the role `comitia_staffing`.
    """

    def __init__(self, pools: Mapping[str, asyncpg.Pool], *, now: Callable[[], float] = time.monotonic) -> None:
        self._pools = pools
        self._now = now
        self._kept: dict[bytes, tuple[float, MachineClient | None]] = {}

    async def find(self, api_key: str) -> MachineClient | None:
        """Return the client of a key that is in use, or None.

        Raises:
            DomainError: `directory_unavailable`.
        """
        pool = self._pools.get(cell_of_api_key(api_key) or "")
        if pool is None:
            return None
        key_hash = api_key_hash(api_key)
        found_at, client = self._kept.get(key_hash, (float("-inf"), None))
        if self._now() - found_at < FRESH_S:
            return client
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await pool.fetchrow(_FIND, key_hash)
        client = None
        if row is not None:
            roles = frozenset(Role(role) for role in row["roles"])
            client = MachineClient(row["client_id"], roles, row["requests_per_minute"])
        if len(self._kept) >= _KEPT_MAX:
            self._kept.clear()
        self._kept[key_hash] = (self._now(), client)
        return client

    def remembers(self, api_key: str) -> bool:
        """Tell whether `find` would return a client without asking a database."""
        found_at, client = self._kept.get(api_key_hash(api_key), (float("-inf"), None))
        return client is not None and self._now() - found_at < FRESH_S

    async def create(
        self,
        cell: str,
        client_id: str,
        name: str,
        roles: Iterable[Role],
        requests_per_minute: int,
        *,
        actor: str,
    ) -> str:
        """Add a machine client and return its key, which is shown this once."""
        api_key, names = new_api_key(cell), [str(role) for role in roles]
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pools[cell]) as connection:
                row = (client_id, name, api_key_hash(api_key), names, requests_per_minute)
                await connection.execute(_CREATE, *row)
                outcome = ",".join(sorted(names))
                await append(connection, AuditEntry(AuditKind.CLIENT_ADDED, actor, client_id, outcome=outcome))
        return api_key

    async def disable(self, cell: str, client_id: str, *, actor: str) -> bool:
        """Let a client in no more, from `FRESH_S` on everywhere; tell whether there is one. Safe to repeat."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pools[cell]) as connection:
                if await connection.fetchval(_DISABLE, client_id) is not None:
                    await append(connection, AuditEntry(AuditKind.CLIENT_DISABLED, actor, client_id))
                return bool(await connection.fetchval(_IS_KNOWN, client_id))
