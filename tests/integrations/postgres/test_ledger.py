import asyncio
import secrets
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from domain import merkle
from domain.ballots import Answer, answers_of, unpack
from domain.contracts.voting import Outcome, SubmitVotesInput
from domain.draining import BATCHES_IN_FLIGHT_MAX
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId
from domain.recording import ballot_leaf, participation_leaf
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import KEK_BALLOT
from integrations.postgres import ledger as module
from integrations.postgres.ledger import PostgresLedger
from integrations.postgres.voting_surveys import VotingSurveys
from tests.conftest import OwnerPool
from tests.voting_world import Booth, OpenBooth, small_survey

NOW = datetime.now(UTC)
IN_TIME = datetime(2025, 6, 1, tzinfo=UTC)


def outcomes(recorded: bytes) -> list[Outcome]:
    return [Outcome(byte) for byte in recorded]


async def test_a_batch_becomes_participations_ballots_and_counts(booth: Booth) -> None:
    batch = await booth.batch(
        booth.vote(Answer("1", ("1",)), Answer("2", ("4", "5"))), booth.vote(Answer("1", ("3",)), Answer("2", ("4",)))
    )
    recorded = await booth.ledger.record(batch, IN_TIME)
    assert outcomes(recorded.outcomes) == [Outcome.RECORDED] * 2
    (summary,) = recorded.summaries
    assert [(region.ballots, region.options) for region in summary.regions] == [(2, {"1": 1, "3": 1, "4": 2, "5": 1})]
    assert await booth.counts() == {"participations": 2, "ballots": 2, "counted": 2}


async def test_the_same_batch_again_is_the_first_one(booth: Booth) -> None:
    batch = await booth.batch(booth.vote(), booth.vote())
    first = await booth.ledger.record(batch, IN_TIME)
    assert await booth.ledger.record(batch, IN_TIME) == first
    assert await booth.ledger.find("eu", BatchId(batch.gateway_id, batch.number)) == first
    assert await booth.counts() == {"participations": 2, "ballots": 2, "counted": 2}


async def test_a_gateway_whose_row_a_restore_took_away_is_written_down_again_with_its_batch(booth: Booth) -> None:
    known = await booth.batch(booth.vote(), booth.vote(), number=3)
    batch = known.model_copy(update={"gateway_id": secrets.token_bytes(16)})
    found = await asyncio.gather(*(booth.ledger.record(batch, IN_TIME) for _ in range(4)))
    assert {record.outcomes for record in found} == {bytes([Outcome.RECORDED] * 2)}
    assert await booth.ledger.record(batch, IN_TIME) == found[0]
    assert await booth.counts() == {"participations": 2, "ballots": 2, "counted": 2}
    in_flight = "SELECT batches_in_flight FROM voting.gateway WHERE gateway_id = $1"
    assert await booth.pool.fetchval(in_flight, batch.gateway_id) == BATCHES_IN_FLIGHT_MAX


async def test_one_batch_recorded_by_many_at_once_is_one_record(booth: Booth) -> None:
    batch = await booth.batch(*(booth.vote() for _ in range(20)))
    found = await asyncio.gather(*(booth.ledger.record(batch, IN_TIME) for _ in range(8)))
    assert len({record.outcomes for record in found}) == 1
    assert set(outcomes(found[0].outcomes)) == {Outcome.RECORDED}
    assert await booth.counts() == {"participations": 20, "ballots": 20, "counted": 20}


async def test_the_same_batch_id_with_other_votes_is_a_fault(booth: Booth) -> None:
    batch = await booth.batch(booth.vote())
    await booth.ledger.record(batch, IN_TIME)
    other = batch.model_copy(update={"votes": (booth.vote(),)})
    with pytest.raises(DomainError) as fault:
        await booth.ledger.record(other, IN_TIME)
    assert fault.value.code is ErrorCode.BATCH_DIGEST_MISMATCH
    assert await booth.counts() == {"participations": 1, "ballots": 1, "counted": 1}


