"""The end of an account at its owner's wish: what is left is the person, nullifiers, ballots and a certificate."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

# Whoever changes how an account is logged in to, or ends it, has logged in this short a time before.
LOGGED_IN_WITHIN: Final = timedelta(minutes=15)
DEVICES_FIELD: Final = "devices"  # of a voter's personal data: the vendor's ids of devices, one word each


class DeletionStage(StrEnum):
    """How far a deletion is; the words of the API and of `ProcessStage`."""

    REQUESTED = "requested"
    STOPPED = "stopped"  # nobody logs in or votes with the account any more
    CLOSED = "closed"  # vendors have erased what they had; credentials, look-ups and devices are gone
    COMPLETED = "completed"  # the key of the personal data is destroyed


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion as its owner sees it; completed, it is the certificate: when, and how much of each there was."""

    deletion_id: str
    voter_id: str
    stage: DeletionStage
    requested_at: datetime
    completed_at: datetime | None = None
    sessions_ended: int = 0
    cases_erased: int = 0
    devices_erased: int = 0
    credentials_removed: int = 0


class AccountEnds(Protocol):
    """The deletions of one cell. All calls are safe to repeat and raise DomainError `directory_unavailable`."""

    async def request(self, deletion_id: str, voter_id: str) -> Deletion:
        """Keep that a voter wants the account deleted; return the first such wish, whatever id it came with."""
        ...

    async def get(self, deletion_id: str) -> Deletion | None:
        """Return a deletion, or None."""
        ...

    async def unstarted(self, before: datetime, limit: int) -> Sequence[Deletion]:
        """Return deletions requested before an instant of which nothing has happened yet, oldest first."""
        ...

    async def unfinished(self, before: datetime, after: str, limit: int) -> Sequence[Deletion]:
        """Return deletions requested before an instant and not completed, by id, those behind the id `after`."""
        ...

    async def stop(self, deletion_id: str) -> None:
        """Suspend the account and end its sessions. Raises DomainError `deletion_not_found`."""
        ...

    async def note_devices_erased(self, deletion_id: str, devices: int) -> None:
        """Keep how many devices the vendor has forgotten; fewer, as are found once their ids are gone, change nothing.

        Raises:
            DomainError: `deletion_not_found`.
        """
        ...

    async def close(self, deletion_id: str) -> None:
        """Close the account for good: its look-ups are free, and its credentials and traces are gone.

        Raises:
            DomainError: `deletion_not_found`.
        """
        ...

    async def complete(self, deletion_id: str, devices_erased: int) -> Deletion:
        """Certify what was done, with the most devices that were noted. Raises DomainError `deletion_not_found`."""
        ...


class CancelsRegistrations(Protocol):
    """Ends registrations that are under way."""

    async def cancel(self, registration_id: str) -> object:
        """End a registration. Raises DomainError `registration_stage` (nothing to end), `workflows_unavailable`."""
        ...
