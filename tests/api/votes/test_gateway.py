import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from structlog.testing import capture_logs

from api.votes.gateway import Gateway, GatewayLimits
from api.votes.queue import Accepted, Confirmed, NotTaken, Verdict
from domain.contracts.voting import Outcome, RecordedVotes, SealedVote, SubmitVotesInput
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId

# Busy, or with nothing recorded for as long as a vote waits: both are said before anything is durable.
NOT_NOW = (NotTaken(ErrorCode.OVERLOADED), NotTaken(ErrorCode.CELL_UNAVAILABLE))
LIMITS = GatewayLimits(
    batch_max=10,
    in_flight=1,
    queue_max=25,
    confirm_timeout_s=0.2,
    start_timeout_s=0.4,
    intake_min=1000,
    intake_wait_s=0.15,
)


def vote(survey: str = "s_one", size: int = 100) -> SealedVote:
    return SealedVote(
        survey_id=survey,
        nullifier=secrets.token_bytes(32),
        evidence=bytes(64),
        region="r",
        sealed_answers=bytes(size),
    )


class Service:
    """Temporal and the ledger of a test: what is started is kept, and recorded when the test says so."""

    def __init__(self) -> None:
        self.started: list[SubmitVotesInput] = []
        self.rows: dict[int, bytes] = {}
        self.unreachable = False
        self.failed = False
        self.attempts: list[int] = []
        self.on_start: Callable[[SubmitVotesInput], None] = lambda _: None

    async def start(self, batch: SubmitVotesInput) -> None:
        self.attempts.append(batch.number)
        if self.unreachable:
            raise DomainError(ErrorCode.OUTCOME_UNKNOWN)
        self.started.append(batch)
        self.on_start(batch)

    async def result(self, batch_id: BatchId) -> bytes:
        if self.failed:
            raise DomainError(ErrorCode.INTERNAL)
        await asyncio.Event().wait()
        raise AssertionError(batch_id)

    async def find(self, cell: str, batch_id: BatchId) -> RecordedVotes | None:
        assert cell == "eu"
        outcomes = self.rows.get(batch_id.number)
        return None if outcomes is None else RecordedVotes(outcomes=outcomes)

    def in_flight(self, batches: int) -> None:
        self.running = batches

    def queued(self, votes: int) -> None: ...


class Meter:
    def __init__(self) -> None:
        self.batches: list[int] = []

    def in_flight(self, batches: int) -> None: ...

    def started(self, votes: int) -> None:
        self.batches.append(votes)


@asynccontextmanager
async def gateway(service: Service, limits: GatewayLimits = LIMITS) -> AsyncIterator[tuple[Gateway, Meter]]:
    meter = Meter()
    made = Gateway("eu", service, service, limits, meter)
    try:
        yield made, meter
    finally:
        for batch in list(service.started):
            made.recorded(batch, recorded(batch))
        service.on_start = lambda batch: made.recorded(batch, recorded(batch))
        service.unreachable = False
        async with asyncio.timeout(5):
            await made.stop()


def recorded(batch: SubmitVotesInput) -> RecordedVotes:
    return RecordedVotes(outcomes=bytes(len(batch.votes)))


def cast(made: Gateway, sealed: SealedVote | None = None) -> asyncio.Future[Verdict]:
    answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
    made.submit(sealed or vote(), answer.set_result)  # a second answer would raise
    return answer


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_lone_vote_goes_out_alone_at_once() -> None:
    service = Service()
    async with gateway(service) as (made, meter):
        answer = cast(made)
        await until(lambda: bool(service.started))
        made.recorded(service.started[0], recorded(service.started[0]))
        verdict = await answer
        assert isinstance(verdict, Confirmed)
        assert verdict.outcome is Outcome.RECORDED
        assert verdict.submission.batch == BatchId(made.gateway_id, 1)
        assert meter.batches == [1]


