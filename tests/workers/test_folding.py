"""Every batch is counted once, whatever is announced twice, late, out of order, or lost by Redis."""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integrations.kafka.producer import DurableProducer, Message
from integrations.kafka.topics import BATCH_RECORDED
from integrations.redis.tally_reader import TallyReader
from tests.workers.tally_cells import TallyCell, make_survey, until


async def test_counts_what_is_announced(tally_cell: TallyCell) -> None:
    survey = make_survey()
    await tally_cell.install(survey)
    async with tally_cell.folding():
        await tally_cell.vote(survey.id, "1", "north")
        await tally_cell.vote(survey.id, "2", "south")
        await tally_cell.tallied(survey.id)
    assert await tally_cell.counts(survey.id) == {
        ("north", ""): 1,
        ("north", "1"): 1,
        ("south", ""): 1,
        ("south", "2"): 1,
    }


async def test_a_kept_trace_ends_in_the_tally(tally_cell: TallyCell) -> None:
    exporter = InMemorySpanExporter()
    tally_cell.spans.add_span_processor(SimpleSpanProcessor(exporter))
    survey = make_survey()
    await tally_cell.install(survey)
    tracer = TracerProvider().get_tracer("votes")
    async with tally_cell.folding():
        await tally_cell.vote(survey.id)  # nobody follows this one
        await tally_cell.tallied(survey.id)
        with tracer.start_as_current_span("announce_votes") as announced:
            await tally_cell.vote(survey.id)
        await tally_cell.tallied(survey.id)
    followed = announced.get_span_context()
    spans = exporter.get_finished_spans()  # more than one where what was folded is read again after a rebuild
    assert {(span.name, span.context.trace_id, span.parent and span.parent.span_id) for span in spans} == {
        ("tally.fold", followed.trace_id, followed.span_id)
    }


async def test_a_batch_announced_again_counts_once_in_any_order_and_after_a_restart(tally_cell: TallyCell) -> None:
    survey = make_survey()
    await tally_cell.install(survey)
    summaries = [await tally_cell.record(survey.id, {"north": {"1": 1}}) for _ in range(40)]
    async with tally_cell.folding():
        await tally_cell.producer.publish(tuple(reversed(summaries)))
        await tally_cell.producer.publish(tuple(summaries[::3]))
        await tally_cell.producer.publish(tuple(summaries[20:] + summaries[:20]))
        last = await tally_cell.vote(survey.id, "2")
        await tally_cell.tallied(survey.id)
    async with tally_cell.folding():
        await tally_cell.producer.publish((last, *summaries))
        await tally_cell.vote(survey.id, "3")
        await tally_cell.tallied(survey.id)


async def test_a_crash_before_the_offsets_are_noted_counts_nothing_twice(tally_cell: TallyCell) -> None:
    survey = make_survey()
    await tally_cell.install(survey)
    async with tally_cell.folding():
        await tally_cell.vote(survey.id)
        await tally_cell.tallied(survey.id)

        async def noted() -> bool:
            return await tally_cell.redis.exists(_offsets(tally_cell)) == 1

        await until(noted, "offsets are noted")
    parts = await tally_cell.redis.hgetall(_offsets(tally_cell))
    await tally_cell.redis.hset(_offsets(tally_cell), mapping=dict.fromkeys(parts, b"0"))
    async with tally_cell.folding():
        await tally_cell.vote(survey.id, "2")
        await tally_cell.tallied(survey.id)


async def test_two_consumers_at_once_count_once(tally_cell: TallyCell) -> None:
    surveys = [make_survey() for _ in range(3)]
    for survey in surveys:
        await tally_cell.install(survey)
    async with tally_cell.folding(), tally_cell.folding():
        for round_ in range(30):
            for survey in surveys:
                await tally_cell.vote(survey.id, str(round_ % 3 + 1))
        await tally_cell.tallied(*(survey.id for survey in surveys))


async def test_an_emptied_redis_is_rebuilt_and_nobody_sees_less_than_before(tally_cell: TallyCell) -> None:
    survey = make_survey()
    await tally_cell.install(survey)
    seen: list[int] = []
    reader = TallyReader(tally_cell.redis, tally_cell.name)

    async def watch() -> None:
        while True:
            view = await reader.view(survey.id, exact=True, installed_epoch=1)
            if view.totals is not None and not view.totals.catching_up:
                seen.append(view.totals.ballots)
            await asyncio.sleep(0.001)

    async with tally_cell.folding(), tally_cell.folding():
        for _ in range(20):
            await tally_cell.vote(survey.id)
        await tally_cell.tallied(survey.id)
        watching = asyncio.create_task(watch())
        for round_ in range(40):
            await tally_cell.vote(survey.id)
            if round_ in {10, 25}:
                await tally_cell.redis.flushdb()
        await tally_cell.tallied(survey.id)
        watching.cancel()
    assert seen
    assert min(seen) >= 20
    assert seen == sorted(seen)


