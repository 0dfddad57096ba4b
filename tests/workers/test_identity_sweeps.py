"""What the identity worker does again and again: notices are sent once each, and no failure ends a sweep."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.account_ends import Deletion, DeletionStage
from domain.account_notices import AccountNotice
from domain.accounts import PersonalData
from domain.contracts.accounts import DeleteAccountInput
from domain.errors import DomainError, ErrorCode
from domain.ids import new_deletion_id, new_voter_id
from domain.mailing import MessageKind
from domain.registration import MAIL_FIELD
from domain.webhook_inbox import Delivery, WaitingDelivery
from domain.webhooks import WebhookEvent
from tests.workflows.registration_ports import Mail
from workers.identity_sweeps import begin_deletions, begin_deletions_again, deliver_waiting, sweep, tell_changes


class Outbox:
    """Notices in memory; what is taken and not told comes again when `leases_end`."""

    def __init__(self, *notices: AccountNotice) -> None:
        self.waiting = {notice.notice_id: notice for notice in notices}
        self._taken: set[int] = set()

    async def take(self, limit: int, lease: timedelta) -> Sequence[AccountNotice]:
        assert lease > timedelta(0)
        found = [notice for number, notice in sorted(self.waiting.items()) if number not in self._taken][:limit]
        self._taken |= {notice.notice_id for notice in found}
        return found

    async def told(self, notice_id: int) -> None:
        self.waiting.pop(notice_id, None)

    async def forget_older(self) -> int:
        return 0

    def leases_end(self) -> None:
        self._taken.clear()


class Addresses:
    """Personal data of voters: an address each, but for those who have deleted their account."""

    def __init__(self, *voters: str) -> None:
        self._voters = voters
        self.failing = ""

    async def get(self, voter_id: str) -> PersonalData | None:
        if voter_id == self.failing:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE)
        return PersonalData({MAIL_FIELD: f"{voter_id}@example.org"}) if voter_id in self._voters else None

    async def put(self, voter_id: str, data: PersonalData) -> None:
        raise AssertionError(voter_id)

    async def destroy(self, voter_id: str) -> None:
        raise AssertionError(voter_id)


async def test_each_change_is_told_to_its_voter_once() -> None:
    ada, gone = new_voter_id("eu"), new_voter_id("eu")
    kinds = (MessageKind.PASSWORD_CHANGED, MessageKind.PASSKEY_ADDED)
    outbox = Outbox(*(AccountNotice(number, ada, kind) for number, kind in enumerate(kinds)))
    outbox.waiting[7] = AccountNotice(7, gone, MessageKind.APP_CHANGED)
    mail = Mail()
    assert await tell_changes(outbox, Addresses(ada), mail, "eu") == 3
    assert [(message.to, message.kind) for message in mail.sent] == [(f"{ada}@example.org", kind) for kind in kinds]
    assert len({message.key for message in mail.sent}) == 2
    assert not any(message.code or message.link for message in mail.sent)
    assert outbox.waiting == {}


async def test_mail_that_is_away_keeps_them_waiting() -> None:
    ada, mail = new_voter_id("eu"), Mail()
    outbox = Outbox(*(AccountNotice(number, ada, MessageKind.PROVIDER_LINKED) for number in range(50)))
    mail.failures = [ErrorCode.MAIL_UNAVAILABLE] * 50
    assert await tell_changes(outbox, Addresses(ada), mail, "eu") == 0
    assert len(mail.failures) > 0, "a server that is away is left alone for a while"
    assert len(outbox.waiting) == 50
    mail.failures.clear()
    outbox.leases_end()
    assert await tell_changes(outbox, Addresses(ada), mail, "eu") == 50
    assert (len(mail.sent), outbox.waiting) == (50, {})


async def test_what_cannot_be_sent_now_holds_up_no_other() -> None:
    ada, lost, mail = new_voter_id("eu"), new_voter_id("eu"), Mail()
    outbox = Outbox(
        *(AccountNotice(number, voter, MessageKind.APP_CHANGED) for number, voter in enumerate((lost, ada)))
    )
    records = Addresses(ada)
    records.failing = lost
    for _ in range(2):
        await tell_changes(outbox, records, mail, "eu")
        outbox.leases_end()
    assert [message.to for message in mail.sent] == [f"{ada}@example.org"]
    assert [notice.voter_id for notice in outbox.waiting.values()] == [lost]


async def test_an_address_that_takes_no_mail_holds_up_no_other() -> None:
    ada, bea, mail = new_voter_id("eu"), new_voter_id("eu"), Mail()
    outbox = Outbox(*(AccountNotice(number, voter, MessageKind.APP_CHANGED) for number, voter in enumerate((ada, bea))))
    mail.failures = [ErrorCode.MAIL_REFUSED]
    assert await tell_changes(outbox, Addresses(ada, bea), mail, "eu") == 2
    assert [message.to for message in mail.sent] == [f"{bea}@example.org"]


async def test_who_dies_between_sending_and_saying_so_sends_the_same_message_again() -> None:
    ada, mail = new_voter_id("eu"), Mail()
    outbox = Outbox(AccountNotice(5, ada, MessageKind.CREDENTIAL_REMOVED))
    kept = dict(outbox.waiting)
    await tell_changes(outbox, Addresses(ada), mail, "eu")
    outbox.waiting = kept
    outbox.leases_end()
    await tell_changes(outbox, Addresses(ada), mail, "eu")
    assert len(mail.sent) == 2
    assert len({message.key for message in mail.sent}) == 1


class Wished:
    """Deletions that were asked for, as `AccountEnds` finds them."""

    def __init__(self, count: int) -> None:
        now = datetime.now(UTC)
        ids = sorted(new_deletion_id("eu") for _ in range(count))
        self.rows = [Deletion(each, new_voter_id("eu"), DeletionStage.REQUESTED, now) for each in ids]

    async def unstarted(self, before: datetime, limit: int) -> Sequence[Deletion]:
        return self.rows[:limit]

    async def unfinished(self, before: datetime, after: str, limit: int) -> Sequence[Deletion]:
        return [each for each in self.rows if each.deletion_id > after][:limit]


class Processes:
    """Begins deletions, but for those that cannot be begun."""

    def __init__(self, failing: dict[str, Exception]) -> None:
        self._failing = failing
        self.begun: list[str] = []

    async def delete(self, request: DeleteAccountInput) -> None:
        if request.deletion_id in self._failing:
            raise self._failing[request.deletion_id]
        self.begun.append(request.deletion_id)


@pytest.mark.parametrize("begin", [begin_deletions, begin_deletions_again])
async def test_a_deletion_that_cannot_be_begun_holds_up_none_behind_it(begin: Any) -> None:
    wished = Wished(70)
    ids = [each.deletion_id for each in wished.rows]
    failing = {
        ids[0]: DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE),
        ids[1]: ValueError("a payload that nobody can read"),
        ids[40]: DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE),
    }
    processes = Processes(failing)
    with pytest.raises(DomainError, match="workflows_unavailable"):
        await begin(wished, processes, "eu", ("eu",))
    assert sorted(processes.begun) == [each for each in ids if each not in failing]
    assert await begin(wished, Processes({}), "eu", ("eu",)) == 70


async def test_a_sweep_goes_on_whatever_went_wrong() -> None:
    went = asyncio.Queue[int]()

    async def work() -> None:
        went.put_nowait(1)
        raise LookupError("no such table yet") if went.qsize() < 3 else DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)

    sweeping = asyncio.create_task(sweep("eu", work, every_s=0.001))
    async with asyncio.timeout(10):
        while went.qsize() < 5:
            await asyncio.sleep(0.001)
    assert not sweeping.done()
    sweeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sweeping


class Rush:
    """Webhooks that wait, each to be taken once, and processes that hear of them, or of some not yet."""

    def __init__(self, waiting: int) -> None:
        self.waiting = [str(number) for number in range(waiting)]
        self.told: list[str] = []
        self.at_once = self.most_at_once = 0
        self.failing: set[str] = set()
        self.early: set[str] = set()

    async def take(self, limit: int, lease: timedelta, *, older_than: timedelta) -> Sequence[WaitingDelivery]:
        assert lease > timedelta(0)
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        now = datetime.now(UTC)
        return [WaitingDelivery(Delivery(WebhookEvent("vendor", name, "", "kind", now)), now, 1) for name in taken]

    async def deliver(self, event: WebhookEvent) -> bool:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if event.delivery_id in self.failing:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE)
        if event.delivery_id in self.early:
            return False
        self.told.append(event.delivery_id)
        return True


async def test_a_rush_of_webhooks_is_told_in_one_sweep_and_no_failure_holds_it_up() -> None:
    rush: Any = Rush(1050)
    rush.failing, rush.early = {"3", "700"}, {"5"}
    assert await deliver_waiting(rush, rush) == 1047
    assert len(set(rush.told)) == len(rush.told) == 1047
    assert 1 < rush.most_at_once <= 20


async def test_while_nobody_can_be_told_a_sweep_ends() -> None:
    rush: Any = Rush(1050)
    rush.failing = set(rush.waiting)
    assert await deliver_waiting(rush, rush) == 0
    assert rush.waiting  # for the next one
