"""Workers that die and cells that are away, on the real server."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from domain.accounts import claiming_cell
from domain.contracts.registration import RegisteredVoter
from domain.eligibility import VoterStatus
from domain.mailing import MessageKind
from domain.proofing import Document, ProofingFinding
from domain.registrations import AT_THE_PROVIDER, ENDED, RegistrationStage
from tests.workflows.hooked import live_with_a_death, named_steps
from tests.workflows.registration_ports import (
    CELLS,
    IN_REVIEW,
    REJECTED,
    RETRY,
    Claims,
    Directory,
    Hashes,
    Held,
    approved,
)
from tests.workflows.registration_world import Registering, happens
from workflows.register_voter import RegisterVoterWorkflow


def waking(client: Client, cell: str = "eu", **fields: Any) -> Registering:
    """Return a registration in which nothing waits for real pauses."""
    world = Registering(client, cell, **fields)
    world.provider.confirms_when_asked = 1
    return world


async def live(world: Registering) -> RegisteredVoter:
    """Go through a registration as its person; after each look something new is hinted at."""
    handle = await world.start()
    await world.proved()
    looks = 0

    def has_news() -> bool:
        return world.provider.looks > looks or world.row.stage in ENDED

    while world.row.stage not in ENDED:
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await happens(has_news)
        looks = world.provider.looks
        if world.row.stage in AT_THE_PROVIDER:
            with suppress(RPCError):  # not there yet, or over
                await world.hint()
    return await handle.result()


async def appeal(world: Registering) -> RegisteredVoter:
    """Go through a registration whose first case is rejected, as its person, who appeals."""
    handle = await world.start()
    await world.proved()
    await happens(lambda: world.row.stage is RegistrationStage.REJECTED)
    await handle.execute_update(RegisterVoterWorkflow.appeal, id="appeal")
    return await handle.result()


@dataclass(frozen=True)
class Walk:
    """A way through a registration: `script` is what the provider finds in each of its cases.

    Each step from the first `begins_with` to the first `ends_with` has a worker that dies after it; `steps` are those
    that are met.
    """

    script: tuple[tuple[ProofingFinding, ...], ...]
    begins_with: str
    steps: frozenset[str]
    ends_with: str = ""  # or the last of all
    live: Callable[[Registering], Awaitable[RegisteredVoter]] = live
    is_held: bool = False  # the document, by somebody else

    async def world(self, client: Client) -> Registering:
        world = waking(client)
        for number, findings in enumerate(self.script, start=1):
            world.script(*findings, case_no=number)
        if self.is_held:
            await hold_newest(world)
        return world

    async def steps_of(self, client: Client) -> list[str]:
        world = await self.world(client)
        async with world.worker():
            await self.live(world)
        return world.steps

    async def killed_after(self, client: Client, name: str, number: int) -> tuple[Registering, str]:
        """Die after the `number`-th activity of a name: how often a case is looked at differs from run to run."""
        world = await self.world(client)
        return world, await live_with_a_death(world, number, self.live(world), of=name)


async def hold_newest(world: Registering) -> None:
    newest = (await world.hashes.document(Document("DEU", "passport", "P1")))[-1]
    held = Held("p_other", "eu", "v_eu_other")
    world.claims[claiming_cell(newest.digest, CELLS)].held[newest.digest] = held


WALKS = {
    "activated": Walk(
        ((RETRY, approved("P1")),),
        "note_stage",
        frozenset(
            {"note_stage", "send_contact_code", "open_account", "open_case", "read_case", "allow_retry"}
            | {"claim_document", "activate_voter", "settle_document", "send_message"}
        ),
    ),
    "compensated": Walk(
        ((approved("P1"),),),
        "claim_document",  # until then it goes the same way
        frozenset(
            {"claim_document", "release_document", "note_stage", "send_message", "close_account"}
            | {"erase_case", "note_erased", "destroy_personal_data"}
        ),
        is_held=True,
    ),
    "appealed": Walk(
        ((REJECTED,), (approved("P1"),)),
        "erase_case",  # the one that is replaced
        frozenset({"erase_case", "open_case", "note_stage", "read_case", "claim_document"}),
        ends_with="claim_document",  # from then on it goes the way of the first
        live=appeal,
    ),
}
RECHECK = ("read_case", "suspend_account", "note_stage", "send_message")


def test_every_step_of_a_registration_is_in_a_walk() -> None:
    walked = {step for walk in WALKS.values() for step in walk.steps} | set(RECHECK)
    assert walked == named_steps(RegisterVoterWorkflow)  # and of its cases, which it imports


@pytest.mark.parametrize("name", WALKS)
async def test_a_worker_that_dies_after_any_step_changes_nothing(client: Client, name: str) -> None:
    walk = WALKS[name]
    async with asyncio.timeout(110):
        steps = await walk.steps_of(client)
        last = steps.index(walk.ends_with) + 1 if walk.ends_with else len(steps)
        met = [(steps[at], steps[: at + 1].count(steps[at])) for at in range(steps.index(walk.begins_with), last)]
        lived = await asyncio.gather(*(walk.killed_after(client, *step) for step in met))
    assert {died_after for _, died_after in lived} - {""} == walk.steps
    for world, _ in lived:
        assert len({message.code for message in world.mail.of(MessageKind.PROVE_CONTACT)}) == 1
        assert len(world.provider.opened) == len(walk.script)
        assert len(world.mail.of(MessageKind.PROOFING_RETRY)) <= 1  # given up where the decision is faster
        (is_refused if walk.is_held else is_activated)(world)


def is_refused(world: Registering) -> None:
    assert (world.row.stage, world.row.reasons) == (RegistrationStage.REFUSED, ("already_registered",))
    assert [each.holder for each in world.claimed] == ["v_eu_other"]
    assert world.voter_id in world.directory.destroyed


def is_activated(world: Registering) -> None:
    assert world.row.stage is RegistrationStage.ACTIVE
    assert world.account is not None
    assert world.account.status is VoterStatus.ACTIVE
    assert all(each.settled and each.person_id == world.account.person_id for each in world.claimed)
    assert len(world.claimed) == 2
    assert len(world.mail.of(MessageKind.WELCOME)) == 1
    assert not world.counted["release_document"]


async def reversed_after(client: Client, step: int) -> tuple[Registering, str]:
    """Live through an approval that is taken back, with a worker that dies after a step of the second look."""
    world = waking(client)
    world.script(approved("P1"))
    async with world.worker():
        handle = await world.start()
        await world.proved()
        await handle.result()
    world.script(REJECTED)
    again = await world.recheck()
    return world, await live_with_a_death(world, step, again.result())


async def test_a_worker_that_dies_while_an_approval_is_taken_back_leaves_the_voter_suspended_once(
    client: Client,
) -> None:
    async with asyncio.timeout(60):
        lived = await asyncio.gather(*(reversed_after(client, step) for step in range(1, len(RECHECK) + 1)))
    assert [died_after for _, died_after in lived] == list(RECHECK)
    for world, _ in lived:
        assert world.account is not None
        assert world.account.status is VoterStatus.SUSPENDED
        assert (world.row.stage, world.row.reasons) == (RegistrationStage.REJECTED, ("reversed", "forgery"))
        assert len(world.mail.of(MessageKind.PROOFING_REJECTED)) == 1
        assert {held.holder for held in world.claimed} == {world.voter_id}


async def test_two_registrations_of_one_person_in_two_cells_are_one_voter_and_one_honest_refusal(
    client: Client,
) -> None:
    claims = {name: Claims() for name in CELLS}
    directories = {name: Directory() for name in CELLS}
    worlds = [waking(client, cell, claims=claims, directory=directories[cell]) for cell in CELLS]
    oldest = (await Hashes().document(Document("DEU", "passport", "P1")))[0]
    away = claims[claiming_cell(oldest.digest, CELLS)]
    away.is_away = True  # while both ask for it
    async with asyncio.timeout(60):
        async with worlds[0].worker(), worlds[1].worker():
            for world in worlds:
                world.script(approved("P1"))
            living = [asyncio.create_task(live(world)) for world in worlds]
            await happens(lambda: away.asked >= 2)
            assert not any(world.account and world.account.status is VoterStatus.ACTIVE for world in worlds)
            away.is_away = False
            ended = await asyncio.gather(*living)
    assert sorted(each.stage for each in ended) == [RegistrationStage.ACTIVE, RegistrationStage.REFUSED]
    (refused,) = [each for each in ended if each.stage is RegistrationStage.REFUSED]
    assert refused.reasons == ("already_registered",)
    (voter,) = [world for world in worlds if world.row.stage is RegistrationStage.ACTIVE]
    assert {held.holder for cell in claims.values() for held in cell.held.values()} == {voter.voter_id}


async def test_an_approval_that_is_taken_back_while_a_claim_waits_leaves_nothing(
    client: Client,
) -> None:
    world = waking(client)
    world.script(approved("P1"), REJECTED)
    for cell in world.claims.values():
        cell.is_away = True
    async with asyncio.timeout(60), world.worker():
        handle = await world.start()
        await world.proved()
        await happens(lambda: sum(cell.asked for cell in world.claims.values()) > 0)
        await world.hint()
        for cell in world.claims.values():
            cell.is_away = False
        await happens(lambda: world.row.stage is RegistrationStage.REJECTED)
        await handle.execute_update("cancel")  # who does not appeal
        assert (await handle.result()).stage is RegistrationStage.REJECTED
    assert world.row.reasons == ("forgery",)
    assert not world.claimed
    assert world.account is not None
    assert world.account.status is VoterStatus.CLOSED
    assert world.voter_id in world.directory.destroyed
    assert world.voter_id not in world.directory.lookups.values()
    await world.replayed("rejected-while-claiming")


async def test_hints_change_nothing_however_many_come_and_whenever(client: Client) -> None:
    world = waking(client)
    world.script(IN_REVIEW)
    async with asyncio.timeout(60), world.worker(max_cached_workflows=0):
        handle = await world.start()
        await world.proved()
        await happens(lambda: bool(world.provider.opened))
        for _ in range(10):
            await world.hint()
        await happens(lambda: world.row.stage is RegistrationStage.REVIEW)
        assert world.account is not None
        assert world.account.status is VoterStatus.REGISTERED
        await handle.execute_update("cancel")
        assert (await handle.result()).stage is RegistrationStage.CANCELLED
    await world.replayed()
