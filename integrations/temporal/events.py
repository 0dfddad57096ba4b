"""Events of histories by name: what each is about, as far as it is not encrypted."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

_LOCAL_ACTIVITY: Final = "core_local_activity"  # the SDK's marker, its own part never encrypted
_NAMED_BY: Final = ("activity_type", "workflow_type")
_IDENTIFIED_BY: Final = ("timer_id", "signal_name", "marker_name")


@dataclass(frozen=True, slots=True)
class LocalActivity:
    """A local activity as its marker tells it; `attempts` are those of this marker."""

    name: str
    attempts: int
    began_at: datetime
    ended_at: datetime
    result: Payload | None
    failure: Failure | None


def attributes_of(event: HistoryEvent) -> Any:
    """Return what an event says besides its kind."""
    which = event.WhichOneof("attributes")
    return None if which is None else getattr(event, which)


def kind_of(event: HistoryEvent) -> str:
    """Return the kind of an event in lower case: `activity_task_scheduled`."""
    return EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").lower()


def said_of(event: HistoryEvent) -> str:
    """Return an event in words: its kind, and the name of what it is about where it has one."""
    local = local_activity_of(event)
    if local is not None:
        return f"{kind_of(event)} {local.name}"
    return f"{kind_of(event)} {_name_of(attributes_of(event))}".strip()


def _name_of(attributes: Any) -> str:
    fields = set() if attributes is None else set(attributes.DESCRIPTOR.fields_by_name)
    for field in _NAMED_BY:
        if field in fields:
            return str(getattr(attributes, field).name)
    for field in _IDENTIFIED_BY:
        if field in fields:
            return str(getattr(attributes, field))
    return ""


def local_activity_of(event: HistoryEvent) -> LocalActivity | None:
    """Return the local activity that an event records, or None where it records none."""
    if not event.HasField("marker_recorded_event_attributes"):
        return None
    marker = event.marker_recorded_event_attributes
    if marker.marker_name != _LOCAL_ACTIVITY or "data" not in marker.details:
        return None
    data = json.loads(marker.details["data"].payloads[0].data)
    results = marker.details["result"].payloads if "result" in marker.details else ()
    return LocalActivity(
        name=data["activity_type"],
        attempts=data["attempt"],
        began_at=_instant(data.get("original_schedule_time"), event),
        ended_at=_instant(data.get("complete_time"), event),
        result=results[0] if results else None,
        failure=marker.failure if marker.HasField("failure") else None,
    )


def at(event: HistoryEvent) -> datetime:
    """Return when an event was recorded."""
    return event.event_time.ToDatetime(tzinfo=UTC)


def _instant(parts: dict[str, int] | None, event: HistoryEvent) -> datetime:
    if not parts:
        return at(event)
    return datetime.fromtimestamp(parts["seconds"] + parts["nanos"] / 1e9, tz=UTC)


def build_of(event: HistoryEvent) -> str:
    """Return the build that carried out a task of a workflow, or nothing of another event."""
    if not event.HasField("workflow_task_completed_event_attributes"):
        return ""
    found = event.workflow_task_completed_event_attributes
    return found.deployment_version.build_id or found.worker_version.build_id
