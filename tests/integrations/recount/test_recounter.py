"""Counting again over a real ledger: what was recorded comes out, and whatever was done to a row is named."""

import json
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from domain.ballots import Answer, unpack
from domain.certificates import totals_document
from domain.contracts.certification import (
    CellRecount,
    PublishBallotsInput,
    RecountCellInput,
    RecountProgress,
)
from domain.contracts.voting import SealedVote
from domain.errors import DomainError, ErrorCode
from domain.merkle import root
from domain.recording import ballot_leaf, participation_leaf
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.cell_closing import PostgresCellClosing
from integrations.postgres.cell_surveys import PostgresCellSurveys
from integrations.postgres.pool import open_pool
from integrations.postgres.recount import RecountLedger
from integrations.postgres.roles import CERTIFICATION, CLOSING, SURVEYS
from integrations.recount.recounter import LedgerRecounter
from tests.conftest import OwnerPool, SettingsFor
from tests.voting_world import REGION, Booth, voting_keys

CELL = "eu"


class Polls:
    """A sealed survey with votes, and whoever counts them again."""

    def __init__(
        self, booth: Booth, owner: asyncpg.Pool, recounter: LedgerRecounter, closing: PostgresCellClosing
    ) -> None:
        self.booth = booth
        self.owner = owner
        self.recounter = recounter
        self.closing = closing
        self.votes: list[SealedVote] = []

    async def vote(self, *choices: str) -> str:
        """Record one batch; return its name."""
        votes = [self.booth.vote(Answer("1", (choice,)), Answer("2", ("4",), "words")) for choice in choices]
        batch = await self.booth.batch(*votes)
        await self.booth.ledger.record(batch, datetime.now(UTC))
        self.votes += votes
        return f"{batch.gateway_id.hex()}-1"

    async def seal(self) -> None:
        """End and seal the survey."""
        survey_id = self.booth.survey.id
        await self.owner.execute(
            "UPDATE voting.survey SET finish_at = clock_timestamp() WHERE survey_id = $1", survey_id
        )
        await self.closing.seal(survey_id)

    async def recount(self, progress: RecountProgress | None = None) -> tuple[CellRecount, list[RecountProgress]]:
        """Count again."""
        kept: list[RecountProgress] = []
        request = RecountCellInput(cell=CELL, survey=self.booth.survey)
        return await self.recounter.recount(request, progress or RecountProgress(), kept.append), kept

    async def tamper(self, statement: str, *values: Any) -> None:
        """Do to the ledger what only a superuser can."""
        async with self.owner.acquire() as connection, connection.transaction():
            for table in ("ballot", "batch_count", "participation"):
                await connection.execute(f"ALTER TABLE voting.{table} DISABLE TRIGGER USER")
            await connection.execute(statement, *values)
            for table in ("ballot", "batch_count", "participation"):
                await connection.execute(f"ALTER TABLE voting.{table} ENABLE TRIGGER USER")


@pytest_asyncio.fixture(loop_scope="session")
async def polls(booth: Booth, owner_pool: OwnerPool, settings_for: SettingsFor, tmp_path: Path) -> AsyncIterator[Polls]:
    settings = settings_for(CERTIFICATION, CLOSING)
    counting = await open_pool(settings.cells[CELL].database, settings, CERTIFICATION, size=2)
    closing = await open_pool(settings.cells[CELL].database, settings, CLOSING, size=1)
    keys = voting_keys(settings)
    recounter = LedgerRecounter(
        {CELL: RecountLedger(counting, page=2)}, keys, FileObjectStore(tmp_path), processes=1, file_ballots=7
    )
    yield Polls(booth, await owner_pool(CELL), recounter, PostgresCellClosing(closing, CELL))
    await counting.close()
    await closing.close()


def kinds(recount: CellRecount) -> list[tuple[str, str]]:
    return [(found.kind, found.row) for found in recount.differences]


async def test_what_was_recorded_comes_out_with_the_roots_of_its_rows(polls: Polls) -> None:
    await polls.vote("1", "2", "1")
    await polls.vote("3")
    await polls.seal()
    recount, kept = await polls.recount()
    assert not recount.differences
    assert (recount.participations, recount.ballots, recount.batches) == (4, 4, 2)
    (region,) = recount.regions
    assert (region.region, region.ballots, region.options) == (REGION, 4, {"1": 2, "2": 1, "3": 1, "4": 4})
    votes = sorted(polls.votes, key=lambda vote: vote.nullifier)
    assert recount.participations_root == root(map(participation_leaf, votes))
    survey_id = polls.booth.survey.id
    rows = await polls.owner.fetch(
        "SELECT ballot_id, sealed FROM voting.ballot WHERE survey_id = $1 ORDER BY ballot_id", survey_id
    )
    assert recount.ballots_root == root(ballot_leaf(survey_id, row["ballot_id"].bytes, row["sealed"]) for row in rows)
    assert kept[-1].ballots == 4


