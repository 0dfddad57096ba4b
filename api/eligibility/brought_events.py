"""Device events that voters bring when they ask to vote: looked at before a group is made, so that no group waits.

Whoever brings none is not concerned. An event is looked at by the rules of a login's, used up for this voter and this
survey, and must be of the device that the access token names. What it comes to is judged with everything else.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from api.eligibility.desk import OVERLOADED_RETRY_AFTER_S, Answer, Application, Desk
from domain.accounts import KeyedHash, LookupHashes, LookupKind
from domain.device_events import UsedDeviceEvents
from domain.device_policy import (
    DeviceCircumstances,
    DeviceDecision,
    DevicePolicy,
    DeviceUse,
    DeviceVerdict,
    judge_device,
)
from domain.device_sightings import DeviceSightings
from domain.devices import DEVICES_AWAY, DeviceEvent
from domain.errors import DomainError, ErrorCode
from domain.ports import BroughtEvent
from domain.pseudonyms import pseudonym
from integrations.devices.opening import OpenDevices
from integrations.keys import base64url

VENDOR_WITHIN_S: Final = 0.8  # a person waits, and the risk rules are still to come
LOOKS_MAX: Final = 64  # at once, in one cell
_ABSENT: Final = BroughtEvent(absent=True)


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """A device event as a request shows it; `result` is the same as the vendor sealed it for us, or empty."""

    event_id: str = field(repr=False)
    nonce: str = field(repr=False)
    result: str = field(repr=False)
    client_address: str = field(repr=False)


class EventSubmissions(Protocol):
    """Where an application goes that brings a device event."""

    def submit(self, application: Application, shown: ShownEvent, answer: Answer) -> None:
        """Take an application; `answer` is called once, later. Raises DomainError `overloaded`."""
        ...


@dataclass(frozen=True, slots=True)
class EventSource:
    """Who knows events, and what makes the keyed hashes of their devices."""

    devices: OpenDevices
    hashes: LookupHashes


@dataclass(frozen=True, slots=True)
class EventStores:
    """What one cell keeps of events and devices."""

    used: UsedDeviceEvents
    sightings: DeviceSightings


class EventDesk:
    """Looks at the events that applications of one cell bring, each by itself, and hands over to the desk."""

    def __init__(
        self,
        desk: Desk,
        source: EventSource,
        stores: EventStores,
        *,
        policy: DevicePolicy,
        pseudonym_key: bytes,
        now: Callable[[], float] = time.time,
        vendor_within_s: float = VENDOR_WITHIN_S,
        looks_max: int = LOOKS_MAX,
    ) -> None:
        self._desk = desk
        self._source = source
        self._stores = stores
        self._policy = policy
        self._pseudonym_key = pseudonym_key
        self._now = now
        self._vendor_within_s = vendor_within_s
        self._looks_max = looks_max
        self._looking: set[asyncio.Task[None]] = set()

    def submit(self, application: Application, shown: ShownEvent, answer: Answer) -> None:
        """Take an application with its event; `answer` is called once, later, on the event loop.

        Raises:
            DomainError: `overloaded`; too many are looked at already.
        """
        if len(self._looking) >= self._looks_max:
            raise DomainError(ErrorCode.OVERLOADED, retry_after_s=OVERLOADED_RETRY_AFTER_S)
        task = asyncio.create_task(self._look(application, shown, answer))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _look(self, application: Application, shown: ShownEvent, answer: Answer) -> None:
        try:
            event = await self._found(application, shown)
            self._desk.submit(replace(application, event=event), answer)
        except DomainError as error:
            answer(error)
        except BaseException:
            answer(DomainError(ErrorCode.INTERNAL))
            raise

    async def _found(self, application: Application, shown: ShownEvent) -> BroughtEvent:
        """Return what an event comes to.

        Raises:
            DomainError: `device_mismatch`; `directory_unavailable`, `key_unavailable`.
        """
        try:
            event = await self._read(shown)
        except DomainError as error:
            if error.code is ErrorCode.DEVICE_EVENT_INVALID:
                return BroughtEvent(invalid=True)
            if error.code in DEVICES_AWAY:
                return _ABSENT
            raise
        except TimeoutError:
            return _ABSENT
        device = await self._source.hashes.every(LookupKind.DEVICE, event.device_id) if event.device_id else ()
        named = application.claims.device
        # Before it is used up: who shows somebody else's event does not take it from them
        if device and named and not _is_one_of(named, device):
            raise DomainError(ErrorCode.DEVICE_MISMATCH)
        verdict = await self._judged(event, application, shown)
        # Whoever asks again without an event is refused as well. Of a device that is let in nothing is noted: it would
        # be a list of when somebody asked to vote
        if verdict.decision is DeviceDecision.REFUSED and device and named:
            await self._stores.sightings.note(device, application.claims.sub, event.at, event.flags)
        return BroughtEvent(
            score_permille=verdict.score_permille,
            reasons=verdict.reasons,
            invalid=verdict.decision is DeviceDecision.INVALID,
            refused=verdict.decision is DeviceDecision.REFUSED,
        )

    async def _read(self, shown: ShownEvent) -> DeviceEvent:
        devices = self._source.devices
        if devices.shown is not None and shown.result:
            devices.shown.show(shown.event_id, shown.result)
        async with asyncio.timeout(self._vendor_within_s):
            return await devices.vendor.event(shown.event_id)

    async def _judged(self, event: DeviceEvent, application: Application, shown: ShownEvent) -> DeviceVerdict:
        """Judge an event and use it up; the same voter may bring it for the same survey again."""
        asked = pseudonym(self._pseudonym_key, "admission", application.claims.sub, application.survey_id)
        circumstances = DeviceCircumstances(
            now=datetime.fromtimestamp(self._now(), UTC),
            nonce=shown.nonce,
            used_before=not await self._stores.used.use(event.event_id, f"admission/{asked.hex()}"),
            client_address=shown.client_address,
        )
        return judge_device(event, circumstances, DeviceUse.VOTING, self._policy)


class NoEventDesk:
    """Stands where nobody can say what an event is: it is never a yes."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def submit(self, application: Application, _shown: ShownEvent, answer: Answer) -> None:
        """Take an application, whose event tells nothing. Raises DomainError `overloaded`."""
        self._desk.submit(replace(application, event=_ABSENT), answer)


def _is_one_of(named: str, device: Sequence[KeyedHash]) -> bool:
    return any(named == base64url.encode_text(known.digest) for known in device)
