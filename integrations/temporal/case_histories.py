"""Every run of every process of one case, as it is kept: out of the archive, or else from the server."""

from typing import Final, Protocol

from temporalio.api.history.v1 import History
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import PayloadCodec

from domain.archive_ports import HistoryPlace
from domain.cases import Step
from domain.errors import DomainError, ErrorCode
from domain.evidence_bundles import RecordedRun
from domain.history_packs import GONE, READABLE
from domain.signatures import Signatures
from integrations.temporal.closed_histories import TemporalClosedHistories, is_end
from integrations.temporal.events import build_of
from integrations.temporal.payloads import open_what_is_left
from integrations.temporal.runs import ArchivedRuns, Run, Runs
from integrations.temporal.steps import StepReader

_WORKFLOWS_MAX: Final = 50  # of one case


class SealedPlaces(Protocol):
    """The archive's files."""

    async def sealed(self, place: HistoryPlace) -> bytes:
        """Return a history as it was archived. Raises DomainError `objects_unavailable`, `archive_contradicted`."""
        ...


class CaseHistories:
    """Reads and asks no process anything; of one that is not over yet there is what has happened by now."""

    def __init__(
        self, client: Client, codec: PayloadCodec, archived: ArchivedRuns, archive: SealedPlaces, signatures: Signatures
    ) -> None:
        """`codec` opens what the timeline is read from; what is handed out stays as it is kept."""
        self._codec = codec
        self._runs = Runs(client, archived)
        self._archive = archive
        self._signatures = signatures
        self._closed = TemporalClosedHistories(client)

    async def of(self, workflow_id: str) -> list[RecordedRun]:
        """Return the runs of a workflow, oldest first, each followed by those of the processes that it started.

        Raises:
            DomainError: `case_stage` for more than a case has; `workflows_unavailable`, `audit_log_unavailable`,
                `objects_unavailable`, `archive_contradicted`, `key_unavailable`.
        """
        found, waiting, known = list[RecordedRun](), [workflow_id], {workflow_id}
        while waiting:
            for run in await self._runs.of(waiting.pop(0)):
                recorded, children = await self._read(run)
                found.append(recorded)
                begun = [child for child in children if child not in known]
                known.update(begun)
                waiting += begun
            if len(known) > _WORKFLOWS_MAX:
                raise DomainError(ErrorCode.CASE_STAGE, "more processes than a case has")
        return found

    async def _read(self, run: Run) -> tuple[RecordedRun, list[str]]:
        events, left_out = await self._events(run)
        execution = run.execution
        about = (execution.workflow_id, execution.run_id, execution.workflow_type)
        if left_out:
            return RecordedRun(*about, left_out=left_out), []
        history = History.FromString(events)
        builds = tuple(dict.fromkeys(filter(None, map(build_of, history.events))))
        is_opened = await open_what_is_left(history.events, self._codec)
        reader = StepReader(WorkflowHistory(execution.workflow_id, history.events), self._signatures)
        steps: tuple[Step, ...] = tuple(reader.steps())
        recorded = RecordedRun(
            *about,
            builds=builds,
            events=events,
            is_opened=is_opened,
            last_event=_last_of(history) if run.is_open else 0,
            steps=steps,
        )
        return recorded, [child for child, _ in reader.children]

    async def _events(self, run: Run) -> tuple[bytes, str]:
        """Return a history as it is kept, or why there is none."""
        if run.place is not None:
            return (b"", run.place.left_out) if run.place.left_out else (await self._archive.sealed(run.place), "")
        found = await self._closed.read(run.execution, may_be_open=run.is_open)
        if found is None:
            return b"", GONE
        return (b"", READABLE) if found.readable else (found.events, "")


def _last_of(history: History) -> int:
    """Return the id of the last event, or 0 where it has ended since it was listed: then it is over."""
    last = history.events[-1]
    return 0 if is_end(last) else last.event_id