async def test_processes_of_their_own_count_the_same(polls: Polls, settings_for: SettingsFor, tmp_path: Path) -> None:
    await polls.vote("1", "2", "1")
    await polls.seal()
    expected, _ = await polls.recount()
    settings = settings_for(CERTIFICATION)
    pool = await open_pool(settings.cells[CELL].database, settings, CERTIFICATION, size=1)
    ledgers = {CELL: RecountLedger(pool, page=2)}
    spawning = LedgerRecounter(ledgers, voting_keys(settings), FileObjectStore(tmp_path), processes=1, small=0)
    request = RecountCellInput(cell=CELL, survey=polls.booth.survey)
    assert await spawning.recount(request, RecountProgress(), lambda _: None) == expected
    await pool.close()


async def test_an_interrupted_recount_goes_on_where_it_was(polls: Polls) -> None:
    await polls.vote("1", "2", "1", "3", "2")
    await polls.seal()
    whole, kept = await polls.recount()
    assert len({progress.ballots for progress in kept}) == 3
    for progress in kept:
        again, _ = await polls.recount(RecountProgress.model_validate_json(progress.model_dump_json()))
        assert again == whole


async def test_a_survey_without_votes_is_counted_too(polls: Polls) -> None:
    await polls.seal()
    recount, _ = await polls.recount()
    assert (recount.participations, recount.ballots, recount.batches, recount.regions) == (0, 0, 0, ())
    published = await polls.recounter.publish(
        PublishBallotsInput(survey=polls.booth.survey, cells=(CELL,), ballots=0), lambda: None
    )
    assert (published.files, published.ballots) == ((), 0)


async def test_a_ballot_that_was_changed_is_named(polls: Polls) -> None:
    batch = await polls.vote("1", "2")
    await polls.seal()
    row = await polls.owner.fetchrow(
        "SELECT ballot_id, sealed FROM voting.ballot WHERE survey_id = $1 LIMIT 1", polls.booth.survey.id
    )
    assert row is not None
    broken = row["sealed"][:-1] + bytes([row["sealed"][-1] ^ 1])
    await polls.tamper("UPDATE voting.ballot SET sealed = $2 WHERE ballot_id = $1", row["ballot_id"], broken)
    recount, _ = await polls.recount()
    assert kinds(recount) == [
        ("ballot_unreadable", f"ballot {row['ballot_id']} of batch {batch}"),
        ("batch_counts_differ", f"batch {batch}"),
    ]


async def test_a_ballot_that_was_stuffed_is_named_by_its_batch(polls: Polls) -> None:
    batch, other = await polls.vote("1"), await polls.vote("2")
    await polls.seal()
    gateway, _, number = batch.rpartition("-")
    booth = polls.booth
    sealed = booth.known.seal.seal(booth.known.box.rules.pack(REGION, (Answer("1", ("3",)),)))
    await polls.tamper(
        "INSERT INTO voting.ballot (survey_id, ballot_id, gateway_id, number, sealed) VALUES ($1, $2, $3, $4, $5)",
        booth.survey.id,
        uuid4(),
        bytes.fromhex(gateway),
        int(number),
        sealed,
    )
    recount, _ = await polls.recount()
    assert kinds(recount) == [
        ("batch_counts_differ", f"batch {batch}"),
        ("participations_differ", f"survey {booth.survey.id}"),
    ]
    assert other not in str(recount.differences)


async def test_counts_that_were_taken_out_are_named_by_their_batch(polls: Polls) -> None:
    batch = await polls.vote("1")
    await polls.vote("2")
    await polls.seal()
    await polls.tamper("DELETE FROM voting.batch_count WHERE gateway_id = $1", bytes.fromhex(batch.partition("-")[0]))
    recount, _ = await polls.recount()
    assert ("batch_counts_differ", f"batch {batch}") in kinds(recount)


async def test_a_survey_that_is_not_sealed_is_not_counted(polls: Polls) -> None:
    await polls.vote("1")
    with pytest.raises(DomainError) as refused:
        await polls.recount()
    assert refused.value.code is ErrorCode.SURVEY_NOT_FOUND


