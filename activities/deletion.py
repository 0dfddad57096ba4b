"""The steps by which an account ends, each safe to repeat; what cannot be done now is done later."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from domain.account_ends import DEVICES_FIELD, AccountEnds, CancelsRegistrations
from domain.accounts import LookupHashes, LookupKind, PersonalRecords
from domain.contracts.accounts import (
    DeletedAccount,
    DeletionStep,
    EndedRegistration,
    ErasableCase,
    ErasableCases,
    ErasedDevices,
)
from domain.device_sightings import SEEN_FOR, DeviceSightings
from domain.devices import DeviceIntelligence
from domain.errors import DomainError, ErrorCode
from domain.registrations import ENDED, Registrations


class DeletionActivities:
    """Deletes accounts of one cell; holds the ports so that a test can pass its own."""

    def __init__(
        self,
        ends: AccountEnds,
        registrations: Registrations,
        processes: CancelsRegistrations,
        records: PersonalRecords,
        *,
        hashes: LookupHashes,
        sightings: DeviceSightings,
        devices: DeviceIntelligence | None,
    ) -> None:
        self._ends = ends
        self._registrations = registrations
        self._processes = processes
        self._records = records
        self._hashes = hashes
        self._sightings = sightings
        self._devices = devices

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [
            self.stop_account,
            self.end_registration,
            self.list_cases,
            self.erase_devices,
            self.end_account,
            self.certify_deletion,
        ]

    @activity.defn(name="stop_account")
    async def stop_account(self, step: DeletionStep) -> None:
        """Suspend an account and end its sessions. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried), `deletion_not_found` (a fault).
        """
        try:
            await self._ends.stop(step.deletion_id)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="end_registration")
    async def end_registration(self, step: DeletionStep) -> EndedRegistration:
        """End the registration that a voter came from, if it goes on; tell whether it has ended. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable`, `workflows_unavailable` (retried).
        """
        try:
            found = await self._registrations.of_voter(step.voter_id)
            if found is None:
                return EndedRegistration(over=True)
            try:
                await self._processes.cancel(found.registration_id)  # what was refused may wait for an appeal
            except DomainError as error:
                if error.code is not ErrorCode.REGISTRATION_STAGE:
                    raise
                return EndedRegistration(over=True)
            now = await self._registrations.get(found.registration_id)
            return EndedRegistration(over=now is None or now.stage in ENDED)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="list_cases")
    async def list_cases(self, step: DeletionStep) -> ErasableCases:
        """Return the cases that are still to be erased. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            found = await self._registrations.cases_of(step.voter_id)
        except DomainError as error:
            raise to_application_error(error) from error
        return ErasableCases(
            cases=tuple(
                ErasableCase(
                    registration_id=case.registration_id,
                    case_no=case.case_no,
                    provider=case.provider,
                    reference=case.reference,
                )
                for case in found
                if not case.erased
            )
        )

    @activity.defn(name="erase_devices")
    async def erase_devices(self, step: DeletionStep) -> ErasedDevices:
        """Have the vendor forget a voter's devices, but for those that somebody else uses; keep how many there were.

        Safe to repeat: also once nobody knows the devices any more, the figure that was kept stays.

        Raises:
            ApplicationError: `devices_unavailable`, `directory_unavailable`, `key_unavailable` (retried),
                `devices_misconfigured`, `deletion_not_found` (faults).
        """
        erased, kept = 0, 0
        try:
            data = await self._records.get(step.voter_id)
            named = "" if data is None else data.fields.get(DEVICES_FIELD, "")
            for device_id in named.split():
                if await self._is_shared(device_id, step.voter_id):
                    kept += 1
                    continue
                if self._devices is None:
                    raise DomainError(ErrorCode.DEVICES_UNAVAILABLE, "nobody to ask")
                await self._devices.erase(device_id)
                erased += 1
            await self._ends.note_devices_erased(step.deletion_id, erased)
        except DomainError as error:
            raise to_application_error(error) from error
        return ErasedDevices(erased=erased, kept=kept)

    @activity.defn(name="end_account")
    async def end_account(self, step: DeletionStep) -> None:
        """Close an account for good, with everything that it was found and logged in to by. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried), `deletion_not_found` (a fault).
        """
        try:
            await self._ends.close(step.deletion_id)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="certify_deletion")
    async def certify_deletion(self, step: DeletionStep) -> DeletedAccount:
        """Keep that everything is done, and what it was. Safe to repeat: the first certificate stands.

        Raises:
            ApplicationError: `directory_unavailable` (retried), `deletion_not_found` (a fault).
        """
        try:
            done = await self._ends.complete(step.deletion_id, step.devices_erased)
        except DomainError as error:
            raise to_application_error(error) from error
        assert done.completed_at is not None
        return DeletedAccount(
            deletion_id=done.deletion_id,
            completed_at=done.completed_at,
            sessions_ended=done.sessions_ended,
            cases_erased=done.cases_erased,
            devices_erased=done.devices_erased,
            credentials_removed=done.credentials_removed,
        )

    async def _is_shared(self, device_id: str, voter_id: str) -> bool:
        hashed = await self._hashes.every(LookupKind.DEVICE, device_id)
        seen = await self._sightings.correlate(hashed, voter_id, datetime.now(UTC) - SEEN_FOR)
        return bool(seen.others)
