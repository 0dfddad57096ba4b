"""Machine clients: programs that call internal routes with a key instead of a login."""

import hashlib
import re
import secrets
from dataclasses import dataclass

from domain.tokens import Role

_API_KEY = re.compile(r"ck_(?P<cell>[a-z][a-z0-9]{0,15})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class MachineClient:
    """A machine client with roles and a limit of its own."""

    client_id: str
    roles: frozenset[Role]
    requests_per_minute: int


def new_api_key(cell: str) -> str:
    """Return a new key, 256 random bits behind the cell that knows its client: `ck_eu_...`."""
    return f"ck_{cell}_{secrets.token_urlsafe(32)}"


def cell_of_api_key(api_key: str) -> str | None:
    """Return the cell that a key names, or None where it is no key."""
    found = _API_KEY.fullmatch(api_key)
    return found["cell"] if found else None


def api_key_hash(api_key: str) -> bytes:
    """Return what is kept of a key: its SHA-256. 256 random bits need no slow hash."""
    return hashlib.sha256(api_key.encode()).digest()