async def test_a_survey_that_nobody_votes_in_is_rebuilt_too(tally_cell: TallyCell) -> None:
    survey = make_survey()
    await tally_cell.install(survey)
    await tally_cell.record(survey.id, {"north": {"1": 5}}, ballots=5)  # recorded, and its announcement lost for good
    async with tally_cell.folding():
        await tally_cell.tallied(survey.id)
        await tally_cell.redis.flushdb()
        await tally_cell.tallied(survey.id)


async def test_offsets_out_of_range_are_made_good_from_the_ledger(tally_cell: TallyCell) -> None:
    survey = make_survey()
    await tally_cell.install(survey)
    async with tally_cell.folding():
        await tally_cell.vote(survey.id)
        await tally_cell.tallied(survey.id)
    for _ in range(5):
        await tally_cell.vote(survey.id, "2")
    await _delete_messages(tally_cell)
    async with tally_cell.folding():
        await tally_cell.tallied(survey.id)
        await tally_cell.vote(survey.id, "3")
        await tally_cell.tallied(survey.id)


async def test_totals_of_an_older_epoch_are_not_believed(tally_cell: TallyCell) -> None:
    survey = make_survey()
    await tally_cell.install(survey)
    async with tally_cell.folding():
        await tally_cell.vote(survey.id)
        await tally_cell.tallied(survey.id)
    totals = f"{tally_cell.name}:tally:{{{tally_cell.name}}}:totals:{survey.id}"
    old = await tally_cell.redis.dump(totals)
    assert old is not None
    await tally_cell.redis.delete(totals)
    async with tally_cell.folding():
        await tally_cell.tallied(survey.id)  # a later epoch now
        for _ in range(3):
            await tally_cell.vote(survey.id)
        await tally_cell.tallied(survey.id)
    await tally_cell.redis.restore(totals, 0, old, replace=True)  # as from a backup
    async with tally_cell.folding():
        await tally_cell.tallied(survey.id)


async def test_the_watermark_moves_while_all_is_folded(tally_cell: TallyCell) -> None:
    survey = make_survey()
    await tally_cell.install(survey)
    reader = TallyReader(tally_cell.redis, tally_cell.name)
    assert (await reader.view(survey.id, exact=True, installed_epoch=0)).watermark is None

    async def watermark_after(earlier: float) -> bool:
        view = await reader.view(survey.id, exact=True, installed_epoch=0)
        return view.watermark is not None and view.watermark.timestamp() > earlier

    async with tally_cell.folding():
        await until(lambda: watermark_after(0), "a first watermark")
        first = (await reader.view(survey.id, exact=True, installed_epoch=0)).watermark
        assert first is not None
        await until(lambda: watermark_after(first.timestamp()), "a later watermark")


async def test_the_public_copy_moves_by_the_minimum_step(tally_cell: TallyCell) -> None:
    survey = make_survey(minimum_step=5)
    await tally_cell.install(survey)
    reader = TallyReader(tally_cell.redis, tally_cell.name)
    shown: list[int] = []
    async with tally_cell.folding():
        for _ in range(12):
            await tally_cell.vote(survey.id)
            await tally_cell.tallied(survey.id)
            view = await reader.view(survey.id, exact=False, installed_epoch=0)
            assert view.totals is not None
            shown.append(view.totals.ballots)
    assert set(shown) <= {0, 5, 10}
    assert shown[-1] == 10


async def test_a_message_that_is_no_summary_is_passed_over(tally_cell: TallyCell) -> None:
    survey = make_survey()
    await tally_cell.install(survey)
    async with tally_cell.folding():
        await tally_cell.vote(survey.id)
        producer = DurableProducer(tally_cell.settings.cells[tally_cell.name].kafka, "test")
        topic = BATCH_RECORDED.of(tally_cell.name)
        await producer.send([Message(topic, survey.id, b"no summary"), Message(topic, survey.id, b"{}")])
        await producer.close()
        await tally_cell.vote(survey.id, "2")
        await tally_cell.tallied(survey.id)


def _offsets(cell: TallyCell) -> str:
    return f"{cell.name}:tally:{{{cell.name}}}:offsets"


async def _delete_messages(cell: TallyCell) -> None:
    """Delete every message of the topic, as retention does."""
    address = cell.settings.cells[cell.name].kafka
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{address.host}:{address.port}")
    await admin.start()
    try:
        topic = BATCH_RECORDED.of(cell.name)
        wanted = {
            TopicPartition(topic, partition): RecordsToDelete(before_offset=-1)
            for partition in range(BATCH_RECORDED.partitions)
        }
        await admin.delete_records(wanted, timeout_ms=10_000)
    finally:
        await admin.close()
