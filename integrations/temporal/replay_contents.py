"""Compares what workflows ask for and come to in a replay with what their history says of it: the contents.

The SDK compares kinds and names alone: code that comes to another decision at the same places would be the same to it.
Contents are compared as contracts read them, so that a field that was added later, with its default, is no difference;
of what is asked for, where it has another value neither: whoever asked then could not say it.
What a local activity was asked with is in no history.
"""

import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pkgutil import resolve_name
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from integrations.temporal.replay_listening import CONTRACT

_ANSWERS: Final = frozenset({"completed", "update"})  # what is decided, and not what is asked for
_OF_CORE: Final = "TemporalChangeVersion"  # a search attribute that no workflow asks for


@dataclass(frozen=True, slots=True)
class Difference:
    """An event whose content differs, and what the code wants in its place: names of fields, and nothing they say."""

    event: HistoryEvent
    wanted: str


@dataclass(frozen=True, slots=True)
class _Content:
    """What something says; `said` is what it is, in words, for where it differs from what else is in its place."""

    place: tuple[str, ...]
    said: str = ""
    payloads: Sequence[Payload] = ()
    named: tuple[tuple[str, bytes], ...] = ()  # search attributes
    exactly: str = ""  # the code of a failure, the length of a timer


def first_difference(events: Sequence[HistoryEvent], commands: Sequence[WorkflowCommand]) -> Difference | None:
    """Return the first event whose content is not that of the command in its place; None where all are the same.

    What has no counterpart is left to the SDK, or lies behind the end of the history.
    """
    recorded = defaultdict[tuple[str, ...], deque[tuple[HistoryEvent, _Content]]](deque)
    for event in events:
        if content := _recorded(event):
            recorded[content.place].append((event, content))
    found: list[Difference] = []
    for command in commands:
        wanted = _wanted(command)
        if wanted is None or not recorded.get(wanted.place):
            continue
        event, then = recorded[wanted.place].popleft()
        if said := _difference(then, wanted):
            found.append(Difference(event, said))
    return min(found, key=lambda difference: difference.event.event_id, default=None)


def _recorded(event: HistoryEvent) -> _Content | None:
    which = event.WhichOneof("attributes") or ""
    read = _OF_EVENTS.get(which.removesuffix("_event_attributes"))
    content = None if read is None else read(getattr(event, which))
    return None if content is None or content == _Content(("attributes",)) else content


def _wanted(command: WorkflowCommand) -> _Content | None:
    which = command.WhichOneof("variant") or ""
    read = _OF_COMMANDS.get(which)
    return None if read is None else read(getattr(command, which))


def _answer(response: Any) -> _Content | None:
    place = ("update", response.protocol_instance_id)
    match response.WhichOneof("response"):
        case "completed":
            return _Content(place, "answer to an update", [response.completed])
        case "rejected":
            code = _code(response.rejected)
            return _Content(place, f"answer to an update {code}", exactly=code)
    return None


def _failure(failed: Any) -> _Content:
    code = _code(failed.failure)
    return _Content(("failed",), f"failure {code}", exactly=code)


def _difference(then: _Content, now: _Content) -> str:
    """Return in words what the code wants instead, or nothing where there is no difference."""
    if then.exactly != now.exactly:
        return now.said
    otherwise = f"{now.said} with other content"
    if len(then.payloads) != len(now.payloads) or [name for name, _ in then.named] != [name for name, _ in now.named]:
        return otherwise
    named = [name for (name, data), (_, other) in zip(then.named, now.named, strict=True) if data != other]
    is_answer = now.place[0] in _ANSWERS
    pairs = [fields_that_differ(*pair, is_answer) for pair in zip(then.payloads, now.payloads, strict=True)]
    if not named and all(fields is None for fields in pairs):
        return ""
    names = sorted({*named, *chain.from_iterable(filter(None, pairs))})
    return f"{otherwise}: {', '.join(names)}" if names else otherwise


def fields_that_differ(recorded: Payload, wanted: Payload, is_answer: bool) -> Sequence[str] | None:  # noqa: FBT001
    """Return which fields of a contract differ, none where it has none; None where there is no difference."""
    if recorded.data == wanted.data and recorded.metadata["encoding"] == wanted.metadata["encoding"]:
        return None
    try:
        then, now = json.loads(recorded.data), json.loads(wanted.data)
    except ValueError:  # nothing on one of the sides
        return ()
    if not (isinstance(then, dict) and isinstance(now, dict) and CONTRACT in wanted.metadata):
        return None if then == now else ()
    return _otherwise(resolve_name(wanted.metadata[CONTRACT].decode()), recorded.data, wanted.data, is_answer) or None


