"""Every kind of difference, planted in a real ledger, is found and named to the row."""

import asyncio
import secrets
import uuid
from collections.abc import Awaitable, Callable

import pytest

from domain.contracts.reconciliation import DifferenceKind
from domain.ids import BatchId
from domain.reconciliation import participation_name
from tests.reconciliation_world import PollingPlace, World, named

K = DifferenceKind
Row = tuple[str, ...]
Plant = Callable[[PollingPlace, BatchId], Awaitable[set[Row]]]

# What else a plant brings with it: sums that differ, and for a batch in the wrong place what cannot know it there
CONSEQUENCES = {K.TOTALS_DIFFER.value, K.TALLY_BATCH_UNKNOWN.value, K.TALLY_TOTALS_DIFFER.value}


async def test_an_honest_survey_agrees_and_everything_was_compared(world: World) -> None:
    for place in world.places.values():
        for _ in range(3):
            await place.record()
    for complete, read in ((False, 6), (False, 0), (True, 6), (False, 0)):
        report = await world.reconcile(complete=complete)
        assert report.agrees, report
        assert [checked.evidence_checked for checked in report.checked] == [read, read]
        assert report.repaired == ()
        assert len(report.checked) == 2
        for checked in report.checked:
            assert (checked.batches, checked.participations, checked.ballots) == (3, 6, 6)
            assert [(r.region, r.participations, r.counted, r.options) for r in checked.regions] == [
                ("north", 3, 3, {"1": 3}),
                ("south", 3, 3, {"2": 3}),
            ]


def row(kind: DifferenceKind, place: PollingPlace, *names: str) -> Row:
    return (kind.value, place.cell, *names)


async def ballot_stuffed_into_a_batch(place: PollingPlace, batch: BatchId) -> set[Row]:
    sealed = place.vote().sealed_answers
    ballot = await place.stuff_ballot(place.voting, batch, uuid.uuid4(), sealed)
    return {row(K.BALLOT_OF_ANOTHER_TRANSACTION, place, str(batch), ballot), row(K.TOTALS_DIFFER, place)}


async def ballot_of_no_batch(place: PollingPlace, _batch: BatchId) -> set[Row]:
    nowhere = BatchId(secrets.token_bytes(16), 7)
    ballot = await place.stuff_ballot(place.voting, nowhere, uuid.uuid4(), place.vote().sealed_answers)
    return {row(K.BALLOT_WITHOUT_BATCH, place, str(nowhere), ballot), row(K.TOTALS_DIFFER, place)}


async def participation_invented(place: PollingPlace, _batch: BatchId) -> set[Row]:
    vote = place.vote(region="south")
    await place.voting.execute(
        "INSERT INTO voting.participation (survey_id, nullifier, region, evidence, key_mac) "
        "VALUES ($1, $2, $3, $4, '')",
        vote.survey_id,
        vote.nullifier,
        vote.region,
        secrets.token_bytes(64),
    )
    name = participation_name(vote.nullifier)
    return {
        row(K.PARTICIPATION_WITHOUT_BATCH, place, name, "south"),
        row(K.EVIDENCE_INVALID, place, name, "south"),
        row(K.TOTALS_DIFFER, place, "south"),
        row(K.TOTALS_DIFFER, place),
    }


async def vote_without_admission(place: PollingPlace, _batch: BatchId) -> set[Row]:
    vote = place.vote().model_copy(update={"evidence": secrets.token_bytes(64)})
    await place.record(vote)
    return {row(K.EVIDENCE_INVALID, place, participation_name(vote.nullifier), "north")}


async def evidence_for_another_region(place: PollingPlace, _batch: BatchId) -> set[Row]:
    north = place.vote()
    south = place.vote(region="south", nullifier=north.nullifier).model_copy(update={"evidence": north.evidence})
    await place.record(south)
    return {row(K.EVIDENCE_INVALID, place, participation_name(south.nullifier), "south")}