async def test_a_double_click_inside_one_batch_counts_once(booth: Booth) -> None:
    voter = secrets.token_bytes(32)
    mac = secrets.token_bytes(32)
    batch = await booth.batch(
        booth.vote(Answer("1", ("1",)), nullifier=voter, key_mac=mac),
        booth.vote(Answer("1", ("2",)), nullifier=voter, key_mac=mac),
        booth.vote(Answer("1", ("3",)), nullifier=voter, key_mac=secrets.token_bytes(32)),
        booth.vote(Answer("1", ("3",)), nullifier=voter),
    )
    recorded = await booth.ledger.record(batch, IN_TIME)
    assert outcomes(recorded.outcomes) == [
        Outcome.RECORDED,
        Outcome.REPLAYED,
        Outcome.ALREADY_VOTED,
        Outcome.ALREADY_VOTED,
    ]
    assert recorded.summaries[0].regions[0].options == {"1": 1}
    assert await booth.counts() == {"participations": 1, "ballots": 1, "counted": 1}


async def test_hundreds_of_batches_with_one_voter_at_once_count_him_once(booth: Booth) -> None:
    voter, mac = secrets.token_bytes(32), secrets.token_bytes(32)
    batches = [
        await booth.batch(booth.vote(), booth.vote(nullifier=voter, key_mac=mac if n % 2 else b""), booth.vote())
        for n in range(200)
    ]
    found = await asyncio.gather(*(booth.ledger.record(batch, IN_TIME) for batch in batches))
    his = Counter(Outcome(record.outcomes[1]) for record in found)
    assert his[Outcome.RECORDED] == 1
    assert his.total() == 200
    assert await booth.counts() == {"participations": 401, "ballots": 401, "counted": 401}


