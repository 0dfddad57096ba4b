"""`comitia rejudge`: which recorded decisions would come out otherwise under another policy; nothing is changed."""

import asyncio
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from activities.rejudging import rejudged
from comitia.cell_access import note_command, operator
from comitia.periods import Period, read_period
from comitia.replay import open_archive, open_histories
from comitia.stack_settings import STACK_FOLDER, DataFolder, settings_of
from domain.audit import AuditEntry
from domain.contracts.rejudging import (
    DecisionProcess,
    RejudgedCounts,
    RejudgedDecision,
    RejudgedPart,
    RejudgeInput,
)
from domain.errors import DomainError
from domain.ids import derived_id
from domain.judging_entries import rejudgement_entry
from domain.rejudging import Judge, KeptDecisions, joined, judge_under, part_of
from domain.replay import Verdict
from integrations.postgres.logins import PostgresLogins
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT, IDENTITY
from integrations.settings import Settings
from integrations.temporal.identity_decisions import IdentityDecisions

_NOTHING: Final = RejudgedCounts()


class CursorFile:
    """How far each cell is, written after every stretch: whoever is interrupted goes on from there.

    What a stretch had printed is printed again where it was cut short; it is counted once.
    """

    def __init__(self, path: Path | None, asked: Mapping[str, str]) -> None:
        """Read what there is. Raises ValueError where it is of another question."""
        self._path = path
        self._asked = dict(asked)
        self._parts: dict[str, RejudgedPart] = {}
        if path is None or not path.exists():
            return
        document = json.loads(path.read_text())
        if document["asked"] != self._asked:
            raise ValueError(f"{path} is of another question: name another file")
        self._parts = {cell: RejudgedPart.model_validate(part) for cell, part in document["cells"].items()}

    def part(self, cell: str, period: Period) -> RejudgedPart:
        """Return what is judged of a cell."""
        return self._parts.get(cell) or RejudgedPart(until=period.since, counts=_NOTHING)

    def keep(self, cell: str, part: RejudgedPart) -> None:
        """Note how far a cell is, in one step."""
        self._parts[cell] = part
        if self._path is None:
            return
        cells = {name: each.model_dump(mode="json") for name, each in self._parts.items()}
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.write_text(json.dumps({"asked": self._asked, "cells": cells}))
        fresh.replace(self._path)

    @property
    def counts(self) -> RejudgedCounts:
        """What all cells come to."""
        parts = list(self._parts.values())
        return reduce(joined, parts).counts if parts else _NOTHING