async def ballot_that_was_not_written(place: PollingPlace, _batch: BatchId) -> set[Row]:
    batch = str(await place.record_wrongly(ballots=1))
    return {
        row(K.BATCH_BALLOTS_DIFFER, place, batch),
        row(K.BATCH_COUNTS_DIFFER, place, batch),
        row(K.BALLOTS_ROOT_DIFFERS, place, batch),
        row(K.TOTALS_DIFFER, place),
    }


async def participation_that_was_not_written(place: PollingPlace, _batch: BatchId) -> set[Row]:
    batch = str(await place.record_wrongly(participations=1))
    return {
        row(K.BATCH_PARTICIPATIONS_DIFFER, place, batch),
        row(K.BATCH_COUNTS_DIFFER, place, batch, "north"),
        row(K.PARTICIPATIONS_ROOT_DIFFERS, place, batch),
        row(K.TOTALS_DIFFER, place, "north"),
        row(K.TOTALS_DIFFER, place),
    }


async def counts_too_high(place: PollingPlace, _batch: BatchId) -> set[Row]:
    batch = str(await place.record_wrongly(counted={"north": 3}))
    return {
        row(K.BATCH_COUNTS_DIFFER, place, batch),
        row(K.BATCH_COUNTS_DIFFER, place, batch, "north"),
        row(K.TOTALS_DIFFER, place, "north"),
    }


async def counts_in_another_region(place: PollingPlace, _batch: BatchId) -> set[Row]:
    batch = str(await place.record_wrongly(counted={"south": 2}))
    return {
        row(K.BATCH_COUNTS_DIFFER, place, batch, "north"),
        row(K.BATCH_COUNTS_DIFFER, place, batch, "south"),
        row(K.TOTALS_DIFFER, place, "north"),
        row(K.TOTALS_DIFFER, place, "south"),
    }


async def counts_left_out(place: PollingPlace, _batch: BatchId) -> set[Row]:
    batch = str(await place.record_wrongly(counted={}))
    return {
        row(K.BATCH_COUNTS_DIFFER, place, batch),
        row(K.BATCH_COUNTS_DIFFER, place, batch, "north"),
        row(K.TOTALS_DIFFER, place, "north"),
    }


async def outcomes_that_promise_more(place: PollingPlace, _batch: BatchId) -> set[Row]:
    batch = str(await place.record_wrongly(outcomes=bytes(3)))
    return {
        row(K.BATCH_PARTICIPATIONS_DIFFER, place, batch),
        row(K.BATCH_BALLOTS_DIFFER, place, batch),
        row(K.BATCH_COUNTS_DIFFER, place, batch),
        row(K.AUDIT_ENTRY_DIFFERS, place, batch),
    }


async def wrong_root_of_participations(place: PollingPlace, _batch: BatchId) -> set[Row]:
    batch = str(await place.record_wrongly(participations_root=bytes(32)))
    return {row(K.PARTICIPATIONS_ROOT_DIFFERS, place, batch)}


async def wrong_root_of_ballots(place: PollingPlace, _batch: BatchId) -> set[Row]:
    batch = str(await place.record_wrongly(ballots_root=bytes(32)))
    return {row(K.BALLOTS_ROOT_DIFFERS, place, batch)}


async def batch_that_names_another_transaction(place: PollingPlace, _batch: BatchId) -> set[Row]:
    earlier = await place.owner.fetchval("SELECT min(xid)::text::bigint FROM voting.batch")
    vote = place.vote()
    batch = await place.record_wrongly(vote, xid=earlier)
    ballot = await place.owner.fetchval(
        "SELECT ballot_id::text FROM voting.ballot WHERE gateway_id = $1 AND number = $2", *_key(batch)
    )
    return {
        row(K.PARTICIPATION_WITHOUT_BATCH, place, participation_name(vote.nullifier), "north"),
        row(K.BALLOT_OF_ANOTHER_TRANSACTION, place, str(batch), ballot),
    }


async def no_audit_entry(place: PollingPlace, _batch: BatchId) -> set[Row]:
    return {row(K.AUDIT_ENTRY_MISSING, place, str(await place.record_wrongly(entries=[])))}


