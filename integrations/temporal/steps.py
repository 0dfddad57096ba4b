"""Steps of one process, read from its history."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from domain.cases import ASKED_BY, SUPPORT_ASKS, WORKFLOW_TASK, Step, StepKind
from domain.contracts.base import Contract
from domain.signatures import Signature, Signatures
from domain.tokens import Role
from integrations.temporal.events import at, attributes_of, kind_of, local_activity_of
from integrations.temporal.standings import code_of
from integrations.temporal.workflow_tasks import task_code_of

_JSON: Final = b"json/plain"
_NONE: Final = Signature()
_STAGE: Final = "ProcessStage"
_NOTE: Final = "note_stage"  # the activity that is given the stage that a registration has come to, and returns it
_ENDS: Final = {
    "workflow_execution_completed": "completed",
    "workflow_execution_failed": "failed",
    "workflow_execution_timed_out": "timed_out",
    "workflow_execution_canceled": "cancelled",
    "workflow_execution_terminated": "terminated",
    "workflow_execution_continued_as_new": "continued",
}


class StepReader:
    """Reads one history; a payload that is no contract by its signature is left out."""

    def __init__(self, history: WorkflowHistory, signatures: Signatures) -> None:
        self._events = history.events
        self._signatures = signatures
        self._process = ""
        self._steps: dict[int, Step] = {}  # by the event that began each
        self._asked: dict[str, int] = {}  # that event, by the id of the update
        self._shown = 0  # the event of a stage that was shown and not noted yet
        self._failing = 0  # the event of a task that failed and has not succeeded since
        self.children: list[tuple[str, str]] = []  # workflow id and run of each process that was started

    def steps(self) -> Sequence[Step]:
        """Return the steps in the order in which they began."""
        readers = self._readers()
        for event in self._events:
            if (end := _ENDS.get(kind_of(event))) is not None:
                self._end(event, end)
            elif (read := readers.get(kind_of(event))) is not None:
                read(event, attributes_of(event))
        return list(self._steps.values())

    def _readers(self) -> dict[str, Callable[[HistoryEvent, Any], None]]:
        return {
            "workflow_execution_started": self._begin,
            "activity_task_scheduled": self._schedule,
            "activity_task_started": self._start,
            "activity_task_completed": self._complete,
            "activity_task_failed": lambda event, found: self._close(event, found, "failed"),
            "activity_task_timed_out": lambda event, found: self._close(event, found, "timed_out"),
            "activity_task_canceled": lambda event, found: self._close(event, found, "cancelled"),
            "upsert_workflow_search_attributes": self._show_stage,
            "workflow_task_failed": self._fail_task,
            "workflow_task_timed_out": self._fail_task,
            "workflow_task_scheduled": self._try_task,
            "workflow_task_completed": self._complete_task,
            "marker_recorded": self._local,
            "timer_started": self._wait,
            "timer_fired": lambda event, found: self._waited(event, found, "over"),
            "timer_canceled": lambda event, found: self._waited(event, found, "not_needed"),
            "workflow_execution_update_accepted": self._ask,
            "workflow_execution_update_completed": self._answer,
            "workflow_execution_signaled": self._tell,
            "start_child_workflow_execution_initiated": self._begin_other,
            "child_workflow_execution_started": self._other_began,
            "child_workflow_execution_completed": lambda event, _: self._other_ended(event, "completed"),
            "child_workflow_execution_failed": lambda event, _: self._other_ended(event, "failed"),
            "child_workflow_execution_canceled": lambda event, _: self._other_ended(event, "cancelled"),
            "child_workflow_execution_terminated": lambda event, _: self._other_ended(event, "terminated"),
            "child_workflow_execution_timed_out": lambda event, _: self._other_ended(event, "timed_out"),
        }

    def _begin(self, event: HistoryEvent, found: Any) -> None:
        self._process = found.workflow_type.name
        signature = self._signatures.workflows.get(self._process, _NONE)
        self._add(event, StepKind.BEGAN, self._process, "began", given=_read(found.input, signature.given))

    def _end(self, event: HistoryEvent, state: str) -> None:
        found = attributes_of(event)
        signature = self._signatures.workflows.get(self._process, _NONE)
        came = _read(found.result, signature.came) if state == "completed" else None
        code = code_of(found.failure) if state == "failed" else ""
        self._add(event, StepKind.ENDED, self._process, state, came=came, code=code)

    def _schedule(self, event: HistoryEvent, found: Any) -> None:
        name = found.activity_type.name
        given = _read(found.input, self._signatures.activities.get(name, _NONE).given)
        if name == _NOTE:
            self._add_stage(event, given, "scheduled")
        else:
            self._add(event, StepKind.ACTIVITY, name, "scheduled", given=given)

    def _start(self, _event: HistoryEvent, found: Any) -> None:
        code = code_of(found.last_failure) if found.HasField("last_failure") else ""
        self._change(found.scheduled_event_id, attempts=found.attempt, code=code, state="started")

    def _complete(self, event: HistoryEvent, found: Any) -> None:
        step = self._steps.get(found.scheduled_event_id)
        name = step.name if step is not None else ""
        came = _read(found.result, self._signatures.activities.get(name, _NONE).came)
        self._change(found.scheduled_event_id, state="completed", ended_at=at(event), came=came)

    def _close(self, event: HistoryEvent, found: Any, state: str) -> None:
        code = code_of(found.failure) if state != "cancelled" else ""
        self._change(found.scheduled_event_id, state=state, ended_at=at(event), code=code)

    def _show_stage(self, event: HistoryEvent, found: Any) -> None:
        """Take the stage that a process shows to whoever searches, which is not encrypted."""
        shown = found.search_attributes.indexed_fields
        if _STAGE in shown:
            stage = json.loads(shown[_STAGE].data)
            self._shown = event.event_id
            self._add(event, StepKind.STAGE, stage[0] if isinstance(stage, list) else stage, "completed")

    def _fail_task(self, event: HistoryEvent, _found: Any) -> None:
        code = task_code_of(event)
        if not code:
            return
        if not self._failing:
            self._failing = event.event_id
            self._add(event, StepKind.TASK, WORKFLOW_TASK, "failed", attempts=1)
        self._change(self._failing, code=code)

    def _try_task(self, _event: HistoryEvent, found: Any) -> None:
        self._change(self._failing, attempts=found.attempt)

    def _complete_task(self, event: HistoryEvent, _found: Any) -> None:
        self._change(self._failing, state="completed", ended_at=at(event))
        self._failing = 0

    def _local(self, event: HistoryEvent, _found: Any) -> None:
        local = local_activity_of(event)
        if local is None:
            return
        kind = self._signatures.activities.get(local.name, _NONE).came
        came = None if local.result is None else _contract(local.result, kind)
        fields: dict[str, Any] = {
            "state": "completed" if local.failure is None else "failed",
            "began_at": local.began_at,
            "attempts": local.attempts,
            "ended_at": local.ended_at,
            "code": "" if local.failure is None else code_of(local.failure),
        }
        if local.name == _NOTE:
            self._add_stage(event, came, **fields)
        else:
            self._add(event, StepKind.ACTIVITY, local.name, came=came, **fields)

    def _wait(self, event: HistoryEvent, found: Any) -> None:
        until = at(event) + found.start_to_fire_timeout.ToTimedelta()
        self._add(event, StepKind.WAIT, "wait", "waiting", until=until)

    def _waited(self, event: HistoryEvent, found: Any, state: str) -> None:
        self._change(found.started_event_id, state=state, ended_at=at(event))

    def _ask(self, event: HistoryEvent, found: Any) -> None:
        asked = found.accepted_request.input
        given = _read(asked.args, self._message(asked.name).given)
        update_id = found.accepted_request.meta.update_id
        self._asked[update_id] = event.event_id
        self._add(event, StepKind.ASKED, asked.name, "accepted", given=given, by=_by(asked.name, given, update_id))

    def _answer(self, event: HistoryEvent, found: Any) -> None:
        accepted = self._asked.get(found.meta.update_id, 0)
        if found.outcome.HasField("failure"):
            self._change(accepted, state="refused", ended_at=at(event), code=code_of(found.outcome.failure))
        elif accepted in self._steps:
            came = _read(found.outcome.success, self._message(self._steps[accepted].name).came)
            self._change(accepted, state="completed", ended_at=at(event), came=came)

    def _tell(self, event: HistoryEvent, found: Any) -> None:
        given = _read(found.input, self._message(found.signal_name).given)
        by = _by(found.signal_name, given)
        self._add(event, StepKind.TOLD, found.signal_name, "received", given=given, by=by)

    def _begin_other(self, event: HistoryEvent, found: Any) -> None:
        self._add(event, StepKind.PROCESS, found.workflow_type.name, "scheduled")

    def _other_began(self, _event: HistoryEvent, found: Any) -> None:
        self.children.append((found.workflow_execution.workflow_id, found.workflow_execution.run_id))
        self._change(found.initiated_event_id, state="started")

    def _other_ended(self, event: HistoryEvent, state: str) -> None:
        found = attributes_of(event)
        code = code_of(found.failure) if state == "failed" else ""
        self._change(found.initiated_event_id, state=state, ended_at=at(event), code=code)

    def _message(self, name: str) -> Signature:
        return self._signatures.messages.get((self._process, name), _NONE)

    def _add(
        self,
        event: HistoryEvent,
        kind: StepKind,
        name: str,
        state: str,
        *,
        began_at: datetime | None = None,
        **more: Any,
    ) -> None:
        self._steps[event.event_id] = Step(
            at=began_at or at(event), kind=kind, process=self._process, name=name, state=state, **more
        )

    def _add_stage(self, event: HistoryEvent, note: Contract | None, state: str, **more: Any) -> None:
        """Add a stage as it is noted, in place of what was shown of it before, which says less.

        What is in a note cannot be read once its key is destroyed: then it is of the stage that was shown.
        """
        shown = self._steps.pop(self._shown, None)
        self._shown = 0
        stage = str(getattr(note, "stage", _NOTE if shown is None else shown.name))
        self._add(event, StepKind.STAGE, stage, state, given=note, until=getattr(note, "expires_at", None), **more)

    def _change(self, event_id: int, **fields: Any) -> None:
        if event_id in self._steps:
            self._steps[event_id] = replace(self._steps[event_id], **fields)


def _by(name: str, given: Contract | None, update_id: str = "") -> str:
    """Return whom a message names, or else who stands behind its id, or else who sends such messages."""
    supposed = Role.SUPPORT.value if update_id.startswith(SUPPORT_ASKS) else ASKED_BY.get(name, "")
    return str(getattr(given, "actor", "") or supposed)


def _read(payloads: Payloads, kind: type[Contract] | None) -> Contract | None:
    return _contract(payloads.payloads[0], kind) if payloads.payloads else None


def _contract(payload: Payload, kind: type[Contract] | None) -> Contract | None:
    if kind is None or payload.metadata.get("encoding") != _JSON:
        return None
    try:
        return kind.model_validate_json(payload.data)
    except ValidationError:  # of an earlier release; its text quotes what is in it
        return None