def rejudge(
    *,
    process: Annotated[DecisionProcess, typer.Option("--process", help="Whose decisions.")],
    policy: Annotated[str, typer.Option("--policy", help="A version of the table, or a file with a JSON document.")],
    since: Annotated[str, typer.Option("--from", help="At or after, as 2026-05-07T00:00:00+00:00.")] = "",
    until: Annotated[str, typer.Option("--to", help="And before.")] = "",
    cell: Annotated[list[str] | None, typer.Option("--cell", help="Only these cells. Repeatable.")] = None,
    cursor: Annotated[
        Path | None, typer.Option("--cursor", help="Where it is kept how far this is; started again, it goes on.")
    ] = None,
    archived: Annotated[
        bool, typer.Option("--from-archive", help="Identity: histories as they were archived, not the server's.")
    ] = False,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Judge recorded decisions again under another policy and print those that change; exit 1 unless none does.

    Nothing is changed and nobody is asked: each is judged from what was kept of it. Logins are found by when they were
    decided, identities by when their case began. That it was asked for is an entry of each cell's audit log, in the
    name of the machine's account, before anything is read.
    """
    period = read_period(since, until)
    if archived and process is DecisionProcess.LOGIN:
        raise typer.BadParameter("logins are kept in the directory", param_hint="--from-archive")
    try:
        wanted = _Wanted(process, period, _policy(policy), archived=archived)
        judge = judge_under(process, wanted.policy)
        settings = settings_of(data, IDENTITY, *((AUDIT,) if archived else ()))
        kept = CursorFile(cursor, wanted.asked)
        asyncio.run(_rejudge(settings, kept, judge, wanted, cell or tuple(settings.cells)))
    except (DomainError, LookupError, OSError, RuntimeError, ValidationError, ValueError) as error:
        typer.echo(f"comitia rejudge: {error}", err=True)
        raise typer.Exit(1) from None
    counts = kept.counts
    typer.echo(_said(counts), err=True)
    raise typer.Exit(0 if counts.same and not counts.different and not counts.cannot else 1)


@dataclass(frozen=True, slots=True)
class _Wanted:
    process: DecisionProcess
    period: Period
    policy: str
    archived: bool

    @property
    def asked(self) -> dict[str, str]:
        """What a file of cursors is of."""
        return {
            "process": self.process.value,
            "from": self.period.since.isoformat(),
            "to": self.period.until.isoformat(),
            "policy": json.dumps(json.loads(self.policy), sort_keys=True),
            "source": "archive" if self.archived else "live",
        }

    def entry(self, cell: str) -> AuditEntry:
        """Return the entry that says so in a cell, each time another one."""
        actor = operator()
        request = RejudgeInput(
            rejudgement_id=derived_id(f"j_{cell}", f"{actor}\n{secrets.token_hex(16)}"),
            cell=cell,
            process=self.process,
            since=self.period.since,
            until=self.period.until,
            policy=self.policy,
        )
        return rejudgement_entry(request, actor)


async def _rejudge(settings: Settings, kept: CursorFile, judge: Judge, wanted: _Wanted, cells: Sequence[str]) -> None:
    await note_command(settings, cells, wanted.entry)
    for cell in cells:
        async with AsyncExitStack() as lifetime:
            decisions = await _decisions(settings, cell, wanted, lifetime)
            part = kept.part(cell, wanted.period)
            async with aclosing(rejudged(decisions, judge, part.until, wanted.period.until)) as stretches:
                async for until, found in stretches:
                    for each in found:
                        if each.verdict is not Verdict.SAME:
                            typer.echo(_line(cell, each))
                    part = joined(part, part_of(until, found))
                    kept.keep(cell, part)


async def _decisions(settings: Settings, cell: str, wanted: _Wanted, lifetime: AsyncExitStack) -> KeptDecisions:
    if cell not in settings.cells:
        raise LookupError(f"no cell {cell}; there are {', '.join(settings.cells) or 'none'}")
    if wanted.process is DecisionProcess.LOGIN:
        pool = await open_pool(settings.cells[cell].database, settings, IDENTITY, size=1)
        lifetime.push_async_callback(pool.close)
        return PostgresLogins(pool)
    if wanted.archived:
        archive = await open_archive(settings, cell, lifetime)
        return IdentityDecisions(archive, archive.started)
    histories = await open_histories(settings, cell)
    return IdentityDecisions(histories, histories.started)


def _policy(given: str) -> str:
    """Return a policy as a JSON document. Raises OSError where it is neither a version nor a file that can be read."""
    return json.dumps({"version": int(given)}) if given.isascii() and given.isdigit() else Path(given).read_text()


def _line(cell: str, each: RejudgedDecision) -> str:
    found: dict[str, Any] = each.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return json.dumps({"cell": cell, **found}, separators=(",", ":"))


def _said(counts: RejudgedCounts) -> str:
    verdicts = {"same": counts.same, "different": counts.different, "cannot": counts.cannot}
    said = ", ".join(f"{count:,} {verdict}" for verdict, count in verdicts.items() if count)
    changes = "".join(f"{os.linesep}  {each.before} > {each.after}: {each.count:,}" for each in counts.changes)
    return f"{said or 'no decision of this period'}{changes}"
