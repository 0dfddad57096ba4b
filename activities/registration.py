"""What registration does in the voter's own cell: it notes where it stands, and makes, opens and ends the account."""

from collections.abc import Callable
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from domain.accounts import Accounts, LookupHashes, LookupKind, PersonalRecords
from domain.contracts.registration import (
    ActivatedVoter,
    ActivateVoterInput,
    CaseNumber,
    EndAccountInput,
    NoteStageInput,
    OpenAccountInput,
    OpenedAccount,
)
from domain.eligibility import VoterStatus
from domain.errors import DomainError
from domain.registration import MAIL_FIELD
from domain.registrations import Registrations, StageNote


class RegistrationActivities:
    """Writes registrations and accounts of one cell; holds the ports so that a test can pass its own."""

    def __init__(
        self, registrations: Registrations, accounts: Accounts, records: PersonalRecords, hashes: LookupHashes
    ) -> None:
        self._registrations = registrations
        self._accounts = accounts
        self._records = records
        self._hashes = hashes

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [
            self.note_stage,
            self.note_erased,
            self.open_account,
            self.activate_voter,
            self.suspend_account,
            self.close_account,
            self.destroy_personal_data,
        ]

    @activity.defn(name="note_stage")
    async def note_stage(self, note: NoteStageInput) -> NoteStageInput:
        """Keep where a registration stands, for its API. Safe to repeat: an older note changes nothing.

        The note comes back because a history keeps of a local activity what came of it, not what it was given.

        Raises:
            ApplicationError: `directory_unavailable` (retried), `registration_not_found` (a fault).
        """
        try:
            await self._registrations.note(
                StageNote(
                    note.registration_id,
                    note.revision,
                    note.stage,
                    note.reasons,
                    note.staff_reasons,
                    note.case_no,
                    note.provider,
                    note.reference,
                    note.expires_at,
                    note.policy_version,
                )
            )
        except DomainError as error:
            raise to_application_error(error) from error
        return note

    @activity.defn(name="note_erased")
    async def note_erased(self, case: CaseNumber) -> None:
        """Keep that the provider has confirmed the erasure of a case. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            await self._registrations.note_erased(case.registration_id, case.case_no)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="open_account")
    async def open_account(self, request: OpenAccountInput) -> OpenedAccount:
        """Add the account of a voter whose address is proved. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable`, `key_unavailable` (retried).
        """
        try:
            kept = await self._records.get(request.voter_id)
            if kept is None:  # destroyed meanwhile: nobody is left to open an account for
                return OpenedAccount(opened=False)
            mail = kept.fields[MAIL_FIELD]
            lookups = {LookupKind.MAIL: await self._hashes.every(LookupKind.MAIL, mail)}
            return OpenedAccount(opened=await self._accounts.open(request.voter_id, request.region, lookups))
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="activate_voter")
    async def activate_voter(self, request: ActivateVoterInput) -> ActivatedVoter:
        """Make a registered voter an active one who is this person. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            activated = await self._accounts.activate(
                request.voter_id, request.person_id, request.assurance, request.age_class
            )
        except DomainError as error:
            raise to_application_error(error) from error
        return ActivatedVoter(activated=activated)

    @activity.defn(name="suspend_account")
    async def suspend_account(self, request: EndAccountInput) -> None:
        """Suspend an account, which staff can undo. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            await self._accounts.set_status(request.voter_id, VoterStatus.SUSPENDED, request.reason)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="close_account")
    async def close_account(self, request: EndAccountInput) -> None:
        """Close an account that never became active, which frees its address. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            if await self._accounts.get(request.voter_id) is not None:
                await self._accounts.set_status(request.voter_id, VoterStatus.CLOSED, request.reason)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="destroy_personal_data")
    async def destroy_personal_data(self, request: EndAccountInput) -> None:
        """Destroy the key of what is known of somebody who has no account. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable`, `key_unavailable` (retried).
        """
        try:
            await self._records.destroy(request.voter_id)
        except DomainError as error:
            raise to_application_error(error) from error
