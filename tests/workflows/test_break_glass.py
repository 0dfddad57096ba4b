"""Break-glass: a second person, a time for everything, an entry before every step counts, and no value anywhere."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.unmasking import UnmaskingActivities
from domain.audit import AuditEntry
from domain.contracts.support import BreakGlassInput, DecideUnmasking, ReadUnmasking, UnmaskingState
from domain.errors import DomainError, ErrorCode
from domain.ids import break_glass_workflow_id, new_registration_id
from domain.mailing import MessageKind
from domain.unmasking import APPROVAL_WITHIN, READABLE_FOR, READS_MAX, UnmaskingStage, unmasking_id_of
from tests.workflows.hooked import Hook, hooked_worker, live_with_a_death
from tests.workflows.registration_ports import Mail
from tests.workflows.registration_world import happens, replayed
from workflows.break_glass import BreakGlassWorkflow

ASKER, OTHER = "staff:u_eu_asker", "staff:u_eu_other"
WATCH = "watch@example.org"
YES = DecideUnmasking(actor=OTHER, role="compliance", approved=True)
NO = DecideUnmasking(actor=OTHER, role="admin", approved=False)


class Entries:
    """Entries in memory, each once."""

    def __init__(self) -> None:
        self.kept: dict[str, AuditEntry] = {}
        self.failures = 0

    async def note(self, key: str, entry: AuditEntry) -> str:
        if self.failures:
            self.failures -= 1
            raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)
        return self.kept.setdefault(key, entry).outcome

    async def outcome_of(self, key: str) -> str | None:
        return self.kept[key].outcome if key in self.kept else None

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(entry.outcome, entry.actor) for entry in self.kept.values()]


class Unmasking:
    """One unmasking and all around it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.queue = f"identity-{secrets.token_hex(4)}"
        self.steps: list[str] = []
        self.after: Hook | None = None
        self.entries, self.mail = Entries(), Mail()
        self.request = BreakGlassInput(
            request_id=unmasking_id_of("eu", ASKER, secrets.token_hex(8)),
            cell="eu",
            case_id=new_registration_id("eu"),
            field="mail",
            actor=ASKER,
            role="support",
            reason="wrong_contact",
        )

    async def start(self) -> WorkflowHandle[BreakGlassWorkflow, UnmaskingState]:
        return await self.client.start_workflow(
            BreakGlassWorkflow.run,
            self.request,
            id=break_glass_workflow_id("eu", self.request.request_id),
            task_queue=self.queue,
            task_timeout=timedelta(seconds=3),
        )

    def worker(self, **options: Any) -> Worker:
        activities = UnmaskingActivities(self.entries, self.mail, WATCH).all()
        return hooked_worker(self, [BreakGlassWorkflow], activities, **options)

    @property
    def told(self) -> list[str]:
        """What whoever watches over data was told, in the order of the steps."""
        messages = self.mail.of(MessageKind.UNMASKING)
        assert all(message.to == WATCH and self.request.case_id in message.advice for message in messages)
        return sorted(message.key.rpartition("/")[2] for message in messages)


@asynccontextmanager
async def unmasking(client: Client) -> AsyncIterator[Unmasking]:
    world = Unmasking(client)
    async with asyncio.timeout(60), world.worker():
        yield world


async def refused(handle: WorkflowHandle[Any, Any], update: Any, request: Any) -> str | None:
    with pytest.raises(WorkflowUpdateFailedError) as failure:
        await handle.execute_update(update, request)
    assert isinstance(failure.value.cause, ApplicationError)
    return failure.value.cause.type


async def test_whoever_asked_reads_once_another_agreed_until_it_ends_by_itself(skipping: WorkflowEnvironment) -> None:
    async with unmasking(skipping.client) as world:
        handle = await world.start()
        mine = ReadUnmasking(actor=ASKER)
        assert await refused(handle, BreakGlassWorkflow.read, mine) == ErrorCode.UNMASKING_STAGE
        own = YES.model_copy(update={"actor": ASKER})
        assert await refused(handle, BreakGlassWorkflow.decide, own) == ErrorCode.FORBIDDEN
        begun_at = await skipping.get_current_time()
        decided = await handle.execute_update(BreakGlassWorkflow.decide, YES)
        assert (decided.stage, decided.asked_by, decided.decided_by) == (UnmaskingStage.APPROVED, ASKER, OTHER)
        assert decided.expires_at is not None
        assert decided.expires_at - begun_at < READABLE_FOR + timedelta(seconds=30)
        assert await refused(handle, BreakGlassWorkflow.decide, NO) == ErrorCode.UNMASKING_STAGE
        others = ReadUnmasking(actor=OTHER)
        assert await refused(handle, BreakGlassWorkflow.read, others) == ErrorCode.FORBIDDEN
        assert (await handle.execute_update(BreakGlassWorkflow.read, mine)).stage is UnmaskingStage.APPROVED
        world.entries.failures = 1  # it is answered once the entry is there, and not before
        assert (await handle.execute_update(BreakGlassWorkflow.read, mine)).reads == 2
        assert world.entries.outcomes == [
            ("asked", ASKER),
            ("approved", OTHER),
            ("read", ASKER),
            ("read", ASKER),
        ]
        ended = await handle.result()
    assert (ended.stage, ended.reads) == (UnmaskingStage.ENDED, 2)
    assert world.entries.outcomes[4:] == [("ended", "process:break-glass")]
    assert {entry.subject for entry in world.entries.kept.values()} == {world.request.case_id}
    assert world.told == ["approved", "asked", "ended"]
    await replayed(handle, "break-glass-read")