def _otherwise(contract: type[BaseModel], recorded: bytes, wanted: bytes, is_answer: bool) -> Sequence[str]:  # noqa: FBT001
    """Return the fields in which two of a contract differ, as it reads them, and those that it has read over."""
    then, now = json.loads(recorded), json.loads(wanted)
    found = {name for name, value in then.items() if name not in now or _leaves_out(value, now[name])}
    try:
        first, second = contract.model_validate_json(recorded), contract.model_validate_json(wanted)
        found |= {name for name in contract.model_fields if getattr(first, name) != getattr(second, name)}
    except ValidationError:
        found |= {name for name in contract.model_fields if then.get(name) != now.get(name)}
    return [name for name in found if is_answer or name in then]


def _leaves_out(then: object, now: object) -> bool:
    """Tell whether a field that is in the one is anywhere in the other no more: a contract would read over it."""
    if isinstance(then, dict) and isinstance(now, dict):
        return any(name not in now or _leaves_out(value, now[name]) for name, value in then.items())
    if isinstance(then, list) and isinstance(now, list):
        return any(_leaves_out(*pair) for pair in zip(then, now, strict=False))
    return False


def _named(attributes: Any) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, attributes[name].data) for name in sorted(attributes) if name != _OF_CORE)


def _code(failure: Failure) -> str:
    """Return what a failure is: the code of its error, behind what that reached; never its text."""
    kinds: list[str] = []
    while which := failure.WhichOneof("failure_info"):
        if which == "application_failure_info":
            kinds.append(failure.application_failure_info.type)
            break
        kinds.append(which.removesuffix("_failure_info"))
        failure = failure.cause
    return " ".join(kinds)


def _length(timer: Any) -> str:
    return str(timer.start_to_fire_timeout.ToJsonString())


_OF_EVENTS: Final[Mapping[str, Callable[[Any], _Content]]] = {
    "activity_task_scheduled": lambda then: _Content(("activity", then.activity_id), payloads=then.input.payloads),
    "start_child_workflow_execution_initiated": lambda then: _Content(
        ("child", then.workflow_id), payloads=then.input.payloads
    ),
    "signal_external_workflow_execution_initiated": lambda then: _Content(
        ("signal", then.workflow_execution.workflow_id, then.signal_name), payloads=then.input.payloads
    ),
    "timer_started": lambda then: _Content(("timer", then.timer_id), exactly=_length(then)),
    "upsert_workflow_search_attributes": lambda then: _Content(
        ("attributes",), named=_named(then.search_attributes.indexed_fields)
    ),
    "workflow_execution_update_completed": lambda then: _Content(
        ("update", then.meta.update_id), payloads=then.outcome.success.payloads, exactly=_code(then.outcome.failure)
    ),
    "workflow_execution_completed": lambda then: _Content(("completed",), payloads=then.result.payloads),
    "workflow_execution_failed": lambda then: _Content(("failed",), exactly=_code(then.failure)),
    "workflow_execution_continued_as_new": lambda then: _Content(("continued",), payloads=then.input.payloads),
}
_OF_COMMANDS: Final[Mapping[str, Callable[[Any], _Content | None]]] = {
    "schedule_activity": lambda now: _Content(
        ("activity", now.activity_id), f"activity {now.activity_type}", now.arguments
    ),
    "start_child_workflow_execution": lambda now: _Content(
        ("child", now.workflow_id), f"child workflow {now.workflow_type}", now.input
    ),
    "signal_external_workflow_execution": lambda now: _Content(
        ("signal", now.child_workflow_id or now.workflow_execution.workflow_id, now.signal_name),
        f"signal {now.signal_name}",
        now.args,
    ),
    "start_timer": lambda now: _Content(("timer", str(now.seq)), "Timer of another length", exactly=_length(now)),
    "upsert_workflow_search_attributes": lambda now: _Content(
        ("attributes",), "search attributes", named=_named(now.search_attributes.indexed_fields)
    ),
    "update_response": _answer,
    "complete_workflow_execution": lambda now: _Content(
        ("completed",), "result", [now.result] if now.HasField("result") else []
    ),
    "fail_workflow_execution": _failure,
    "continue_as_new_workflow_execution": lambda now: _Content(("continued",), "to continue as new", now.arguments),
}