async def test_it_is_the_constraint_that_keeps_a_second_vote_out(
    booth: Booth, owner_pool: OwnerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the constraint and its ON CONFLICT the race above ends with two votes: the suite would notice."""
    owner = await owner_pool("eu")
    plain = module._CLAIM.replace("ON CONFLICT ON CONSTRAINT uq_participation_survey_nullifier DO NOTHING", "")
    assert plain != module._CLAIM
    voter = secrets.token_bytes(32)
    batches = [await booth.batch(booth.vote(nullifier=voter)) for _ in range(2)]
    await owner.execute("ALTER TABLE voting.participation DROP CONSTRAINT uq_participation_survey_nullifier")
    try:
        monkeypatch.setattr(module, "_CLAIM", plain)
        for batch in batches:
            await booth.ledger.record(batch, IN_TIME)
        assert (await booth.counts())["participations"] == 2
    finally:
        await owner.execute("ALTER TABLE voting.participation DISABLE TRIGGER ALL")
        await owner.execute("DELETE FROM voting.participation WHERE survey_id = $1", booth.survey.id)
        await owner.execute("ALTER TABLE voting.participation ENABLE TRIGGER ALL")
        await owner.execute(
            "ALTER TABLE voting.participation "
            "ADD CONSTRAINT uq_participation_survey_nullifier UNIQUE (survey_id, nullifier)"
        )


@pytest.mark.parametrize(
    ("start", "finish", "accepted", "outcome"),
    [
        (IN_TIME, IN_TIME + timedelta(hours=1), IN_TIME - timedelta(milliseconds=1), Outcome.SURVEY_NOT_OPEN),
        (IN_TIME, IN_TIME + timedelta(hours=1), IN_TIME, Outcome.RECORDED),
        (IN_TIME, IN_TIME + timedelta(hours=1), IN_TIME + timedelta(minutes=59, seconds=59), Outcome.RECORDED),
        (IN_TIME, IN_TIME + timedelta(hours=1), IN_TIME + timedelta(hours=1), Outcome.SURVEY_CLOSED),
        (None, None, IN_TIME, Outcome.SURVEY_NOT_OPEN),
    ],
)
async def test_the_instant_of_acceptance_decides_however_late_it_is_recorded(
    booth_of: OpenBooth, start: datetime | None, finish: datetime | None, accepted: datetime, outcome: Outcome
) -> None:
    booth = await booth_of(start_at=start, finish_at=finish)
    recorded = await booth.ledger.record(await booth.batch(booth.vote()), accepted)
    assert outcomes(recorded.outcomes) == [outcome]
    expected = int(outcome is Outcome.RECORDED)
    assert await booth.counts() == {"participations": expected, "ballots": expected, "counted": expected}


async def test_a_vote_for_a_sealed_survey_is_a_fault_that_is_written_down(booth: Booth, owner_pool: OwnerPool) -> None:
    owner = await owner_pool("eu")
    await owner.execute("UPDATE voting.survey SET sealed_at = now() WHERE survey_id = $1", booth.survey.id)
    batch = await booth.batch(booth.vote())
    recorded = await booth.ledger.record(batch, IN_TIME)
    assert outcomes(recorded.outcomes) == [Outcome.REFUSED]
    note = "SELECT count(*) FROM audit.entry WHERE kind = 'fault.vote_for_sealed_survey' AND body->>'batch' = $1"
    assert await owner.fetchval(note, str(BatchId(batch.gateway_id, 1))) == 1


async def test_what_cannot_be_recorded_is_an_outcome_of_that_vote_alone(booth: Booth, booth_of: OpenBooth) -> None:
    other = await booth_of(survey=small_survey())
    good = booth.vote()
    batch = await booth.batch(
        good,
        booth.vote(Answer("1", ("1",)), region="elsewhere").model_copy(update={"region": "ward-1"}),
        booth.vote(region="ward-2"),
        booth.vote().model_copy(update={"sealed_answers": secrets.token_bytes(221)}),
        booth.vote().model_copy(update={"sealed_answers": other.vote().sealed_answers}),
        booth.vote().model_copy(update={"survey_id": "s_unknown"}),
        booth.vote().model_copy(update={"evidence": b"too short"}),
        booth.vote().model_copy(update={"nullifier": b""}),
        booth.vote().model_copy(update={"key_mac": b"\0"}),
        other.vote(),
        booth.vote(),
    )
    recorded = await booth.ledger.record(batch, IN_TIME)
    assert outcomes(recorded.outcomes) == [
        Outcome.RECORDED,
        Outcome.UNREADABLE,
        Outcome.INVALID_ANSWERS,
        Outcome.UNREADABLE,
        Outcome.UNREADABLE,
        Outcome.SURVEY_NOT_FOUND,
        Outcome.REFUSED,
        Outcome.REFUSED,
        Outcome.REFUSED,
        Outcome.RECORDED,
        Outcome.RECORDED,
    ]
    assert await booth.counts() == {"participations": 2, "ballots": 2, "counted": 2}
    assert await other.counts() == {"participations": 1, "ballots": 1, "counted": 1}


def started_anew(booth: Booth, keys: FileKms) -> PostgresLedger:
    """The ledger of a process that has read no survey yet."""
    return PostgresLedger(booth.pool, VotingSurveys(booth.pool, keys))


async def test_a_survey_whose_key_is_destroyed_costs_the_votes_of_another_nothing(
    booth: Booth, booth_of: OpenBooth, keys: FileKms, owner_pool: OwnerPool
) -> None:
    wrapping = await keys.rotate(KEK_BALLOT)
    lost = await booth_of(survey=small_survey())
    early = await booth.batch(booth.vote(), lost.vote())
    first = await booth.ledger.record(early, IN_TIME)
    late = await booth.batch(booth.vote(), lost.vote(), booth.vote())
    await keys.destroy(wrapping.key_id)

    ledger = started_anew(booth, keys)
    recorded = await ledger.record(late, IN_TIME)
    assert outcomes(recorded.outcomes) == [Outcome.RECORDED, Outcome.UNREADABLE, Outcome.RECORDED]
    assert [summary.survey_id for summary in recorded.summaries] == [booth.survey.id]
    assert await ledger.record(late, IN_TIME) == recorded
    assert await ledger.record(early, IN_TIME) == first
    assert await booth.counts() == {"participations": 3, "ballots": 3, "counted": 3}
    assert (await lost.counts())["participations"] == 1
    assert await lost_surveys(owner_pool, late) == [(lost.survey.id, "key_destroyed")]
    assert await lost_surveys(owner_pool, early) == []


async def test_a_survey_that_nobody_can_read_costs_the_votes_of_another_nothing(
    booth: Booth, booth_of: OpenBooth, keys: FileKms, owner_pool: OwnerPool
) -> None:
    lost = await booth_of(survey=small_survey())
    batch = await booth.batch(lost.vote(), booth.vote())
    owner = await owner_pool("eu")
    await owner.execute("UPDATE voting.survey SET definition = '{}' WHERE survey_id = $1", lost.survey.id)
    recorded = await started_anew(booth, keys).record(batch, IN_TIME)
    assert outcomes(recorded.outcomes) == [Outcome.UNREADABLE, Outcome.RECORDED]
    assert await lost_surveys(owner_pool, batch) == [(lost.survey.id, "internal")]


async def test_a_key_that_cannot_be_reached_is_waited_for_unless_the_batch_is_recorded(booth: Booth) -> None:
    recorded, waiting = await booth.batch(booth.vote()), await booth.batch(booth.vote())
    first = await booth.ledger.record(recorded, IN_TIME)
    ledger = started_anew(booth, FileKms(Path("/nowhere"), frozenset({KEK_BALLOT})))
    assert await ledger.record(recorded, IN_TIME) == first
    with pytest.raises(DomainError) as away:
        await ledger.record(waiting, IN_TIME)
    assert away.value.code is ErrorCode.KEY_UNAVAILABLE
    assert await booth.ledger.find("eu", BatchId(waiting.gateway_id, 1)) is None


async def lost_surveys(owner_pool: OwnerPool, batch: SubmitVotesInput) -> list[tuple[str, str]]:
    owner = await owner_pool("eu")
    rows = await owner.fetch(
        "SELECT body->>'survey' AS survey, body->>'code' AS code FROM audit.entry "
        "WHERE kind = 'fault.vote_for_lost_survey' AND body->>'batch' = $1",
        str(BatchId(batch.gateway_id, batch.number)),
    )
    return [(row["survey"], row["code"]) for row in rows]


async def test_answers_are_checked_again_when_they_are_recorded(booth: Booth) -> None:
    """A process that seals what the rules forbid, another survey's options for one, records nothing."""
    packed = booth.known.box.rules.pack("ward-1", [Answer("1", ("1",))])
    forged = packed.replace(b"\xa11\x91\xa11", b"\xa11\x91\xa19")
    assert forged != packed
    batch = await booth.batch(booth.vote().model_copy(update={"sealed_answers": booth.known.seal.seal(forged)}))
    assert outcomes((await booth.ledger.record(batch, IN_TIME)).outcomes) == [Outcome.INVALID_ANSWERS]


async def test_every_batch_has_its_row_also_one_of_refused_votes(booth: Booth) -> None:
    batch = await booth.batch(booth.vote().model_copy(update={"survey_id": "s_unknown"}))
    await booth.ledger.record(batch, IN_TIME)
    assert await booth.ledger.find("eu", BatchId(batch.gateway_id, batch.number)) is not None


class Overheard:
    """A connection that takes everything, and keeps what it was given: as the write-ahead log does."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def transaction(self) -> "Overheard":
        return self

    async def start(self) -> None:
        return None

    async def rollback(self) -> None:
        return None

    async def execute(self, _: str, *columns: list[Any]) -> None:
        self.given += [value for column in columns for value in column if isinstance(value, bytes)]


async def test_what_is_tried_and_taken_out_again_leaves_no_ballot_beside_its_voter(booth: Booth) -> None:
    votes = [booth.vote() for _ in range(5)]
    overheard = Overheard()
    assert await module._takes(cast("Any", overheard), votes)
    assert {vote.nullifier for vote in votes} < set(overheard.given)
    assert not {vote.sealed_answers for vote in votes} & set(overheard.given)
    assert overheard.given.count(bytes(len(votes[0].sealed_answers))) == len(votes)


async def test_ballots_lie_resealed_shuffled_and_of_one_length(booth: Booth, owner_pool: OwnerPool) -> None:
    choices = [Answer("1", (str(1 + n % 3),)) for n in range(60)]
    batch = await booth.batch(*(booth.vote(choice) for choice in choices))
    await booth.ledger.record(batch, IN_TIME)
    owner = await owner_pool("eu")
    rows = await owner.fetch("SELECT sealed FROM voting.ballot WHERE survey_id = $1 ORDER BY ctid", booth.survey.id)
    lying = [answers_of(unpack(booth.known.seal.open(row["sealed"])))[0] for row in rows]
    assert Counter(lying) == Counter(choices)
    assert lying != choices  # by chance once in 60!/(20!)^3
    assert len({len(row["sealed"]) for row in rows}) == 1
    assert not {row["sealed"] for row in rows} & {vote.sealed_answers for vote in batch.votes}


async def test_the_roots_commit_to_the_rows(booth: Booth, owner_pool: OwnerPool) -> None:
    batch = await booth.batch(*(booth.vote() for _ in range(7)))
    await booth.ledger.record(batch, IN_TIME)
    owner = await owner_pool("eu")
    row = await owner.fetchrow(
        "SELECT participations_root, ballots_root FROM voting.batch WHERE gateway_id = $1", batch.gateway_id
    )
    votes = sorted(batch.votes, key=lambda vote: vote.nullifier)
    ballots = await owner.fetch(
        "SELECT ballot_id, sealed FROM voting.ballot WHERE gateway_id = $1 ORDER BY ballot_id", batch.gateway_id
    )
    assert row is not None
    assert row["participations_root"] == merkle.root(participation_leaf(vote) for vote in votes)
    assert row["ballots_root"] == merkle.root(
        ballot_leaf(booth.survey.id, ballot["ballot_id"].bytes, ballot["sealed"]) for ballot in ballots
    )
    audit = await owner.fetchrow(
        "SELECT body FROM audit.entry WHERE kind = 'votes.recorded' AND body->>'batch' = $1",
        str(BatchId(batch.gateway_id, batch.number)),
    )
    assert audit is not None
    assert row["ballots_root"].hex() in audit["body"]


@pytest.mark.parametrize("table", ["participation", "ballot", "batch", "batch_count", "gateway"])
async def test_the_ledger_is_append_only_for_the_service_and_for_the_owner(
    booth: Booth, owner_pool: OwnerPool, table: str
) -> None:
    await booth.ledger.record(await booth.batch(booth.vote()), IN_TIME)
    for pool in (booth.pool, await owner_pool("eu")):
        for statement in (f"DELETE FROM voting.{table}", f"TRUNCATE voting.{table} CASCADE"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await (await owner_pool("eu")).execute(
            f"UPDATE voting.{table} SET gateway_id = gateway_id"
            if table != "participation"
            else "UPDATE voting.participation SET region = region"
        )


async def test_the_service_sees_nothing_of_identity(booth: Booth) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await booth.pool.fetchval("SELECT count(*) FROM identity.voter")


async def test_the_database_itself_refuses_more_votes_for_an_option_than_ballots(
    booth: Booth, owner_pool: OwnerPool
) -> None:
    batch = await booth.batch(booth.vote())
    await booth.ledger.record(batch, IN_TIME)
    with pytest.raises(asyncpg.CheckViolationError):
        await booth.pool.execute(
            "INSERT INTO voting.batch_count (gateway_id, number, survey_id, region, ballots, options) "
            "VALUES ($1, 1, 'other', 'r', 1, '{\"1\": 2}')",
            batch.gateway_id,
        )