async def an_audit_entry_of_something_else(place: PollingPlace, _batch: BatchId) -> set[Row]:
    batch = str(await place.record_wrongly(entries=[{"batch": "another"}]))
    return {row(K.AUDIT_ENTRY_DIFFERS, place, batch)}


PLANTS = (
    ballot_stuffed_into_a_batch,
    ballot_of_no_batch,
    participation_invented,
    vote_without_admission,
    evidence_for_another_region,
    ballot_that_was_not_written,
    participation_that_was_not_written,
    counts_too_high,
    counts_in_another_region,
    counts_left_out,
    outcomes_that_promise_more,
    wrong_root_of_participations,
    wrong_root_of_ballots,
    batch_that_names_another_transaction,
    no_audit_entry,
    an_audit_entry_of_something_else,
)


async def test_each_kind_is_found_by_the_next_pass_and_again_by_a_complete_one(world: World) -> None:
    place = world.one
    batch = await place.record()
    assert (await world.reconcile()).agrees
    planted: set[Row] = set()
    for plant in PLANTS:
        rows = {found for found in await plant(place, batch) if found[0] not in CONSEQUENCES}
        report = await world.reconcile()
        found = {found for found in named(report.differences) if found[0] not in CONSEQUENCES}
        assert found - planted == rows, plant.__name__
        planted = found
    complete = await world.reconcile(complete=True)
    assert planted <= named(complete.differences)
    assert (await world.reconcile(complete=True)).differences == complete.differences
    assert {found.cell for found in complete.differences} == {place.cell}


@pytest.mark.parametrize(
    ("plant", "participations", "ballots", "counted"),
    [(counts_too_high, 4, 4, 5), (participation_invented, 3, 2, 2), (ballot_that_was_not_written, 4, 3, 4)],
)
async def test_totals_that_differ_are_said_in_numbers(
    world: World, plant: Plant, participations: int, ballots: int, counted: int
) -> None:
    place = world.one
    rows = await plant(place, await place.record())
    report = await world.reconcile(complete=True)
    totals = [found for found in report.differences if found.kind is K.TOTALS_DIFFER]
    assert named(totals) == {found for found in rows if found[0] == K.TOTALS_DIFFER.value}
    assert all(found.expected != found.found for found in totals)
    sums = report.checked[0]
    assert (sums.participations, sums.ballots, sum(region.counted for region in sums.regions)) == (
        participations,
        ballots,
        counted,
    )


async def test_rows_changed_or_deleted_later_are_found_by_a_complete_pass(world: World) -> None:
    place = world.one
    batches = [await place.record() for _ in range(5)]
    assert (await world.reconcile()).agrees
    key = "gateway_id = $1 AND number = $2"
    await place.tamper(
        "voting.batch", f"UPDATE voting.batch SET ballots_root = $3 WHERE {key}", *_key(batches[0]), bytes(32)
    )
    await place.tamper(
        "voting.batch_count",
        f"UPDATE voting.batch_count SET options = '{{\"3\": 1}}' WHERE {key} AND region = 'north'",
        *_key(batches[1]),
    )
    await place.tamper("voting.ballot", f"DELETE FROM voting.ballot WHERE {key}", *_key(batches[2]))
    xid = await place.owner.fetchval(f"SELECT xid::text::bigint FROM voting.batch WHERE {key}", *_key(batches[3]))
    await place.tamper("audit.entry", "DELETE FROM audit.entry WHERE xid = $1::bigint::text::xid8", xid)
    nullifier, region = await _a_participation(place, batches[4])
    await place.tamper("voting.participation", "DELETE FROM voting.participation WHERE nullifier = $1", nullifier)
    assert (await world.reconcile()).agrees, "an incremental pass does not look back"
    report = await world.reconcile(complete=True)
    names = [str(batch) for batch in batches]
    assert {found for found in named(report.differences) if found[0] not in CONSEQUENCES} == {
        row(K.BATCH_TRANSACTION_DIFFERS, place, names[0]),
        row(K.BALLOTS_ROOT_DIFFERS, place, names[0]),
        row(K.AUDIT_ENTRY_DIFFERS, place, names[0]),
        row(K.COUNT_OF_ANOTHER_TRANSACTION, place, names[1], "north"),
        row(K.BATCH_BALLOTS_DIFFER, place, names[2]),
        row(K.BATCH_COUNTS_DIFFER, place, names[2]),
        row(K.BALLOTS_ROOT_DIFFERS, place, names[2]),
        row(K.AUDIT_ENTRY_MISSING, place, names[3]),
        row(K.BATCH_PARTICIPATIONS_DIFFER, place, names[4]),
        row(K.BATCH_COUNTS_DIFFER, place, names[4], region),
        row(K.PARTICIPATIONS_ROOT_DIFFERS, place, names[4]),
    }