async def test_a_second_person_refuses(skipping: WorkflowEnvironment) -> None:
    async with unmasking(skipping.client) as world:
        handle = await world.start()
        assert (await handle.execute_update(BreakGlassWorkflow.decide, NO)).stage is UnmaskingStage.REFUSED
        assert (await handle.result()).stage is UnmaskingStage.REFUSED
    assert world.entries.outcomes == [("asked", ASKER), ("refused", OTHER)]
    assert world.told == ["asked", "refused"]
    await replayed(handle, "break-glass-refused")


async def test_nobody_agrees_in_time(skipping: WorkflowEnvironment) -> None:
    async with unmasking(skipping.client) as world:
        handle = await world.start()
        ended = await handle.result()
        assert await skipping.get_current_time() - (await handle.describe()).start_time >= APPROVAL_WITHIN
    assert ended.stage is UnmaskingStage.EXPIRED
    assert world.entries.outcomes == [("asked", ASKER), ("expired", "process:break-glass")]
    await replayed(handle, "break-glass-expired")


@pytest.mark.parametrize(
    ("decision", "late", "limit", "outcomes"),
    [
        (YES, (BreakGlassWorkflow.read, ReadUnmasking(actor=ASKER)), READABLE_FOR, ["asked", "approved", "ended"]),
        (None, (BreakGlassWorkflow.decide, YES), APPROVAL_WITHIN, ["asked", "expired"]),
    ],
)
async def test_what_comes_late_is_refused_though_no_worker_was_there_to_end_it(
    skipping: WorkflowEnvironment,
    decision: DecideUnmasking | None,
    late: tuple[Any, Any],
    limit: timedelta,
    outcomes: list[str],
) -> None:
    world = Unmasking(skipping.client)
    async with asyncio.timeout(60):
        async with world.worker(max_cached_workflows=0):
            handle = await world.start()
            await happens(lambda: len(world.told) == 1)
            if decision is not None:
                await handle.execute_update(BreakGlassWorkflow.decide, decision)
                await happens(lambda: len(world.told) == 2)
            ends_at = (await handle.query(BreakGlassWorkflow.state)).expires_at
            assert ends_at is not None
            await skipping.sleep(limit - timedelta(seconds=2))
        while await skipping.get_current_time() < ends_at:
            await asyncio.sleep(0.05)
        asking = asyncio.create_task(refused(handle, *late))
        await asyncio.sleep(0.5)  # it waits at the server beside the timer: one task has both
        async with world.worker(max_cached_workflows=0):
            assert await asking == ErrorCode.UNMASKING_STAGE
            await handle.result()
    assert [outcome for outcome, _ in world.entries.outcomes] == outcomes


async def test_what_is_read_is_bounded(skipping: WorkflowEnvironment) -> None:
    async with unmasking(skipping.client) as world:
        handle = await world.start()
        await handle.execute_update(BreakGlassWorkflow.decide, YES)
        mine = ReadUnmasking(actor=ASKER)
        for _ in range(READS_MAX):
            await handle.execute_update(BreakGlassWorkflow.read, mine)
        assert await refused(handle, BreakGlassWorkflow.read, mine) == ErrorCode.UNMASKING_STAGE
        assert (await handle.result()).reads == READS_MAX


async def died_after(client: Client, step: int) -> Unmasking:
    world = Unmasking(client)

    async def live() -> None:
        handle = await world.start()
        await handle.execute_update(BreakGlassWorkflow.decide, NO, id="decide")
        assert (await handle.result()).stage is UnmaskingStage.REFUSED

    await live_with_a_death(world, step, live())
    return world


async def test_a_worker_that_dies_at_any_step_leaves_each_entry_once(client: Client) -> None:
    async with asyncio.timeout(60):
        worlds = await asyncio.gather(*(died_after(client, step) for step in range(1, 5)))
    for world in worlds:
        assert world.entries.outcomes == [("asked", ASKER), ("refused", OTHER)]
        assert world.told == ["asked", "refused"]


async def test_whoever_watches_over_data_and_cannot_be_told_finds_an_entry_of_that(client: Client) -> None:
    async with unmasking(client) as world:
        world.mail.failures = [ErrorCode.MAIL_REFUSED]
        handle = await world.start()
        assert (await handle.execute_update(BreakGlassWorkflow.decide, NO)).stage is UnmaskingStage.REFUSED
        await handle.result()
    assert sorted(world.entries.outcomes) == [
        ("asked", ASKER),
        ("not_told", "process:break-glass"),
        ("refused", OTHER),
    ]
    assert world.told == ["refused"]


async def test_mail_that_is_away_holds_up_nobody_and_an_entry_everybody(client: Client) -> None:
    async with unmasking(client) as world:
        world.mail.failures = [ErrorCode.MAIL_UNAVAILABLE]
        world.entries.failures = 2
        handle = await world.start()
        state = await handle.execute_update(BreakGlassWorkflow.decide, NO, id="decide")
        assert state.stage is UnmaskingStage.REFUSED
        assert world.entries.outcomes == [("asked", ASKER), ("refused", OTHER)]
        again = await handle.execute_update(BreakGlassWorkflow.decide, NO, id="decide")
        assert again == state
        await happens(lambda: world.told == ["asked", "refused"])
        await handle.result()
