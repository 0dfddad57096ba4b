"""The device that a login comes from: what the vendor says of it, and what that comes to with what is known."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from activities.failures import to_application_error
from domain.accounts import KeyedHash, LookupHashes, LookupKind, PersonalData, VoterSeals
from domain.contracts.login import FeatureValue, LookAtDeviceInput, SeenDevice
from domain.contracts.registration import hashed_values
from domain.device_events import EventUse
from domain.device_policy import (
    DEVICE_POLICIES,
    DeviceCircumstances,
    DeviceDecision,
    DeviceUse,
    DeviceVerdict,
    judge_device,
)
from domain.devices import DEVICES_AWAY, DeviceEvent, DeviceIntelligence
from domain.errors import DomainError, ErrorCode
from domain.login_features import event_values, network_value
from domain.login_risk import travel_kmh
from domain.logins import VENDOR_WITHIN_S, KnownLogins
from domain.risk import UNKNOWN_NETWORK

_LATITUDE, _LONGITUDE = "latitude", "longitude"


@dataclass(frozen=True, slots=True)
class MetDevice:
    """What a vendor says of a device, and the keyed hashes of it; without an event `unseen` is what that comes to."""

    unseen: SeenDevice
    event: DeviceEvent | None = None
    device: tuple[KeyedHash, ...] = ()
    values: tuple[FeatureValue, ...] = ()

    def used_for(self, attempt_id: str) -> EventUse | None:
        """Return the use of the event by a login; one that a release of before began (without an id) uses none."""
        return None if self.event is None or not attempt_id else EventUse(self.event.event_id, attempt_id)


NOTHING_MET: Final = MetDevice(SeenDevice())


class LoginDevices:
    """Judges the devices of logins of one cell; a vendor that is None or does not answer within 1.5 s is absent."""

    def __init__(self, vendor: DeviceIntelligence | None, seals: VoterSeals, hashes: LookupHashes) -> None:
        self._vendor = vendor
        self._seals = seals
        self._hashes = hashes

    async def meet(self, request: LookAtDeviceInput) -> MetDevice:
        """Return what the vendor says of a device, with its keyed hashes."""
        if self._vendor is None:
            return MetDevice(SeenDevice(absent=True))
        try:
            async with asyncio.timeout(VENDOR_WITHIN_S):
                event = await self._vendor.event(request.device_event_id)
        except TimeoutError:
            return MetDevice(SeenDevice(absent=True))
        except DomainError as error:
            if error.code in DEVICES_AWAY:
                return MetDevice(SeenDevice(absent=True))
            if error.code is ErrorCode.DEVICE_EVENT_INVALID:
                return MetDevice(SeenDevice(refused=True, reasons=(error.code.value,)))
            raise to_application_error(error) from error
        try:
            device = await self._hashes.every(LookupKind.DEVICE, event.device_id) if event.device_id else ()
            values = []
            for feature, level, value in event_values(event):
                hashes = await self._hashes.every(LookupKind.FEATURE, value)
                values.append(FeatureValue(feature=feature, level=level, hashes=hashed_values(hashes)))
        except DomainError as error:
            raise to_application_error(error) from error
        return MetDevice(SeenDevice(), event, tuple(device), tuple(values))

    async def seen(self, request: LookAtDeviceInput, met: MetDevice, known: KnownLogins) -> SeenDevice:
        """Judge a device by what is known of it; `known.counts` are those of its values."""
        event, on_device, now = met.event, known.on_device, datetime.now(UTC)
        if event is None:
            return met.unseen
        place, speed = await self._travel(request.voter_id, event, known, now)
        new = 0 if on_device.known or not met.device else 1
        verdict = judge_device(
            event,
            DeviceCircumstances(
                now=now,
                nonce=request.nonce,
                used_before=not known.event_is_fresh,
                client_address=await self._address_like(event, request.network),
                accounts_on_device=on_device.accounts_on_device + new,
                devices_on_account=on_device.devices_of_account + new,
            ),
            DeviceUse.LOGIN,
            DEVICE_POLICIES[request.policy_version],
        )
        return SeenDevice(
            refused=_is_refused(verdict),
            known=on_device.known,
            score_permille=verdict.score_permille,
            reasons=verdict.reasons,
            device=hashed_values(met.device),
            values=met.values,
            counts=known.counts,
            place=place,
            travel_kmh=speed,
            flags=tuple(sorted(event.flags)),
        )

    async def _address_like(self, event: DeviceEvent, network: FeatureValue) -> str:
        """Return an address that is in the event's network if the request was: only its hash comes here."""
        own = await self._hashes.every(LookupKind.FEATURE, network_value(event.ip_address))
        same = {one.digest for one in own} & {one.digest for one in network.hashes}
        return event.ip_address if same else UNKNOWN_NETWORK

    async def _travel(self, voter_id: str, event: DeviceEvent, known: KnownLogins, now: datetime) -> tuple[bytes, int]:
        """Return where the event was, sealed, and how fast (km/h) somebody would have come there; -1 is not known."""
        if event.latitude is None or event.longitude is None:
            return b"", -1
        here = {_LATITUDE: f"{event.latitude:.2f}", _LONGITUDE: f"{event.longitude:.2f}"}
        last, key = known.last_place, known.data_key
        sealed = await self._seals.seal(voter_id, PersonalData(here), key)
        opened = None if last is None else await self._seals.unseal(voter_id, last[0], key)
        if last is None or opened is None:
            return sealed, -1
        before = float(opened.fields[_LATITUDE]), float(opened.fields[_LONGITUDE])
        hours = max(0.0, (now - last[1]).total_seconds()) / 3600
        return sealed, travel_kmh(before, (event.latitude, event.longitude), hours)


def _is_refused(verdict: DeviceVerdict) -> bool:
    return verdict.decision in {DeviceDecision.REFUSED, DeviceDecision.INVALID}
