"""What an account is logged in to with besides codes by mail: a password, passkeys, logins at identity providers.

The last of them stays: who has a code by mail alone is let in on no new device. Every change is told to the voter by
mail, whatever happens to the process that makes it (`AccountNotices`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from domain.accounts import KeyedHash
from domain.federation import TRANSACTION_LIFETIME

LINK_BEGUN_FOR: Final = TRANSACTION_LIFETIME + timedelta(minutes=50)  # then whoever has begun it is dead


@dataclass(frozen=True, slots=True)
class ProviderLink:
    """A login at an identity provider, by the provider's name in the settings."""

    provider: str
    linked_at: datetime


class LoginWays(Protocol):
    """The ways into the accounts of one cell. All calls raise DomainError `directory_unavailable`.

    A login at a provider belongs to one account at most, of all cells: it is begun at home, where the unique hash
    decides, looked for in every other cell, and linked when it is in none. Until then nobody logs in by it, and nobody
    else can begin it. Of two accounts in two cells that begin it at once none may get it, and never both.
    """

    async def begin_link(self, voter_id: str, provider: str, login: Sequence[KeyedHash], session_id: str = "") -> bool:
        """Begin to link a login, given by every hash; False where another account of the cell has it or has begun.

        Safe to repeat, also with a login that is linked already: it stays. With `session_id`, of who asks for it,
        nothing is begun once that session has ended.

        Raises:
            DomainError: `provider_linked`: the account has another login at this provider; `voter_not_active`;
                `step_up_required`: the session has ended.
        """
        ...

    async def is_taken(self, login: Sequence[KeyedHash], voter_id: str) -> bool:
        """Tell whether an account other than the voter's has a login, or has begun to link it."""
        ...

    async def finish_link(self, voter_id: str, provider: str, login: Sequence[KeyedHash], session_id: str = "") -> bool:
        """Link a login that was begun, and no other; False where it is not begun or linked (any more). Safe to repeat.

        Raises:
            DomainError: `step_up_required`: the session `session_id` has ended.
        """
        ...

    async def drop_link(self, voter_id: str, provider: str, login: Sequence[KeyedHash]) -> None:
        """Forget a login that was begun and is not linked. Safe to repeat."""
        ...

    async def links(self, voter_id: str) -> Sequence[ProviderLink]:
        """Return the logins at providers that are linked, oldest first."""
        ...

    async def unlink(self, voter_id: str, provider: str, session_id: str = "") -> bool:
        """Let nobody log in to an account by a provider any more; False where nobody could.

        Raises:
            DomainError: `last_credential`; `step_up_required`: the session `session_id`, of who asks, has ended.
        """
        ...

    async def remove_credential(self, voter_id: str, credential_id: str, session_id: str = "") -> bool:
        """Remove a credential of a voter, given by its UUID; False where there is none.

        Raises:
            DomainError: as `unlink`.
        """
        ...

    async def drop_abandoned(self) -> int:
        """Forget what was begun longer ago than `LINK_BEGUN_FOR`, and return how many hashes."""
        ...
