"""The desk of brought events: how many it looks at, how long it waits, and that everybody is answered once."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from api.eligibility.brought_events import EventDesk, EventSource, EventStores, ShownEvent
from api.eligibility.desk import Answer, Application, Desk
from api.eligibility.voting_tokens import VotingToken
from domain.accounts import KeyedHash, LookupKind
from domain.device_policy import CURRENT_DEVICE_POLICY
from domain.device_sightings import DeviceCorrelation
from domain.devices import DeviceEvent
from domain.errors import DomainError, ErrorCode
from domain.ports import BroughtEvent
from domain.proofing import Document
from integrations.devices.opening import OpenDevices
from tests.api.eligibility.test_desk import World, application

SHOWN = ShownEvent("1.event", "a nonce of 16 letters", "", "192.0.2.1")
TOKEN = VotingToken("a token", datetime.now(UTC))
Result = VotingToken | DomainError


@dataclass
class Behind:
    """Fakes of everything behind a desk of events, and of the desk that they are handed over to."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None
    overloaded: bool = False
    handed_over: list[Application] = field(default_factory=list)

    async def event(self, event_id: str) -> DeviceEvent:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return DeviceEvent(event_id, datetime.now(UTC), "visitor", 1.0, SHOWN.nonce, ip_address="192.0.2.1")

    async def erase(self, device_id: str) -> None:
        raise NotImplementedError

    async def every(self, kind: LookupKind, value: str) -> tuple[KeyedHash, ...]:
        assert (kind, value) == (LookupKind.DEVICE, "visitor")
        return (KeyedHash("lookup/1", b"d" * 32),)

    async def newest(self, kind: LookupKind, value: str) -> KeyedHash:
        raise NotImplementedError

    async def document(self, document: Document) -> tuple[KeyedHash, ...]:
        raise NotImplementedError

    async def use(self, event_id: str, request: str) -> bool:
        assert event_id == SHOWN.event_id
        assert len(request) <= 128
        return True

    async def forget_older(self, than: timedelta = timedelta()) -> int:
        raise NotImplementedError

    async def note(self, device: Sequence[KeyedHash], voter_id: str, at: datetime, flags: Iterable[str] = ()) -> None:
        raise NotImplementedError

    async def correlate(self, device: Sequence[KeyedHash], voter_id: str, since: datetime) -> DeviceCorrelation:
        raise NotImplementedError

    async def forget(self, voter_id: str) -> None:
        raise NotImplementedError

    def submit(self, asked: Application, answer: Answer) -> None:
        if self.overloaded:
            raise DomainError(ErrorCode.OVERLOADED)
        self.handed_over.append(asked)
        answer(TOKEN)


@pytest.fixture
def behind() -> Behind:
    return Behind()


def desk_over(behind: Behind, *, looks_max: int = 3, vendor_within_s: float = 5) -> EventDesk:
    return EventDesk(
        cast("Desk", behind),
        EventSource(OpenDevices(behind), behind),
        EventStores(behind, behind),
        policy=CURRENT_DEVICE_POLICY,
        pseudonym_key=b"p" * 32,
        looks_max=looks_max,
        vendor_within_s=vendor_within_s,
    )


def submitted(desk: EventDesk, shown: ShownEvent = SHOWN) -> asyncio.Future[Result]:
    answered: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    desk.submit(application(World()), shown, answered.set_result)  # a second answer would raise
    return answered


async def test_what_is_looked_at_is_bounded(behind: Behind) -> None:
    desk = desk_over(behind)
    answers = [submitted(desk) for _ in range(3)]
    with pytest.raises(DomainError) as raised:
        submitted(desk)
    assert (raised.value.code, raised.value.retry_after_s) == (ErrorCode.OVERLOADED, 1)
    behind.gate.set()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*answers) == [TOKEN] * 3
        assert await submitted(desk) is TOKEN
    assert {asked.event for asked in behind.handed_over} == {BroughtEvent()}


async def test_a_vendor_that_does_not_answer_in_time_is_away(behind: Behind) -> None:
    async with asyncio.timeout(10):
        assert await submitted(desk_over(behind, vendor_within_s=0.01)) is TOKEN
    assert [asked.event for asked in behind.handed_over] == [BroughtEvent(absent=True)]


@pytest.mark.parametrize(
    ("failure", "event"),
    [
        (DomainError(ErrorCode.DEVICES_UNAVAILABLE), BroughtEvent(absent=True)),
        (DomainError(ErrorCode.DEVICES_MISCONFIGURED), BroughtEvent(absent=True)),
        (DomainError(ErrorCode.DEVICE_EVENT_INVALID), BroughtEvent(invalid=True)),
    ],
)
async def test_what_cannot_be_read_is_handed_over_as_such(
    behind: Behind, failure: DomainError, event: BroughtEvent
) -> None:
    behind.failure = failure
    behind.gate.set()
    assert await submitted(desk_over(behind)) is TOKEN
    assert [asked.event for asked in behind.handed_over] == [event]


async def test_an_event_that_was_made_on_another_network_than_its_request_raises_the_risk(behind: Behind) -> None:
    behind.gate.set()
    assert await submitted(desk_over(behind), replace(SHOWN, client_address="198.51.100.1")) is TOKEN
    assert [asked.event for asked in behind.handed_over] == [BroughtEvent(100, ("address_differs",))]


async def test_what_is_not_foreseen_is_answered_too(behind: Behind) -> None:
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(str(context["message"])))
    try:
        behind.failure = ZeroDivisionError()
        behind.gate.set()
        result = await submitted(desk_over(behind))
        assert isinstance(result, DomainError)
        assert result.code is ErrorCode.INTERNAL
    finally:
        asyncio.get_running_loop().set_exception_handler(None)


async def test_a_desk_that_is_full_is_an_answer(behind: Behind) -> None:
    behind.overloaded = True
    behind.gate.set()
    result = await submitted(desk_over(behind))
    assert isinstance(result, DomainError)
    assert result.code is ErrorCode.OVERLOADED