async def test_one_nullifier_in_two_cells_is_found_by_whoever_looks_second(world: World) -> None:
    nullifier = secrets.token_bytes(32)
    name = participation_name(nullifier)
    one, two = world.one, world.two
    await one.record(one.vote(nullifier=nullifier))
    assert (await world.reconcile()).agrees
    await two.record(two.vote(nullifier=nullifier))
    in_two = row(K.NULLIFIER_IN_TWO_CELLS, two, name, one.cell)
    assert named((await world.reconcile()).differences) == {in_two}
    assert named((await world.reconcile()).differences) == {in_two}, "it stays open"
    complete = await world.reconcile(complete=True)
    assert named(complete.differences) == {in_two, row(K.NULLIFIER_IN_TWO_CELLS, one, name, two.cell)}


async def test_what_is_found_names_no_nullifier_and_joins_none_to_a_ballot(world: World) -> None:
    place = world.one
    batch = await place.record()
    votes = [place.vote() for _ in range(2)]
    await place.record_wrongly(*votes, participations_root=bytes(32), counted={"south": 2})
    for plant in (ballot_stuffed_into_a_batch, participation_invented, vote_without_admission):
        await plant(place, batch)
    report = await world.reconcile(complete=True)
    rows = await place.owner.fetch(
        "SELECT nullifier, evidence FROM voting.participation WHERE survey_id = $1", world.survey.id
    )
    text = report.model_dump_json()
    kept = "".join(r[0] for r in await place.owner.fetch("SELECT body::text FROM reconciliation.difference"))
    for found in rows:
        for secret in (found["nullifier"].hex(), found["evidence"].hex()):
            assert secret not in text
            assert secret not in kept
    assert report.differences
    for difference in report.differences:
        assert not (difference.participation and (difference.batch or difference.ballot or difference.option))


async def test_a_cell_without_the_survey_is_a_difference(world: World) -> None:
    place = world.two
    await place.owner.execute("DELETE FROM voting.survey WHERE survey_id = $1", world.survey.id)
    assert named((await world.reconcile()).differences) == {row(K.SURVEY_NOT_INSTALLED, place)}


async def test_two_passes_at_once_count_nothing_twice(world: World) -> None:
    for _ in range(5):
        await world.one.record()
    await asyncio.gather(*(world.reconcile() for _ in range(4)), world.reconcile(complete=True))
    report = await world.reconcile()
    assert report.agrees
    assert (report.checked[0].batches, report.checked[0].participations, report.checked[0].ballots) == (5, 10, 10)


def _key(batch: BatchId) -> tuple[bytes, int]:
    return batch.gateway_id, batch.number


async def _a_participation(place: PollingPlace, batch: BatchId) -> tuple[bytes, str]:
    """Return nullifier and region of somebody in a batch."""
    found = await place.owner.fetchrow(
        "SELECT nullifier, region FROM voting.participation JOIN voting.batch ON batch.xmin = participation.xmin "
        "WHERE gateway_id = $1 AND number = $2 LIMIT 1",
        *_key(batch),
    )
    assert found is not None
    return found["nullifier"], found["region"]
