"""Device events that clients hand over as the vendor sealed them for us: then nobody has to ask the vendor for them.

What a sealed result says is what the vendor's own answer would say. Whether the event is one of this request is judged
afterwards, as of any other.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import structlog

from domain.devices import DeviceEvent, DeviceIntelligence, SealedDeviceEvents
from domain.errors import DomainError

_KEPT_S: Final = 60.0  # a decision is made within seconds, its repeats included
_KEPT_MAX: Final = 4096

log = structlog.get_logger(__name__)


class ShownDevices:
    """Implements `DeviceIntelligence` by another one, which is asked for the events that nobody has shown here."""

    def __init__(
        self, devices: DeviceIntelligence, sealed: SealedDeviceEvents, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._devices = devices
        self._sealed = sealed
        self._now = now
        self._kept: OrderedDict[str, tuple[DeviceEvent, float]] = OrderedDict()

    def show(self, event_id: str, result: str) -> bool:
        """Take an event out of a sealed result, for a minute; tell whether it was taken.

        What cannot be opened, is another event or is not complete yet is left: the vendor will be asked.
        """
        try:
            event = self._sealed.open(result)
        except DomainError as error:
            log.info("device_result_not_opened", reason=error.detail)
            return False
        if event.event_id != event_id or not event.complete:
            return False
        self._kept.pop(event_id, None)
        self._kept[event_id] = event, self._now() + _KEPT_S
        if len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        return True

    async def event(self, event_id: str) -> DeviceEvent:
        """Return an event as it was shown, or else as the vendor has it."""
        kept = self._kept.get(event_id)
        if kept is not None and self._now() < kept[1]:
            return kept[0]
        return await self._devices.event(event_id)

    async def erase(self, device_id: str) -> None:
        """Ask the vendor to forget a device."""
        await self._devices.erase(device_id)
