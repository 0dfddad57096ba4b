"""Whatever somebody else writes in the tally's places in Redis is taken away, and made again from the ledger."""

from collections.abc import Awaitable, Callable

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from domain.errors import DomainError, ErrorCode
from integrations.redis.tally_audit import RedisTallyAudit
from integrations.redis.tally_keys import TallyKeys, field_of
from integrations.redis.tally_reader import TallyReader
from integrations.redis.tally_strangers import is_strange
from tests.workers.tally_cells import TallyCell, make_survey, until

Harm = Callable[[TallyCell, TallyKeys, str], Awaitable[object]]


def of_another_type(name: Callable[[TallyKeys, str], str]) -> Harm:
    async def harm(cell: TallyCell, keys: TallyKeys, survey_id: str) -> None:
        await cell.redis.delete(name(keys, survey_id))
        await cell.redis.lpush(name(keys, survey_id), "somebody else's")

    return harm


def with_field(name: Callable[[TallyKeys, str], str], field: str) -> Harm:
    async def harm(cell: TallyCell, keys: TallyKeys, survey_id: str) -> None:
        await cell.redis.hset(name(keys, survey_id), field, "somebody else's")

    return harm


HARMS: dict[str, Harm] = {
    "totals are a list": of_another_type(lambda keys, survey_id: keys.totals(survey_id)),
    "a bitmap index is a list": of_another_type(lambda keys, survey_id: keys.chunks(survey_id, 1)),
    "offsets are a list": of_another_type(lambda keys, _: keys.offsets),
    "watermarks are a list": of_another_type(lambda keys, _: keys.watermarks),
    "the token is a list": of_another_type(lambda keys, _: keys.installs),
    "the epoch is a word": with_field(lambda keys, survey_id: keys.totals(survey_id), "@epoch"),
    "the sequence is a word": with_field(lambda keys, survey_id: keys.totals(survey_id), "@seq"),
    "a count is a word": with_field(lambda keys, survey_id: keys.totals(survey_id), field_of("north", "1")),
    "an offset is a word": with_field(lambda keys, _: keys.offsets, "0"),
    "a watermark is a word": with_field(lambda keys, _: keys.watermarks, "0"),
}


@pytest.mark.parametrize("name", HARMS)
async def test_a_tally_comes_back_and_its_neighbours_go_on(tally_cell: TallyCell, name: str) -> None:
    harmed, other = make_survey(), make_survey()
    for survey in (harmed, other):
        await tally_cell.install(survey)
    async with tally_cell.folding() as folding:
        for survey in (harmed, other):
            await tally_cell.vote(survey.id)
        await tally_cell.tallied(harmed.id, other.id)
        await until(folding.check, "folded")
        await HARMS[name](tally_cell, TallyKeys.of(tally_cell.name), harmed.id)
        for survey in (harmed, other):
            await tally_cell.vote(survey.id)

        async def both_are_right() -> bool:
            try:
                return await tally_cell.equals_ledger(harmed.id) and await tally_cell.equals_ledger(other.id)
            except DomainError:  # `tally_unavailable`, as below
                return False

        await until(both_are_right, "both tallies equal the ledger")
        await until(folding.check, "folded again")


@pytest.mark.parametrize("name", [name for name in HARMS if "epoch" in name or "count" in name or "totals" in name])
async def test_who_reads_it_meanwhile_is_told_that_it_cannot_be_read(tally_cell: TallyCell, name: str) -> None:
    survey = make_survey()
    await tally_cell.install(survey)
    async with tally_cell.folding():
        await tally_cell.vote(survey.id)
        await tally_cell.tallied(survey.id)
    await HARMS[name](tally_cell, TallyKeys.of(tally_cell.name), survey.id)
    with pytest.raises(DomainError) as refused:
        await TallyReader(tally_cell.redis, tally_cell.name).view(survey.id, exact=True, installed_epoch=1)
    assert refused.value.code is ErrorCode.TALLY_UNAVAILABLE
    assert await RedisTallyAudit(tally_cell.redis, tally_cell.name).read(survey.id) is None  # so it is made again


def test_a_server_that_is_full_or_read_only_has_nothing_strange() -> None:
    assert is_strange(ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"))
    assert is_strange(ResponseError("hash value is not an integer script: 1, on @user_script:10."))
    assert not is_strange(OutOfMemoryError("OOM command not allowed, script: user_script:10"))
    assert not is_strange(ResponseError("MISCONF Valkey cannot save, script: 1, on @user_script:10."))
    assert not is_strange(ConnectionError("user_script"))
