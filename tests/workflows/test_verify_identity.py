"""Workers that die and cells that are away, on the real server."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
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
from tests.workflows.hooked import live_with_a_death
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


SCRIPT = (RETRY, approved("P1"))


async def killed_after(client: Client, step: int, script: Sequence[ProofingFinding], *, held: bool) -> Registering:
    """Live through it with a worker that dies after the effect of its `step`-th activity, before it is reported."""
    world = waking(client)
    world.script(*script)
    if held:
        await hold_newest(world)
    await live_with_a_death(world, step, live(world))
    return world


async def hold_newest(world: Registering) -> None:
    newest = (await world.hashes.document(Document("DEU", "passport", "P1")))[-1]
    held = Held("p_other", "eu", "v_eu_other")
    world.claims[claiming_cell(newest.digest, CELLS)].held[newest.digest] = held


async def steps_of(client: Client, script: Sequence[ProofingFinding], *, held: bool) -> list[str]:
    world = waking(client)
    world.script(*script)
    if held:
        await hold_newest(world)
    async with world.worker():
        await live(world)
    return world.steps


@pytest.mark.parametrize("held", [False, True], ids=["activated", "compensated"])
async def test_a_worker_that_dies_after_any_step_changes_nothing(client: Client, *, held: bool) -> None:
    script = (approved("P1"),) if held else SCRIPT
    async with asyncio.timeout(110):
        steps = await steps_of(client, script, held=held)
        expected = (
            {"claim_document", "release_document", "close_account", "erase_case"}
            if held
            else {
                "send_contact_code",
                "open_account",
                "open_case",
                "allow_retry",
                "claim_document",
                "activate_voter",
                "settle_document",
                "send_message",
            }
        )
        assert expected <= set(steps)
        first = steps.index("claim_document") + 1 if held else 1  # until then both go the same way
        worlds = await asyncio.gather(
            *(killed_after(client, step, script, held=held) for step in range(first, len(steps) + 1))
        )
    for world in worlds:
        assert len({message.code for message in world.mail.of(MessageKind.PROVE_CONTACT)}) == 1
        assert len(world.provider.opened) == 1
        if held:
            assert (world.row.stage, world.row.reasons) == (RegistrationStage.REFUSED, ("already_registered",))
            assert [each.holder for each in world.claimed] == ["v_eu_other"]
            assert world.voter_id in world.directory.destroyed
            continue
        assert world.row.stage is RegistrationStage.ACTIVE
        assert world.account is not None
        assert world.account.status is VoterStatus.ACTIVE
        assert all(each.settled and each.person_id == world.account.person_id for each in world.claimed)
        assert len(world.claimed) == 2
        assert len(world.mail.of(MessageKind.WELCOME)) == 1
        assert len(world.mail.of(MessageKind.PROOFING_RETRY)) <= 1  # given up where the decision is faster
        assert not world.counted["release_document"]


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


async def test_an_approval_that_is_taken_back_while_a_claim_waits_makes_no_account(client: Client) -> None:
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
        await handle.result()
    assert world.row.reasons == ("reversed",)
    assert not world.claimed
    assert world.account is None or world.account.status is not VoterStatus.ACTIVE
    await world.replayed("reversed-while-claiming")


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
