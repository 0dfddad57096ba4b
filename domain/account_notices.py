"""What people are told by mail of changes to how they log in: kept with the change, and sent when mail is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from domain.mailing import MessageKind

NOTICES_KEPT: Final = timedelta(days=7)  # what could not be sent for so long is no news any more


@dataclass(frozen=True, slots=True)
class AccountNotice:
    """One change, and whose account it was of; `notice_id` is unique in its cell for good."""

    notice_id: int
    voter_id: str
    kind: MessageKind


class AccountNotices(Protocol):
    """The notices of one cell that are not sent yet. All calls raise DomainError `directory_unavailable`.

    Who changes something keeps the notice in the same transaction (`Credentials.put`, `LoginWays`).
    """

    async def take(self, limit: int, lease: timedelta) -> Sequence[AccountNotice]:
        """Take notices to send, oldest first; who does not say `told` within `lease` leaves them to others."""
        ...

    async def told(self, notice_id: int) -> None:
        """Forget a notice that is sent. Safe to repeat."""
        ...

    async def forget_older(self) -> int:
        """Forget notices older than `NOTICES_KEPT`, and return how many."""
        ...