async def test_votes_that_come_while_a_batch_runs_go_together_up_to_the_limit() -> None:
    service = Service()
    async with gateway(service) as (made, meter):
        first = cast(made)
        await until(lambda: bool(service.started))
        waiting = [cast(made) for _ in range(14)]
        service.on_start = lambda batch: made.recorded(batch, recorded(batch))
        made.recorded(service.started[0], recorded(service.started[0]))
        verdicts = await asyncio.gather(first, *waiting)
        assert meter.batches == [1, 10, 4]
        assert [batch.number for batch in service.started] == [1, 2, 3]
        places = [(v.submission.batch.number, v.submission.index) for v in verdicts if isinstance(v, Confirmed)]
        assert places == [(1, 0), *((2, n) for n in range(10)), *((3, n) for n in range(4))]


async def test_each_caller_gets_the_outcome_of_its_own_index() -> None:
    service = Service()
    async with gateway(service) as (made, _):
        answers = [cast(made) for _ in range(3)]
        await until(lambda: bool(service.started))
        outcomes = bytes([Outcome.RECORDED, Outcome.ALREADY_VOTED, Outcome.REPLAYED])
        made.recorded(service.started[0], RecordedVotes(outcomes=outcomes))
        found = [verdict.outcome for verdict in await asyncio.gather(*answers) if isinstance(verdict, Confirmed)]
        assert found == [Outcome.RECORDED, Outcome.ALREADY_VOTED, Outcome.REPLAYED]


async def test_between_the_answers_of_a_large_batch_others_have_their_turn_and_the_next_one_begins_after_all() -> None:
    async with gateway(service := Service(), replace(LIMITS, batch_max=500, queue_max=500)) as (made, meter):
        rounds, answered_in, started = 0, list[int](), list[int]()
        loop = asyncio.get_running_loop()

        def count_rounds() -> None:
            nonlocal rounds
            rounds += 1
            if len(answered_in) < 300:
                loop.call_soon(count_rounds)

        def note(verdict: Verdict) -> None:
            assert isinstance(verdict, Confirmed)
            answered_in.append(rounds)
            started.append(len(service.started))

        for _ in range(300):
            made.submit(vote(), note)
        await until(lambda: bool(service.started))
        waits = cast(made)
        count_rounds()
        made.recorded(service.started[0], recorded(service.started[0]))
        assert 0 < len(answered_in) < 100  # as many as hold nobody up
        await until(lambda: len(answered_in) == 300 and len(service.started) == 2)
        assert len(set(answered_in)) >= 4
        assert set(started) == {1}
        made.recorded(service.started[1], recorded(service.started[1]))
        await waits
        assert meter.batches == [300, 1]


async def test_a_gateway_stops_when_the_last_of_a_large_batch_has_its_answer() -> None:
    async with gateway(service := Service(), replace(LIMITS, batch_max=2000, queue_max=2000)) as (made, _):
        answers = [cast(made) for _ in range(2000)]
        await until(lambda: bool(service.started))
        made.recorded(service.started[0], recorded(service.started[0]))
        async with asyncio.timeout(5):
            await made.stop()
        assert all(answer.done() for answer in answers)


async def test_a_batch_that_another_process_recorded_is_found_by_its_row() -> None:
    service = Service()
    async with gateway(service) as (made, _):
        answer = cast(made)
        await until(lambda: bool(service.started))
        service.rows[1] = bytes([Outcome.RECORDED])
        async with asyncio.timeout(2):
            assert isinstance(await answer, Confirmed)


async def test_accepted_only_after_the_start_and_only_when_confirming_takes_long() -> None:
    service = Service()
    async with gateway(service) as (made, _):
        loop = asyncio.get_running_loop()
        began = loop.time()
        verdict = await cast(made)
        assert isinstance(verdict, Accepted)
        assert len(service.started) == 1
        assert loop.time() - began >= LIMITS.confirm_timeout_s - 0.01


async def test_when_the_ledger_stands_still_what_waits_is_bounded_and_refused_before_it_is_durable() -> None:
    service = Service()
    async with gateway(service) as (made, _):
        first = cast(made)
        await until(lambda: bool(service.started))
        rest = [cast(made) for _ in range(40)]
        assert isinstance(await first, Accepted)
        verdicts = await asyncio.gather(*rest)
        assert all(verdict in NOT_NOW for verdict in verdicts)
        assert len(service.started) == 1
        assert made.queued_votes() == 0
        assert made.queued_bytes() == 0