async def test_published_ballots_say_what_was_counted_in_an_order_that_is_not_the_ledgers(
    polls: Polls, tmp_path: Path
) -> None:
    choices = [secrets.choice("123") for _ in range(30)]
    await polls.vote(*choices)
    await polls.seal()
    survey = polls.booth.survey
    request = PublishBallotsInput(survey=survey, cells=(CELL,), ballots=30)
    published = await polls.recounter.publish(request, lambda: None)
    assert await polls.recounter.publish(request, lambda: None) == published
    assert [file.ballots for file in published.files] == [7, 7, 7, 7, 2]
    lines = [
        line
        for file in published.files
        for line in (tmp_path / file.stored.name).read_bytes().splitlines(keepends=True)
    ]
    assert published.root == root(lines)
    ballots = [json.loads(line) for line in lines]
    assert all(ballot == {"region": REGION, "answers": {"1": ballot["answers"]["1"], "2": ["4"]}} for ballot in ballots)
    shown = [ballot["answers"]["1"][0] for ballot in ballots]
    assert sorted(shown) == sorted(choices)
    stored = await polls.owner.fetch(
        "SELECT sealed FROM voting.ballot WHERE survey_id = $1 ORDER BY ballot_id", survey.id
    )
    opened = [unpack(polls.booth.known.seal.open(row["sealed"])) for row in stored]
    in_order = [ballot.answers[0][1][0] for ballot in opened]
    assert sorted(in_order) == sorted(choices)
    assert shown != in_order
    recount, _ = await polls.recount()
    assert published.regions == recount.regions
    assert totals_document(recount.regions)["ballots"] == 30


async def test_the_role_that_counts_again_changes_nothing(settings_for: SettingsFor, booth: Booth) -> None:
    settings = settings_for(CERTIFICATION)
    pool = await open_pool(settings.cells[CELL].database, settings, CERTIFICATION, size=1)
    for statement in (
        "INSERT INTO voting.gateway (gateway_id, build) VALUES (decode(repeat('00', 16), 'hex'), 'x')",
        "UPDATE voting.survey SET sealed_at = NULL",
        "DELETE FROM voting.ballot",
        "SELECT FROM voting.answer_session",
        "SELECT FROM identity.person",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)
    await pool.close()


async def test_a_sealed_survey_stays_sealed_and_takes_no_vote(polls: Polls, settings_for: SettingsFor) -> None:
    await polls.seal()
    survey_id = polls.booth.survey.id
    for statement in (
        "UPDATE voting.survey SET sealed_at = NULL WHERE survey_id = $1",
        "UPDATE voting.survey SET finish_at = finish_at + interval '1 day' WHERE survey_id = $1",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await polls.owner.execute(statement, survey_id)
    batch = await polls.booth.batch(polls.booth.vote())
    finish_at = await polls.owner.fetchval("SELECT finish_at FROM voting.survey WHERE survey_id = $1", survey_id)
    await polls.booth.ledger.record(batch, finish_at - timedelta(seconds=1))
    assert (await polls.booth.counts())["participations"] == 0
    sealed = [await polls.closing.seal(survey_id) for _ in range(2)]
    assert sealed[0] == sealed[1]
    settings = settings_for(SURVEYS)
    pool = await open_pool(settings.cells[CELL].database, settings, SURVEYS, size=1)
    assert await PostgresCellSurveys(pool).get(survey_id) is not None
    await pool.close()


async def test_a_survey_that_goes_on_is_not_sealed(polls: Polls) -> None:
    with pytest.raises(DomainError) as refused:
        await polls.closing.seal(polls.booth.survey.id)
    assert refused.value.code is ErrorCode.PRECONDITION_FAILED


async def test_destroying_a_surveys_keys_leaves_none_in_its_cell(polls: Polls) -> None:
    survey_id = polls.booth.survey.id
    await polls.owner.execute(
        "INSERT INTO identity.survey (survey_id, wrapped_eligibility_key) VALUES ($1, 'wrapped')", survey_id
    )
    await polls.seal()
    for _ in range(2):
        await polls.closing.destroy_keys(survey_id)
    for table, column in (("voting", "wrapped_ballot_key"), ("identity", "wrapped_eligibility_key")):
        kept = await polls.owner.fetchrow(
            f"SELECT {column} AS key, keys_destroyed_at FROM {table}.survey WHERE survey_id = $1", survey_id
        )
        assert kept is not None
        assert kept["key"] == b""
        assert kept["keys_destroyed_at"] is not None
