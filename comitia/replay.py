"""`comitia replay`: whether the code of now decides as the code of then did, execution by execution."""

import asyncio
import json
import re
import secrets
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from comitia.archive import archive_addresses, archive_names
from comitia.cell_access import note_command, operator
from comitia.periods import Period, read_period
from comitia.releases import Releases
from comitia.stack.source import present_source
from comitia.stack.state import PLATFORM
from comitia.stack_settings import STACK_FOLDER, DataFolder, settings_of
from domain.archive_ports import PLATFORM_ARCHIVE
from domain.audit import AuditEntry
from domain.contracts.replays import ReplayInput
from domain.errors import DomainError
from domain.ids import cell_of_workflow, derived_id
from domain.judging_entries import replay_entry
from domain.replay import Execution, ReplayCode, ReplayVerdict, Verdict
from integrations.keys.opening import open_keys
from integrations.keys.purposes import DAILY, HISTORY, in_flight
from integrations.objects.log_objects import open_log_objects
from integrations.postgres.archived_histories import PostgresArchive
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT, IDENTITY
from integrations.settings import Settings
from integrations.temporal.archived_histories import ArchivedHistories
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.histories import Histories
from integrations.temporal.replay_code import OneCode, RecordedCode, Replayer
from integrations.temporal.replay_releases import Code
from workflows.registry import WORKFLOWS

_ARCHIVED_AT_ONCE = 2  # connections

_OTHER_CODE = "other"  # a ref, a folder or an archive, whose names are nobody's business

_TYPE = re.compile(r"[A-Za-z]{1,64}")


class DoneFile:
    """The verdicts of a replay that may be interrupted, one JSON object per line; what is in it is not replayed again.

    A line is there whole or not at all: one that a kill cut short is taken away at the next start. The verdict on what
    is still open is not kept as done, since it decides more. Lines of other builds stay, and count for nothing: other
    code may decide otherwise.
    """

    def __init__(self, path: Path | None, build: str) -> None:
        """Read what this build has done; without a path nothing is, and nothing is kept."""
        self._path = path
        self._build = build
        self.counts: Counter[str] = Counter()
        self._runs: set[tuple[str, str]] = set()
        if path is not None and path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                path.write_bytes(whole)
            for line in whole.splitlines():
                document = json.loads(line)
                if document.get("build") == build:
                    self._add(document)

    def has(self, execution: Execution) -> bool:
        """Tell whether there is a verdict on this run."""
        return (execution.workflow_id, execution.run_id) in self._runs

    def keep(self, verdict: ReplayVerdict) -> str:
        """Take up a verdict and return its line."""
        document = {**verdict.document(), "build": self._build}
        line = json.dumps(document, separators=(",", ":"))
        if self._path is not None and verdict.is_closed:
            with self._path.open("a") as file:
                file.write(line + "\n")
        self._add(document)
        return line

    def _add(self, document: Mapping[str, str]) -> None:
        self.counts[document["verdict"]] += 1
        self._runs.add((document["workflowId"], document["runId"]))