async def test_an_unknown_start_is_tried_again_under_the_same_number() -> None:
    service = Service()
    service.unreachable = True
    async with gateway(service) as (made, _):
        answer = cast(made)
        await until(lambda: len(service.attempts) >= 2)
        assert set(service.attempts) == {1}
        assert not answer.done()
        service.unreachable = False
        service.on_start = lambda batch: made.recorded(batch, recorded(batch))
        assert isinstance(await answer, Confirmed)


async def test_at_the_deadline_the_caller_hears_that_nobody_knows_and_the_number_is_still_settled() -> None:
    service = Service()
    service.unreachable = True
    async with gateway(service) as (made, _):
        assert await cast(made) == NotTaken(ErrorCode.OUTCOME_UNKNOWN)
        assert await cast(made) == NotTaken(ErrorCode.OVERLOADED)  # its number is not given away
        service.unreachable = False
        service.on_start = lambda batch: made.recorded(batch, recorded(batch))
        await until(lambda: bool(service.started))
        assert [batch.number for batch in service.started] == [1]
        assert isinstance(await cast(made), Confirmed)
        assert [batch.number for batch in service.started] == [1, 2]


async def test_a_batch_whose_execution_failed_holds_nobody_up() -> None:
    service = Service()
    service.failed = True
    async with gateway(service) as (made, _):
        assert await cast(made) == NotTaken(ErrorCode.OUTCOME_UNKNOWN)
        service.failed = False
        service.on_start = lambda batch: made.recorded(batch, recorded(batch))
        assert isinstance(await cast(made), Confirmed)


async def test_whatever_breaks_nobody_is_left_without_an_answer() -> None:
    service = Service()

    async def broken(cell: str, batch_id: BatchId) -> RecordedVotes | None:
        raise RuntimeError(f"a driver quotes a row of {cell}")

    service.find = broken  # type: ignore[method-assign]
    with capture_logs() as said:
        async with gateway(service) as (made, _):
            assert await cast(made) == NotTaken(ErrorCode.OUTCOME_UNKNOWN)
    (lost,) = (line for line in said if line["event"] == "batch_lost_from_sight")
    assert isinstance(lost.pop("exc_info"), RuntimeError)  # whose type and places are logged, and not its text
    assert "a row of eu" not in repr(lost)


async def test_a_caller_that_cannot_be_answered_keeps_no_other_from_its_answer() -> None:
    service = Service()

    def gone(verdict: Verdict) -> None:
        raise ConnectionError(verdict)

    async with gateway(service) as (made, _):
        made.submit(vote(), gone)
        answer = cast(made)
        await until(lambda: bool(service.started))
        made.recorded(service.started[0], recorded(service.started[0]))
        assert isinstance(await answer, Confirmed)


async def test_a_caller_that_cannot_be_told_of_a_full_wait_does_not_end_the_waiting_of_others() -> None:
    service = Service()

    def gone(verdict: Verdict) -> None:
        raise ConnectionError(verdict)

    async with gateway(service) as (made, _):
        assert isinstance(await cast(made), Accepted)  # its batch stays in flight
        made.submit(vote(), gone)
        assert await cast(made) in NOT_NOW
        assert await cast(made) in NOT_NOW


async def test_a_record_of_another_gateway_answers_nobody() -> None:
    service = Service()
    async with gateway(service) as (made, _):
        answer = cast(made)
        await until(lambda: bool(service.started))
        stranger = service.started[0].model_copy(update={"gateway_id": secrets.token_bytes(16)})
        made.recorded(stranger, recorded(stranger))
        assert not answer.done()


async def test_a_stopped_gateway_takes_nothing_more() -> None:
    service = Service()
    async with gateway(service) as (made, _):
        service.on_start = lambda batch: made.recorded(batch, recorded(batch))
        answer = cast(made)
        await made.stop()
        assert isinstance(answer.result(), Confirmed)
        assert await cast(made) == NotTaken(ErrorCode.OVERLOADED)


async def test_a_stopped_gateway_starts_nothing_behind_a_number_that_nobody_knows() -> None:
    service = Service()
    service.unreachable = True
    async with gateway(service) as (made, _):
        unknown = cast(made)
        await until(lambda: bool(service.attempts))
        behind = cast(made)
        async with asyncio.timeout(30):
            await made.stop()
        assert unknown.result() == NotTaken(ErrorCode.OUTCOME_UNKNOWN)
        assert isinstance(behind.result(), NotTaken)
        assert set(service.attempts) == {1}


