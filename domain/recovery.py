"""Recovery of an account by a link that is sent to its address: good once, for half an hour, and only the newest one.

A link takes away the password, whether another one takes its place or a passkey, and what a thief may have added
lately: passkeys, recovery codes, and logins at identity providers. What is older stays, and so does an authenticator
app, however new: who only reads the mail gets past no second factor that was there before, and who has put in an app of
his own has nothing left to log in with but what is older, which the owner has to remove where the thief may have it
too.
"""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from domain.accounts import KeyedHash
from domain.credentials import NewPasskey

LINK_LIFETIME = timedelta(minutes=30)
DOUBTED_FOR = timedelta(days=30)  # additions are told by mail at once: who recovers has noticed within this time
_TOKEN = re.compile(r"rk_(?P<cell>[a-z][a-z0-9]{0,15})_[A-Za-z0-9_-]{43}")


def link_seed(request_id: str) -> str:
    """Return what the token of a request is made from, by keyed hash: whoever sends it again sends the same one."""
    return f"recovery/{request_id}"


def recovery_token(cell: str, seed: bytes) -> str:
    """Return the token of a link: 256 secret bits behind the cell that keeps it, `rk_eu_...`."""
    return f"rk_{cell}_{urlsafe_b64encode(seed).decode('ascii').rstrip('=')}"


def cell_of_recovery_token(token: str) -> str | None:
    """Return the cell that a token names, or None where it is no such token."""
    found = _TOKEN.fullmatch(token)
    return found["cell"] if found else None


def recovery_token_hash(token: str) -> bytes:
    """Return what is kept of a token: its SHA-256."""
    return hashlib.sha256(token.encode()).digest()


@dataclass(frozen=True, slots=True)
class Recoverable:
    """An account that may log in; `at_provider` where a provider is all it has had to log in with for `DOUBTED_FOR`."""

    voter_id: str
    at_provider: bool


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a link was used for, the sessions that ended with it, and how many late additions were taken away."""

    request_id: str
    voter_id: str
    ended: tuple[str, ...]
    removed: int = 0


class AccountRecoveries(Protocol):
    """The links of one cell. All calls raise DomainError `directory_unavailable`."""

    async def find(self, mail: Sequence[KeyedHash]) -> Recoverable | None:
        """Return the account of an address, where there is one that may log in."""
        ...

    async def begin(self, request_id: str, voter_id: str, token: str, asked_at: datetime) -> None:
        """Keep a link's hash for `LINK_LIFETIME`; links that were asked for before are not good any more.

        Safe to repeat: the first one stands.
        """
        ...

    async def voter_of(self, token: str) -> str:
        """Return the voter whose link this is, or an empty text where it is not good (any more)."""
        ...

    async def finish(
        self, token: str, password: bytes | None = None, passkey: NewPasskey | None = None
    ) -> Recovered | None:
        """Use a link, once: keep the hash of a new password or a new passkey, where one is given; end every session.

        The password of before is removed, and so are passkeys, recovery codes and logins at providers that were added
        within `DOUBTED_FOR`. Logins that
        were proven before open no session any more, whatever they wait for. The account's devices are forgotten, so
        that the next login is one from a new device, with a further factor. None where the link is not good any more,
        whoever asks at once; then nothing has changed.

        Raises:
            DomainError: `passkey_not_accepted`: it is somebody's already; the link is still good.
        """
        ...

    async def cancel(self, request_id: str) -> None:
        """Let the link of a request be good no more, unless it was used. Safe to repeat; older links stay no good."""
        ...

    async def is_used(self, request_id: str) -> bool:
        """Tell whether the link of a request was used."""
        ...

    async def forget_older(self) -> int:
        """Forget links that expired a day ago, and return how many."""
        ...
