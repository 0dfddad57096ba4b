"""The first stage of a registration: a code is sent to an address, and comes back."""

from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from workflows.local_first import is_final
from workflows.messages import Messages
from workflows.policies import NOTIFY
from workflows.refusals import refused
from workflows.waiting import within

with workflow.unsafe.imports_passed_through():
    from activities.contact import ContactActivities
    from domain.contracts.registration import HashedValue, RegisterVoterInput, SendCodeInput, TriedCode
    from domain.errors import ErrorCode
    from domain.mailing import MessageKind
    from domain.registration import CODE_PAUSE, CODE_TRIES_MAX, CODES_MAX, CONTACT, Reason


class ContactProof:
    """Sends codes and takes them; of a code only its keyed hash is known here."""

    def __init__(self, request: RegisterVoterInput, messages: Messages) -> None:
        self._request = request
        self._messages = messages
        self._code: HashedValue | None = None
        self._codes = 0
        self._code_at = workflow.now()
        self._tries = 0
        self._is_asked_for_code = True
        self.is_proved = False
        self.is_cancelled = False
        self.expires_at: datetime = workflow.now() + CONTACT.expires_after

    async def run(self) -> Reason | None:
        """Return why the address was not proved, or None once it is."""
        began_at, reminded = workflow.now(), 0
        while not self.is_proved:
            if self.is_cancelled:
                return Reason.CANCELLED
            if self._is_asked_for_code and (reason := await self._send_code()):
                return reason
            if self._are_codes_used_up():
                return Reason.CODES_USED_UP
            if workflow.now() >= self.expires_at:
                return Reason.NOT_FINISHED
            after = CONTACT.next_reminder(reminded)
            reminder_at = self.expires_at if after is None else began_at + after
            if reminder_at <= workflow.now():
                reminded += 1
                key = f"{self._request.registration_id}/contact/reminder/{reminded}"
                self._messages.send(MessageKind.REMINDER, key)
                continue
            await within(self._has_news, min(reminder_at, self.expires_at) - workflow.now())
        return None

    def is_right(self, tried: TriedCode) -> bool:
        """Tell whether this is the code that was sent last."""
        return self._code is not None and self._code in tried.hashes

    def check_can_be_tried(self) -> None:
        """Raise ApplicationError `code_wrong` where this code was tried too often."""
        if self._tries >= CODE_TRIES_MAX:
            raise refused(ErrorCode.CODE_WRONG, "this code was tried too often: ask for another")

    def take(self, tried: TriedCode) -> None:
        """Take a code. Raises ApplicationError `code_wrong`."""
        if not self.is_right(tried):
            self._tries += self._code is not None  # none is known to be sent: nothing was guessed
            raise refused(ErrorCode.CODE_WRONG, "not the code that was sent")
        self.is_proved = True

    def check_can_be_sent(self) -> None:
        """Raise ApplicationError `registration_stage` or `rate_limited` where no other code is sent now."""
        if self._codes >= CODES_MAX:
            raise refused(ErrorCode.REGISTRATION_STAGE, "no more codes are sent")
        if self._is_asked_for_code or workflow.now() - self._code_at < CODE_PAUSE:
            raise refused(ErrorCode.RATE_LIMITED, "a code was sent a moment ago")

    def ask_for_code(self) -> None:
        """Have another code sent; the one before is not good any more once it is."""
        self._is_asked_for_code = True

    def _are_codes_used_up(self) -> bool:
        return self._tries >= CODE_TRIES_MAX and self._codes >= CODES_MAX and not self._is_asked_for_code

    def _has_news(self) -> bool:
        return self.is_proved or self.is_cancelled or self._is_asked_for_code or self._are_codes_used_up()

    async def _send_code(self) -> Reason | None:
        """Send the next code; return why that cannot be. Mail that is down is waited for."""
        asked = SendCodeInput(
            registration_id=self._request.registration_id, voter_id=self._request.voter_id, number=self._codes + 1
        )
        sending = workflow.start_activity_method(ContactActivities.send_contact_code, asked, **NOTIFY)
        await workflow.wait_condition(lambda: sending.done() or self.is_cancelled)
        if not sending.done():
            sending.cancel()
            return Reason.CANCELLED
        try:
            self._code = await sending
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return Reason.MAIL_REFUSED if is_final(error) else Reason.NOT_FINISHED
        self._codes, self._code_at = self._codes + 1, workflow.now()
        self._tries, self._is_asked_for_code = 0, False
        return None