class Gone:
    disconnected = False


async def test_a_vote_that_nobody_waits_for_gets_no_place_in_a_batch() -> None:
    service = Service()
    async with gateway(service) as (made, _):
        first = cast(made)
        await until(lambda: bool(service.started))
        caller = Gone()
        answers: list[Verdict] = []
        gone, late, wanted = vote("s_gone"), vote("s_late"), vote("s_wanted")
        made.submit(gone, answers.append, caller=caller)
        made.submit(late, answers.append, wait_s=0.01)
        made.submit(wanted, answers.append, wait_s=60)
        caller.disconnected = True
        await asyncio.sleep(0.05)
        service.on_start = lambda batch: made.recorded(batch, recorded(batch))
        made.recorded(service.started[0], recorded(service.started[0]))
        await until(lambda: len(answers) == 3)
        await first
        assert [batch.votes for batch in service.started[1:]] == [(wanted,)]
        assert answers[:2] == [NotTaken(ErrorCode.DEADLINE_EXCEEDED)] * 2
        assert made.intake.votes == 0


async def test_what_is_in_a_batch_stays_there_when_its_caller_goes() -> None:
    service = Service()
    async with gateway(service) as (made, _):
        caller = Gone()
        answers: list[Verdict] = []
        made.submit(vote(), answers.append, caller=caller)
        await until(lambda: bool(service.started))
        caller.disconnected = True
        made.recorded(service.started[0], recorded(service.started[0]))
        await until(lambda: bool(answers))
        assert isinstance(answers[0], Confirmed)


async def test_before_its_deadline_a_caller_hears_that_the_vote_is_accepted_and_the_others_wait_on() -> None:
    service = Service()
    limits = replace(LIMITS, confirm_timeout_s=30, start_timeout_s=40)
    async with gateway(service, limits) as (made, _):
        answers: dict[str, Verdict] = {}
        made.submit(vote(), lambda verdict: answers.update(patient=verdict))
        made.submit(vote(), lambda verdict: answers.update(hasty=verdict), wait_s=0.15)
        made.submit(vote(), lambda verdict: answers.update(hastier=verdict), wait_s=0.1)
        await until(lambda: len(answers) == 2)
        assert isinstance(answers["hasty"], Accepted)
        assert isinstance(answers["hastier"], Accepted)
        assert (answers["hasty"].submission.index, answers["hastier"].submission.index) == (1, 2)
        assert len(service.started) == 1
        assert len(service.started[0].votes) == 3
        made.recorded(service.started[0], recorded(service.started[0]))
        await until(lambda: len(answers) == 3)
        assert isinstance(answers["patient"], Confirmed)


async def test_a_hot_survey_does_not_keep_a_cold_one_out() -> None:
    service = Service()
    limits = replace(LIMITS, queue_max=1000, confirm_timeout_s=30, start_timeout_s=40, intake_min=50)
    async with gateway(service, limits) as (made, _):
        hot = [cast(made, vote("s_hot")) for _ in range(200)]
        cold = [cast(made, vote("s_cold")) for _ in range(10)]
        assert sum(1 for answer in hot if answer.done()) == 150
        assert not any(answer.done() for answer in cold)
        await until(lambda: bool(service.started))
        service.on_start = lambda batch: made.recorded(batch, recorded(batch))
        made.recorded(service.started[0], recorded(service.started[0]))
        assert all(isinstance(verdict, Confirmed) for verdict in await asyncio.gather(*cold))
        verdicts = await asyncio.gather(*hot)
        assert verdicts.count(NotTaken(ErrorCode.OVERLOADED)) == 150
        of_survey = [[each.survey_id for each in batch.votes].count("s_cold") for batch in service.started[:3]]
        assert of_survey == [5, 5, 0]  # in turns, whoever was first


async def test_a_cell_that_records_nothing_is_told_from_one_that_is_busy() -> None:
    service = Service()
    async with gateway(service) as (made, _):
        first = cast(made)
        assert isinstance(await first, Accepted)  # Temporal has it; the ledger does not
        waiting = cast(made)
        assert await asyncio.wait_for(waiting, 5) == NotTaken(ErrorCode.CELL_UNAVAILABLE)
