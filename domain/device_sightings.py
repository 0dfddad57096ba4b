"""Which accounts were seen on which devices, by keyed hash: many on one device and many of one account both tell."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from domain.accounts import KeyedHash

SEEN_FOR = timedelta(days=90)  # how long an account counts on a device
COUNTED_MAX = 1000  # a device that more accounts share counts as this many


@dataclass(frozen=True, slots=True)
class DeviceCorrelation:
    """How many accounts were seen on a device (this one among them), and how many devices an account was seen on.

    `others` names some of the other accounts, newest first, for staff to read. `known`: this account was seen on it.
    """

    accounts_on_device: int
    devices_of_account: int
    others: tuple[str, ...] = ()
    known: bool = False


NEVER_SEEN: Final = DeviceCorrelation(0, 0)


class DeviceSightings(Protocol):
    """The devices seen by one cell. A device is given by every hash (`LookupHashes.every`).

    All calls raise DomainError `directory_unavailable`.
    """

    async def note(self, device: Sequence[KeyedHash], voter_id: str, at: datetime, flags: Iterable[str] = ()) -> None:
        """Note that an account was seen on a device, and what was said against the device then (`DeviceFlag`).

        Safe to repeat, and in any order: the newest flags stand.
        """
        ...

    async def correlate(self, device: Sequence[KeyedHash], voter_id: str, since: datetime) -> DeviceCorrelation:
        """Return what was seen of a device and of an account since then."""
        ...

    async def forget(self, voter_id: str) -> None:
        """Forget where an account was seen. Safe to repeat."""
        ...

    async def forget_older(self, than: timedelta) -> int:
        """Forget sightings that old, and return how many."""
        ...
