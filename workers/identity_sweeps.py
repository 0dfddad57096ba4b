"""What was stored and did not get where it belongs: registrations and deletions not begun, events nobody was told of.

And what people are to be told of their accounts, which is stored with the change and sent from here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

import structlog

from domain.account_ends import AccountEnds, Deletion
from domain.account_notices import AccountNotice, AccountNotices
from domain.accounts import PersonalRecords
from domain.contracts.accounts import DeleteAccountInput
from domain.contracts.registration import RegisterVoterInput
from domain.errors import DomainError, ErrorCode
from domain.mailing import Mailer, Message
from domain.registration import MAIL_FIELD, RegistrationPolicy
from domain.registrations import Registrations
from domain.webhook_inbox import WebhookInbox
from domain.webhooks import WebhookEvent
from integrations.identity.delivering import EvidenceDelivery, rules_for
from integrations.postgres.logins import FOLDED_MAX, PostgresLogins
from integrations.temporal.accounts import TemporalAccounts
from integrations.temporal.registrations import TemporalRegistrations

EVENTS_AFTER: Final = timedelta(seconds=3)  # who stored an event tells its process at once, unless it dies
STARTS_AFTER: Final = timedelta(minutes=1)
AGAIN_AFTER: Final = timedelta(minutes=10)
_LEASE: Final = timedelta(seconds=60)
_AT_ONCE: Final = 100
_TOLD_AT_ONCE: Final = 20
_MAILS_AT_ONCE: Final = 20
_BEGUN_AT_ONCE: Final = 20
_KEPT: Final = timedelta(days=30)  # longer than any vendor repeats a delivery
_EVERY_S: Final = 2.0
FORGET_EVERY_S: Final = 3600.0
AGAIN_EVERY_S: Final = 600.0
FOLD_EVERY_S: Final = 2.0

log = structlog.get_logger()


async def deliver_waiting(inbox: WebhookInbox, delivery: EvidenceDelivery, older_than: timedelta = EVENTS_AFTER) -> int:
    """Tell processes of events that wait, and return how many were told. What cannot be told now comes again.

    After a rush it goes on for as long as it finds many: they are hints, so their order does not matter.

    Raises:
        DomainError: `directory_unavailable`, `key_unavailable`.
    """
    told, at_once = 0, asyncio.Semaphore(_TOLD_AT_ONCE)

    async def tell(event: WebhookEvent) -> bool:
        async with at_once:
            try:
                return await delivery.deliver(event)
            except DomainError as error:
                log.warning("event_not_delivered", vendor=event.vendor, code=error.code)
                return False

    while taken := await inbox.take(_AT_ONCE, _LEASE, older_than=older_than):
        now_told = sum(await asyncio.gather(*(tell(waiting.delivery.event) for waiting in taken)))
        told += now_told
        if len(taken) < _AT_ONCE or not now_told:
            break
    return told


async def begin_unstarted(
    registrations: Registrations,
    processes: TemporalRegistrations,
    policy: RegistrationPolicy,
    cell: str,
    cells: tuple[str, ...],
    *,
    older_than: timedelta = STARTS_AFTER,
) -> int:
    """Begin registrations that were stored by who then died, and return how many. Safe to repeat.

    Raises:
        DomainError: `directory_unavailable`, `workflows_unavailable` of the first that could not be begun.
    """
    found = await registrations.unstarted(datetime.now(UTC) - older_than, _AT_ONCE)
    failures = await _failures(
        processes.start(
            RegisterVoterInput(
                registration_id=registration.registration_id,
                voter_id=registration.voter_id,
                cell=cell,
                cells=cells,
                region=registration.region,
                rules=rules_for(policy, registration.region),
            )
        )
        for registration in found
    )
    _raise_first(failures)
    return len(found)


async def begin_deletions(
    ends: AccountEnds,
    processes: TemporalAccounts,
    cell: str,
    cells: tuple[str, ...],
    *,
    older_than: timedelta = STARTS_AFTER,
) -> int:
    """Begin deletions that were stored by who then died, and return how many. Safe to repeat.

    Raises:
        DomainError: `directory_unavailable`, `workflows_unavailable` of the first that could not be begun.
    """
    found = await ends.unstarted(datetime.now(UTC) - older_than, _AT_ONCE)
    _raise_first(await _failures(processes.delete(_asked(each, cell, cells)) for each in found))
    return len(found)


async def begin_deletions_again(
    ends: AccountEnds,
    processes: TemporalAccounts,
    cell: str,
    cells: tuple[str, ...],
    *,
    older_than: timedelta = AGAIN_AFTER,
) -> int:
    """Begin again whatever deletion is not completed, and return how many there are. Safe to repeat.

    One that runs goes on as it is, however long it waits. One whose execution was terminated, timed out or failed
    begins from the first step, and every step that was done stays done. One that cannot be begun holds up no other.

    Raises:
        DomainError: `directory_unavailable`, `workflows_unavailable` of the first that could not be begun.
    """
    before, after, begun = datetime.now(UTC) - older_than, "", 0
    failures: list[BaseException] = []
    while found := await ends.unfinished(before, after, _BEGUN_AT_ONCE):
        failures += await _failures(processes.delete(_asked(each, cell, cells)) for each in found)
        after, begun = found[-1].deletion_id, begun + len(found)
    _raise_first(failures)
    return begun


async def _failures(begins: Iterable[Awaitable[object]]) -> list[BaseException]:
    """Do all of it, a few at once, and return what went wrong."""
    failures: list[BaseException] = []
    waiting = iter(begins)
    while taken := list(islice(waiting, _BEGUN_AT_ONCE)):
        told = await asyncio.gather(*taken, return_exceptions=True)
        failures += [each for each in told if isinstance(each, BaseException)]
    return failures


def _raise_first(failures: Sequence[BaseException]) -> None:
    if failures:
        raise failures[0]


def _asked(deletion: Deletion, cell: str, cells: tuple[str, ...]) -> DeleteAccountInput:
    return DeleteAccountInput(deletion_id=deletion.deletion_id, voter_id=deletion.voter_id, cell=cell, cells=cells)


async def tell_changes(notices: AccountNotices, records: PersonalRecords, mailer: Mailer, cell: str) -> int:
    """Mail people what was changed about how they log in, and return how many notices are done with.

    Safe to repeat: a notice is one message under one Message-ID. What cannot be sent now holds up no other and comes
    again, for days; who has no address any more, or one that takes no mail, is not told.

    Raises:
        DomainError: `directory_unavailable`.
    """
    done = 0
    while taken := await notices.take(_MAILS_AT_ONCE, _LEASE):
        told = await asyncio.gather(*(_tell(notice, notices, records, mailer, cell) for notice in taken))
        done += sum(told)
        if len(taken) < _MAILS_AT_ONCE or not all(told):
            break
    return done


async def _tell(
    notice: AccountNotice, notices: AccountNotices, records: PersonalRecords, mailer: Mailer, cell: str
) -> bool:
    """Tell one person of one change; False where it has to be tried again."""
    try:
        data = await records.get(notice.voter_id)
        to = "" if data is None else data.fields.get(MAIL_FIELD, "")
        if to:
            await mailer.send(Message(key=f"notice/{cell}/{notice.notice_id}", to=to, kind=notice.kind))
        await notices.told(notice.notice_id)
    except DomainError as error:
        log.warning("notice_not_sent", cell=cell, kind=notice.kind, code=error.code)
        if error.code is not ErrorCode.MAIL_REFUSED:
            return False
        await notices.told(notice.notice_id)
    return True


async def forget_handled(inbox: WebhookInbox) -> None:
    """Forget events that nobody repeats any more. Raises DomainError `directory_unavailable`."""
    await inbox.forget(_KEPT)


async def fold_logins(logins: PostgresLogins) -> None:
    """Add what logins have left to everybody's history. Raises DomainError `directory_unavailable`."""
    while await logins.fold() >= FOLDED_MAX:
        pass  # there is more


async def sweep(cell: str, work: Callable[[], Awaitable[object]], *, every_s: float = _EVERY_S) -> None:
    """Do `work` again and again until cancelled; while something is away it is tried again the next time."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await work()
        except DomainError as error:
            log.warning("sweep_failed", cell=cell, code=error.code)
        except Exception:
            # A cell that comes back with the tables of the release before, say: nobody else would go on with this
            log.exception("sweep_failed", cell=cell)
