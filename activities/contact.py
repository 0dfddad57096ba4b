"""Messages to a person: the address is read, and the text made, in the moment of sending."""

from collections.abc import Callable
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from domain.accounts import LookupHashes, LookupKind, PersonalRecords
from domain.contracts.registration import HashedValue, SendCodeInput, SendMessageInput
from domain.errors import DomainError, ErrorCode
from domain.mailing import Mailer, Message, MessageKind
from domain.registration import ADVICE_FIELD, MAIL_FIELD, code_seed, code_value, contact_code

_ADVISING = frozenset({MessageKind.PROOFING_RETRY, MessageKind.PROOFING_REJECTED})


class ContactActivities:
    """Sends mail to the voters of one cell; holds the ports so that a test can pass its own."""

    def __init__(self, records: PersonalRecords, hashes: LookupHashes, mailer: Mailer) -> None:
        self._records = records
        self._hashes = hashes
        self._mailer = mailer

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.send_contact_code, self.send_message]

    @activity.defn(name="send_contact_code")
    async def send_contact_code(self, request: SendCodeInput) -> HashedValue:
        """Send the code of a number, and return its keyed hash, which is all that is kept of it.

        Safe to repeat: the same number is the same code, under one Message-ID.

        Raises:
            ApplicationError: `mail_refused`; `mail_unavailable`, `directory_unavailable`, `key_unavailable` (retried).
        """
        registration_id, number = request.registration_id, request.number
        try:
            seed = await self._hashes.newest(LookupKind.CODE, code_seed(registration_id, number))
            code = contact_code(seed.digest)
            kept = await self._hashes.newest(LookupKind.CODE, code_value(registration_id, code))
            data = await self._records.get(request.voter_id)
            if data is None:
                raise DomainError(ErrorCode.MAIL_REFUSED, "there is no address any more")
            key = f"{registration_id}/code/{number}"
            await self._mailer.send(
                Message(key=key, to=data.fields[MAIL_FIELD], kind=MessageKind.PROVE_CONTACT, code=code)
            )
        except DomainError as error:
            raise to_application_error(error) from error
        return HashedValue(key_id=kept.key_id, digest=kept.digest)

    @activity.defn(name="send_message")
    async def send_message(self, request: SendMessageInput) -> None:
        """Send a message without secrets; nobody gets it whose personal data is destroyed.

        Repeated, it is sent again under the same Message-ID.

        Raises:
            ApplicationError: `mail_refused`; `mail_unavailable`, `directory_unavailable`, `key_unavailable` (retried).
        """
        try:
            data = await self._records.get(request.voter_id)
            if data is None:
                return
            advice = data.fields.get(ADVICE_FIELD, "") if request.kind in _ADVISING else ""
            await self._mailer.send(
                Message(key=request.key, to=data.fields[MAIL_FIELD], kind=request.kind, advice=advice)
            )
        except DomainError as error:
            raise to_application_error(error) from error
