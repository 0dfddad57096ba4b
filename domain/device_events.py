"""Device events count once: who brings one again shows a copy of what a device said, and no device."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

# Of what a request brings, in characters: an event's id, the nonce that it was made for, and the same as sealed for us
EVENT_ID_MAX: Final = 128
NONCE_MIN: Final = 16
NONCE_MAX: Final = 128
SEALED_EVENT_MAX: Final = 48 * 1024
EVENTS_KEPT: Final = timedelta(hours=1)  # longer than any policy lets an event be old


@dataclass(frozen=True, slots=True)
class EventUse:
    """A device event, and the request that it is used for: named by at most 128 characters."""

    event_id: str
    request: str


class UsedDeviceEvents(Protocol):
    """The events that one cell has taken. All calls raise DomainError `directory_unavailable`."""

    async def use(self, event_id: str, request: str) -> bool:
        """Use an event for a request, named by at most 128 characters; False where another request has used it.

        Safe to repeat: a request that comes again has used it itself. Of two that come at once one has.
        """
        ...

    async def forget_older(self) -> int:
        """Forget events used longer ago than `EVENTS_KEPT`, and return how many."""
        ...