def replay(
    workflow: Annotated[str, typer.Argument(help="A workflow id; or a period, by --from and --to.")] = "",
    *,
    run: Annotated[str, typer.Option("--run", help="A run of that workflow; the newest otherwise.")] = "",
    since: Annotated[str, typer.Option("--from", help="Started at or after, as 2026-05-07T00:00:00+00:00.")] = "",
    until: Annotated[str, typer.Option("--to", help="And before.")] = "",
    kind: Annotated[str, typer.Option("--type", help="Only workflows of this type.")] = "",
    cell: Annotated[
        list[str] | None, typer.Option("--cell", help="Only these cells, or `platform`. Repeatable.")
    ] = None,
    done: Annotated[
        Path | None, typer.Option("--done", help="Where verdicts are kept; what is in it is not replayed again.")
    ] = None,
    processes: Annotated[int, typer.Option("--processes", min=0, help="0: one per core.")] = 0,
    archived: Annotated[
        bool, typer.Option("--from-archive", help="As they were archived, whatever the server still has.")
    ] = False,
    code: Annotated[
        str,
        typer.Option(
            "--code", help="`this`, `recorded`, or other code: a ref of git, a folder or archive of a release."
        ),
    ] = ReplayCode.THIS,
    releases: Annotated[
        Path | None,
        typer.Option(
            "--releases", help="Where releases are, by their builds, for `--code recorded`; or COMITIA_RELEASES."
        ),
    ] = None,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Replay executions with the code of now and print a verdict on each; exit 1 unless all decide the same.

    With `--code recorded` it is for each the code that carried it out, by the build that its history names.

    Nothing that they decide is carried out: what replays has no connection, no key and no activity. That it was asked
    for is an entry of each cell's audit log, in the name of the machine's account, before anything is read.
    """
    if bool(workflow) == bool(since or until or kind or cell):
        raise typer.BadParameter("give a workflow id, or a period")
    period = None if workflow else _period(since, until, kind)
    try:
        settings = settings_of(data, IDENTITY, *((AUDIT,) if archived else ()))
        wanted = _Wanted(workflow, run, period, tuple(cell or ()), code, archived=archived)
        with tempfile.TemporaryDirectory(prefix="comitia-code-") as scratch:
            own = _build(settings)
            found = Releases(own, Path(scratch), releases or settings.releases)
            with closing(_replayer(code, found, own, processes if period else 1)) as judging:
                kept = DoneFile(done, judging.build)
                asyncio.run(_replay(settings, kept, wanted, judging))
    except (DomainError, LookupError, OSError, RuntimeError, ValidationError, ValueError) as error:
        typer.echo(f"comitia replay: {error}", err=True)
        raise typer.Exit(1) from None
    said = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(kept.counts.items()))
    typer.echo(said or "no execution of this period", err=True)
    raise typer.Exit(0 if kept.counts.keys() == {Verdict.SAME.value} else 1)


@dataclass(frozen=True, slots=True)
class _Wanted:
    workflow: str
    run: str
    period: Period | None
    cells: tuple[str, ...]
    code: str
    archived: bool

    def namespaces(self, settings: Settings) -> Sequence[str]:
        if self.cells:
            return self.cells
        if self.workflow:
            return (cell_of_workflow(self.workflow) or PLATFORM,)
        return archive_names(settings) if self.archived else (*settings.cells, PLATFORM)

    def entry(self, cell: str) -> AuditEntry:
        """Return the entry that says so in a cell, each time another one."""
        actor, code, period = operator(), self.code, self.period
        request = ReplayInput(
            replay_id=derived_id(f"w_{cell}", f"{actor}\n{secrets.token_hex(16)}"),
            cell=cell,
            namespace=cell,
            workflow_id=self.workflow,
            run_id=self.run,
            workflow_type="" if period is None else period.kind,
            since=None if period is None else period.since,
            until=None if period is None else period.until,
            archived=self.archived,
        )
        return replay_entry(request, actor, code=code if code in set(ReplayCode) else _OTHER_CODE)


def _homes(settings: Settings, namespaces: Sequence[str]) -> list[str]:
    """Return the cells whose logs say so: of the platform, which belongs to none, the first, as in the API."""
    of_platform = {PLATFORM, PLATFORM_ARCHIVE} - settings.cells.keys()
    return sorted({min(settings.cells) if name in of_platform else name for name in namespaces})


async def _replay(settings: Settings, kept: DoneFile, wanted: _Wanted, judging: Replayer) -> None:
    await note_command(settings, _homes(settings, wanted.namespaces(settings)), wanted.entry)
    async with AsyncExitStack() as lifetime:
        for namespace in wanted.namespaces(settings):
            histories, executions = await _found(settings, namespace, wanted, lifetime)
            async with aclosing(judging.over(histories, _unjudged(executions, kept))) as verdicts:
                async for verdict in verdicts:
                    typer.echo(kept.keep(verdict))


async def _found(
    settings: Settings, namespace: str, wanted: _Wanted, lifetime: AsyncExitStack
) -> tuple[Histories | ArchivedHistories, AsyncIterator[Execution]]:
    period = wanted.period
    one = _one(wanted.workflow, wanted.run)
    if wanted.archived:
        archive = await open_archive(settings, namespace, lifetime)
        return archive, one if period is None else archive.started(period.since, period.until, period.kind)
    histories = await open_histories(settings, namespace)
    return histories, one if period is None else histories.started(period.since, period.until, period.kind)


async def open_archive(settings: Settings, cell: str, lifetime: AsyncExitStack) -> ArchivedHistories:
    """Return the archived histories of a cell, or of the platform.

    Raises:
        LookupError: there is no such archive.
    """
    database, _ = archive_addresses(settings, cell)
    pool = await open_pool(database, settings, AUDIT, size=_ARCHIVED_AT_ONCE)
    lifetime.push_async_callback(pool.close)
    codec = EncryptionCodec(open_keys(settings, DAILY, HISTORY), in_flight(cell))
    return ArchivedHistories(PostgresArchive(pool), open_log_objects(settings), codec)


async def open_histories(settings: Settings, namespace: str) -> Histories:
    """Return the histories of a cell, or of the platform.

    Raises:
        LookupError: there is no such cell.
        RuntimeError: Temporal cannot be reached.
    """
    known = {name: servers.temporal for name, servers in settings.cells.items()}
    if settings.platform_temporal is not None:
        known[PLATFORM] = settings.platform_temporal
    if namespace not in known:
        raise LookupError(f"no cell {namespace}; there are {', '.join(known) or 'none'}")
    codec = EncryptionCodec(open_keys(settings, DAILY, HISTORY), in_flight(namespace))
    return Histories(await connect(known[namespace], codec), codec)


async def _one(workflow: str, run: str) -> AsyncIterator[Execution]:
    yield Execution(workflow, run, "")


async def _unjudged(executions: AsyncIterator[Execution], kept: DoneFile) -> AsyncIterator[Execution]:
    async for execution in executions:
        if not kept.has(execution):
            yield execution


def _period(since: str, until: str, kind: str) -> Period:
    if kind and _TYPE.fullmatch(kind) is None:
        raise typer.BadParameter("not a type of workflows", param_hint="--type")
    return read_period(since, until, kind)


def _replayer(name: str, releases: Releases, own_build: str, processes: int) -> Replayer:
    """Return what replays with the code of this name. Raises LookupError."""
    if name == ReplayCode.RECORDED:
        return RecordedCode(releases, WORKFLOWS, processes)
    return OneCode(Code(own_build) if name == ReplayCode.THIS else releases.named(name), WORKFLOWS, processes)


def _build(settings: Settings) -> str:
    """Return what tells the code of now from other code."""
    is_told = "build" in settings.model_fields_set
    return settings.build if is_told else present_source().build
