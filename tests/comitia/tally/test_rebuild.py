"""Totals replaced by hand while consumers run, from the command line."""

import io
from typing import cast

from rich.console import Console

from comitia.tally import rebuild_cells
from tests.workers.tally_cells import TallyCell, make_survey, until


async def test_wrong_totals_are_repaired_under_a_running_consumer(tally_cell: TallyCell) -> None:
    survey, other = make_survey(), make_survey()
    for each in (survey, other):
        await tally_cell.install(each)
    totals = f"{tally_cell.name}:tally:{{{tally_cell.name}}}:totals:{survey.id}"
    out = io.StringIO()
    async with tally_cell.folding():
        for _ in range(3):
            await tally_cell.vote(survey.id)
        await tally_cell.tallied(survey.id, other.id)
        await tally_cell.redis.hincrby(totals, "north\x1f1", 100)
        assert await tally_cell.counts(survey.id) != dict(tally_cell.expected[survey.id])
        console = Console(file=out, width=200)
        assert await rebuild_cells(tally_cell.settings, [tally_cell.name], [survey.id], console) == 1
        await tally_cell.tallied(survey.id)
        await tally_cell.vote(survey.id, "2")
        await tally_cell.tallied(survey.id)

        async def settled() -> bool:
            marks = cast("list[bytes]", await tally_cell.redis.hkeys(totals))  # this client decodes nothing
            return not any(mark.startswith(b"@replay") for mark in marks)

        await until(settled, "the consumer has caught up")
    assert survey.id in out.getvalue()
    assert other.id not in out.getvalue()
    assert await rebuild_cells(tally_cell.settings, [tally_cell.name], ["s_nobody"], Console(file=out)) == 0
