"""A request for a link to an address, in one cell: most cells have nobody of that address, and nobody is told."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from workflows.escalation import escalate, require_action
from workflows.messages import Messages
from workflows.policies import COMMIT, WHILE_ASKED
from workflows.refusals import refused
from workflows.search_attributes import PROCESS_STAGE
from workflows.waiting import within

with workflow.unsafe.imports_passed_through():
    from activities.recovery import RecoveryActivities
    from domain.cases import CaseKind
    from domain.contracts.accounts import (
        FoundAccount,
        LinkUse,
        RecoverAccountInput,
        RecoveredAccount,
        RecoveryEnd,
        RecoveryRequest,
        SendLinkInput,
    )
    from domain.contracts.support import CaseAction, CaseActionTaken
    from domain.errors import ErrorCode
    from domain.mailing import MessageKind
    from domain.recovery import LINK_LIFETIME
    from domain.support_actions import RESENDS_MAX, SupportAction

_CLOCKS_DIFFER = timedelta(minutes=1)  # the link ends by the database's clock
_SENT = "sent"


@workflow.defn(name="RecoverAccount")
class RecoverAccountWorkflow:
    """Sends the link, and tells the person once it was used; what is used with it never comes here."""

    @workflow.init
    def __init__(self, request: RecoverAccountInput) -> None:
        self._request = request
        self._is_used = False
        self._sent: SendLinkInput | None = None
        self._end: RecoveryEnd | None = None
        self._resent = 0
        self._is_cancelled = False
        self._sending: list[asyncio.Task[None]] = []

    @workflow.run
    async def run(self, request: RecoverAccountInput) -> RecoveredAccount:
        """Return how the request ended."""
        end = await self._recover()
        self._sent, self._end = None, end
        for sending in self._sending:  # whose link is not good any more
            sending.cancel()
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.upsert_search_attributes([PROCESS_STAGE.value_set(end.value)])
        return RecoveredAccount(request_id=request.request_id, end=end)

    @workflow.signal
    def link_used(self) -> None:
        """Look now: the link was used."""
        self._is_used = True

    @workflow.update
    async def take_action(self, action: CaseAction) -> CaseActionTaken:
        """Do what support asks for; cancelled is what was not used before."""
        if action.action is SupportAction.ESCALATE:
            escalate()
        elif action.action is SupportAction.CANCEL:
            self._is_cancelled = True
            await workflow.wait_condition(lambda: self._end is not None)
            if self._end is not RecoveryEnd.CANCELLED:
                raise refused(ErrorCode.CASE_STAGE, "it has ended by itself")
        elif action.action is SupportAction.RESEND and self._sent is not None:
            self._resent += 1
            again = self._sent.model_copy(update={"again": self._resent})
            self._sending.append(asyncio.create_task(_send_again(again)))
        return CaseActionTaken(stage=_SENT)

    @take_action.validator
    def _action_can_be_taken(self, action: CaseAction) -> None:
        sends_or_ends = {SupportAction.RESEND: self._resent < RESENDS_MAX, SupportAction.CANCEL: not self._is_used}
        permitted = action.action not in sends_or_ends or (self._sent is not None and sends_or_ends[action.action])
        require_action(action.action, CaseKind.RECOVERY, _SENT, permitted=permitted)

    async def _recover(self) -> RecoveryEnd:
        try:
            found: FoundAccount = await workflow.execute_activity_method(
                RecoveryActivities.find_account, self._request, **WHILE_ASKED
            )
            if not found.voter_id:
                return RecoveryEnd.NOBODY
            if found.at_provider:
                await self._tell(found.voter_id, MessageKind.RECOVERY_AT_PROVIDER)
                return RecoveryEnd.AT_PROVIDER
            await self._send_link(found.voter_id)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return RecoveryEnd.NOT_SENT
        return await self._see_used(found.voter_id)

    async def _send_link(self, voter_id: str) -> None:
        asked = SendLinkInput(
            request_id=self._request.request_id,
            cell=self._request.cell,
            voter_id=voter_id,
            asked_at=workflow.info().workflow_start_time,
        )
        await workflow.execute_activity_method(RecoveryActivities.send_recovery_link, asked, **WHILE_ASKED)
        self._sent = asked

    async def _see_used(self, voter_id: str) -> RecoveryEnd:
        await within(lambda: self._is_used or self._is_cancelled, LINK_LIFETIME + _CLOCKS_DIFFER)
        request = RecoveryRequest(request_id=self._request.request_id)
        cancels = self._is_cancelled
        look = RecoveryActivities.cancel_recovery if cancels else RecoveryActivities.look_at_link
        use: LinkUse = await workflow.execute_activity_method(look, request, **COMMIT)
        if not use.used:
            return RecoveryEnd.CANCELLED if cancels else RecoveryEnd.EXPIRED
        await self._tell(voter_id, MessageKind.RECOVERED)
        return RecoveryEnd.RECOVERED

    async def _tell(self, voter_id: str, kind: MessageKind) -> None:
        messages = Messages(voter_id)
        messages.send(kind, f"{self._request.request_id}/{kind.value}")
        await messages.sent()


async def _send_again(link: SendLinkInput) -> None:
    try:
        await workflow.execute_activity_method(RecoveryActivities.send_recovery_link, link, **WHILE_ASKED)
    except ActivityError as error:  # no mail for half an hour: whoever waits for it asks for another link
        if is_cancelled_exception(error):
            raise
        workflow.logger.warning("recovery_link_not_sent_again", extra={"again": link.again})
