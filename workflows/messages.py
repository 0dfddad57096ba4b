"""Messages to a person, sent beside the process: mail that is down delays no decision."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from workflows.policies import NOTIFY

with workflow.unsafe.imports_passed_through():
    from activities.contact import ContactActivities
    from domain.contracts.registration import SendMessageInput
    from domain.mailing import MessageKind


class Messages:
    """The messages of one process to one voter."""

    def __init__(self, voter_id: str) -> None:
        self._voter_id = voter_id
        self._sending: list[asyncio.Task[None]] = []

    def send(self, kind: MessageKind, key: str) -> None:
        """Begin to send a message; `key` tells a repeat from a second message."""
        self._sending.append(asyncio.create_task(_send(SendMessageInput(voter_id=self._voter_id, kind=kind, key=key))))

    async def sent(self) -> None:
        """Return when every message is sent, or was given up."""
        await asyncio.gather(*self._sending)

    def drop(self) -> None:
        """Give up what is not sent yet: the person need not hear it any more."""
        for task in self._sending:
            task.cancel()
        self._sending.clear()


async def _send(message: SendMessageInput) -> None:
    try:
        await workflow.execute_activity_method(ContactActivities.send_message, message, **NOTIFY)
    except ActivityError as error:  # no such mailbox any more, or no mail for days: the process goes on without
        if is_cancelled_exception(error):
            raise
        workflow.logger.warning("message_not_sent", extra={"kind": message.kind.value})
