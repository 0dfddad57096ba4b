"""`comitia replay`: whether the code of now decides as the code of then did, execution by execution."""

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from comitia.stack.state import PLATFORM, read_state
from domain.errors import CATALOGUE, DomainError
from domain.ids import cell_of_workflow
from domain.replay import ReplayVerdict, Verdict
from integrations.keys.file_kms import open_keys
from integrations.keys.purposes import DAILY, HISTORY, in_flight
from integrations.settings import Settings
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.histories import Execution, Histories
from integrations.temporal.replay_pool import ReplayPool
from workflows.registry import WORKFLOWS

DataFolder = Annotated[Path, typer.Option("--data", envvar="COMITIA_DATA", help="The folder of the running stack.")]

_TYPE = re.compile(r"[A-Za-z]{1,64}")


class DoneFile:
    """The verdicts of a replay that may be interrupted, one JSON object per line; what is in it is not replayed again.

    A line is there whole or not at all: one that a kill cut short is taken away at the next start. What a key service
    kept from us is not kept as done, since it can be said another time.
    """

    def __init__(self, path: Path | None) -> None:
        """Read what is done; without a path nothing is, and nothing is kept."""
        self._path = path
        self.counts: Counter[str] = Counter()
        self._runs: set[tuple[str, str]] = set()
        if path is not None and path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                path.write_bytes(whole)
            for line in whole.splitlines():
                self._add(json.loads(line))

    def has(self, execution: Execution) -> bool:
        """Tell whether there is a verdict on this run."""
        return (execution.workflow_id, execution.run_id) in self._runs

    def keep(self, verdict: ReplayVerdict) -> str:
        """Take up a verdict and return its line."""
        document = verdict.document()
        line = json.dumps(document, separators=(",", ":"))
        if self._path is not None and not _is_passing(verdict):
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
    data: DataFolder = Path(".comitia"),
) -> None:
    """Replay executions with the code of now and print a verdict on each; exit 1 unless all decide the same.

    Nothing that they decide is carried out: what replays has no connection, no key and no activity.
    """
    if bool(workflow) == bool(since or until or kind or cell):
        raise typer.BadParameter("give a workflow id, or a period")
    period = None if workflow else _query(since, until, kind)
    try:
        settings = _settings(data)
        kept = DoneFile(done)
        asyncio.run(_replay(settings, kept, workflow, run, period, cells=cell or (), processes=processes))
    except (DomainError, LookupError, OSError, RuntimeError, ValidationError, ValueError) as error:
        typer.echo(f"comitia replay: {error}", err=True)
        raise typer.Exit(1) from None
    said = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(kept.counts.items()))
    typer.echo(said or "no execution of this period", err=True)
    raise typer.Exit(0 if kept.counts.keys() == {Verdict.SAME.value} else 1)


async def _replay(
    settings: Settings,
    kept: DoneFile,
    workflow: str,
    run: str,
    period: str | None,
    *,
    cells: Sequence[str],
    processes: int,
) -> None:
    with ReplayPool(WORKFLOWS, processes=processes if period else 1) as pool:
        for namespace in cells or _namespaces(settings, workflow):
            histories = await open_histories(settings, namespace)
            executions = _one(workflow, run) if period is None else histories.find(period)
            async with aclosing(pool.over(histories, _unjudged(executions, kept))) as verdicts:
                async for verdict in verdicts:
                    typer.echo(kept.keep(verdict))


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


def _namespaces(settings: Settings, workflow: str) -> tuple[str, ...]:
    if workflow:
        return (cell_of_workflow(workflow) or PLATFORM,)
    return (*settings.cells, PLATFORM)


async def _one(workflow: str, run: str) -> AsyncIterator[Execution]:
    yield Execution(workflow, run, "")


async def _unjudged(executions: AsyncIterator[Execution], kept: DoneFile) -> AsyncIterator[Execution]:
    async for execution in executions:
        if not kept.has(execution):
            yield execution


def _query(since: str, until: str, kind: str) -> str:
    """Return the period as visibility is asked for it."""
    if not since or not until:
        raise typer.BadParameter("a period has --from and --to")
    if kind and _TYPE.fullmatch(kind) is None:
        raise typer.BadParameter("not a type of workflows", param_hint="--type")
    first, last = _instant(since, "--from"), _instant(until, "--to")
    of_type = f" AND WorkflowType = '{kind}'" if kind else ""
    return f"StartTime >= '{first}' AND StartTime < '{last}'{of_type}"


def _instant(text: str, name: str) -> str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter("not an instant", param_hint=name) from error
    if found.tzinfo is None:
        raise typer.BadParameter("has no time zone", param_hint=name)
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _is_passing(verdict: ReplayVerdict) -> bool:
    return verdict.why in {code.value for code, spec in CATALOGUE.items() if spec.retryable}


def _settings(data: Path) -> Settings:
    """Return the settings of the environment, or else of the running stack. Raises LookupError without either."""
    if any(name.startswith("COMITIA_CELLS__") for name in os.environ):
        return Settings()
    state = read_state(data)
    if state is None or not state.supervisor_pid:
        raise LookupError(f"no addresses in the environment, and no stack runs in {data}")
    return state.settings_for()
