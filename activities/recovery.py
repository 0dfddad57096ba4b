"""Links by which people regain their accounts: made, sent, and looked at again; no history learns one."""

from collections.abc import Callable
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from domain.accounts import KeyedHash, LookupHashes, LookupKind, PersonalRecords
from domain.contracts.accounts import FoundAccount, LinkUse, RecoverAccountInput, RecoveryRequest, SendLinkInput
from domain.errors import DomainError, ErrorCode
from domain.mailing import Mailer, Message, MessageKind
from domain.recovery import AccountRecoveries, link_seed, recovery_token
from domain.registration import MAIL_FIELD


class RecoveryActivities:
    """Recovers accounts of one cell; holds the ports so that a test can pass its own."""

    def __init__(
        self, recoveries: AccountRecoveries, records: PersonalRecords, hashes: LookupHashes, mailer: Mailer, page: str
    ) -> None:
        """`page` is the address of the page that takes links, or empty where nobody has said so yet."""
        self._recoveries = recoveries
        self._records = records
        self._hashes = hashes
        self._mailer = mailer
        self._page = page

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.find_account, self.send_recovery_link, self.look_at_link, self.cancel_recovery]

    @activity.defn(name="find_account")
    async def find_account(self, request: RecoverAccountInput) -> FoundAccount:
        """Return whose address this is, where the account may log in. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            found = await self._recoveries.find([KeyedHash(each.key_id, each.digest) for each in request.mail])
        except DomainError as error:
            raise to_application_error(error) from error
        return FoundAccount() if found is None else FoundAccount(voter_id=found.voter_id, at_provider=found.at_provider)

    @activity.defn(name="send_recovery_link")
    async def send_recovery_link(self, request: SendLinkInput) -> None:
        """Keep the hash of a request's link, then send the link.

        Safe to repeat: the same request is the same link, under one Message-ID.

        Raises:
            ApplicationError: `mail_refused`; `mail_unavailable`, `directory_unavailable`, `key_unavailable` (retried).
        """
        try:
            if not self._page:
                raise DomainError(ErrorCode.MAIL_UNAVAILABLE, "no page is set that takes links")
            data = await self._records.get(request.voter_id)
            if data is None:
                raise DomainError(ErrorCode.MAIL_REFUSED, "there is no address any more")
            # Of the oldest version: a key that is made between two attempts changes nothing
            seed = (await self._hashes.every(LookupKind.CODE, link_seed(request.request_id)))[0]
            token = recovery_token(request.cell, seed.digest)
            await self._recoveries.begin(request.request_id, request.voter_id, token, request.asked_at)
            link = f"{self._page}#{token}"  # behind the hash, where no server and no referrer sees it
            key = f"{request.request_id}/link" + (f"/{request.again}" if request.again else "")
            await self._mailer.send(Message(key=key, to=data.fields[MAIL_FIELD], kind=MessageKind.RECOVERY, link=link))
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="look_at_link")
    async def look_at_link(self, request: RecoveryRequest) -> LinkUse:
        """Return whether the link of a request was used. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            return LinkUse(used=await self._recoveries.is_used(request.request_id))
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="cancel_recovery")
    async def cancel_recovery(self, request: RecoveryRequest) -> LinkUse:
        """Let the link of a request be good no more; return whether it was used before. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            await self._recoveries.cancel(request.request_id)
            return LinkUse(used=await self._recoveries.is_used(request.request_id))
        except DomainError as error:
            raise to_application_error(error) from error
