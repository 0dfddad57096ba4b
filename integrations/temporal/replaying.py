"""Replays histories with the workflows of this process; nothing of what they ask for is carried out.

A replayer has no connection and no activity: what the code asks for is compared with what the history says came of it,
and what lies behind the end of the history goes nowhere. The SDK's sandbox is left out: it shows how workflows are
written, which workers and tests see to, and takes half of the time.
"""

import re
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError, _Definition

from domain.replay import NOTHING_DECIDED, REACHED_OUT, TYPE_UNKNOWN, ReplayVerdict, Verdict
from integrations.temporal.client import data_converter
from integrations.temporal.events import attributes_of, kind_of, said_of
from integrations.temporal.replay_contents import Difference, first_difference
from integrations.temporal.replay_guard import Guard, ReachedOutError
from integrations.temporal.replay_listening import Listening, naming

_NAMED_EVENT: Final = re.compile(r"HistoryEvent\(id: (\d+)")
_PREFIX: Final = re.compile(r"^.*?Nondeterminism error: ", re.DOTALL)
_MACHINE: Final = re.compile(r"^(?P<machine>.+?) does not handle")
_RECORDED_NAME: Final = re.compile(r"^\w[\w ]*? of [\w ]+? '(?P<name>[^']*)' does not match")
_WANTED_NAME: Final = re.compile(r"of (?P<kind>[a-z ]+) command '(?P<name>[^']*)'")
_NOTHING: Final = re.compile(r"^No command scheduled")
_KINDS: Final = {"scheduled event": ("scheduled", "initiated"), "marker": ("marker_recorded",)}
_FAILS: Final = "to fail with an error outside of the catalogue"
_LAST: Final = frozenset(
    f"workflow_execution_{end}"
    for end in ("completed", "failed", "timed_out", "canceled", "terminated", "continued_as_new")
)


@dataclass(frozen=True, slots=True)
class _Replayed:
    """What kept a history from being replayed, if anything did, and the first content that differs up to there."""

    failure: Exception | None = None
    content: Difference | None = None

    @property
    def is_same(self) -> bool:
        return self.failure is None and self.content is None


class Replays:
    """The verdicts of one set of workflows; a history is judged for itself, in any order, as often as wanted."""

    def __init__(self, workflows: Sequence[type], guard: Guard | None = None) -> None:
        """Take every workflow that there is, and the guard of this process where it has one."""
        self._guard = guard or Guard()
        self._workflows = {str(_Definition.must_from_class(kind).name): kind for kind in workflows}

    async def judge(self, histories: Sequence[WorkflowHistory]) -> list[ReplayVerdict]:
        """Return the verdict on each of these histories, whose payloads are open."""
        reasons = [self._cannot(history) for history in histories]
        replayable = [history for history, why in zip(histories, reasons, strict=True) if not why]
        replayed = iter(await self._replay(replayable))
        verdicts = []
        for history, why in zip(histories, reasons, strict=True):
            found = _Replayed() if why else next(replayed)
            if isinstance(found.failure, ReachedOutError):
                verdicts.append(_verdict(history, Verdict.CANNOT, why=REACHED_OUT, wanted=str(found.failure)))
            elif found.is_same:
                verdicts.append(_verdict(history, Verdict.CANNOT if why else Verdict.SAME, why=why))
            else:
                first = await self._first(history, found)
                verdicts.append(_different(history, first))
        return verdicts

    def _cannot(self, history: WorkflowHistory) -> str:
        if _type_of(history) not in self._workflows:
            return TYPE_UNKNOWN
        if not any(event.HasField("workflow_task_completed_event_attributes") for event in history.events):
            return NOTHING_DECIDED
        return ""

    async def _replay(self, histories: Sequence[WorkflowHistory]) -> list[_Replayed]:
        """Return what came of each history."""
        if not histories:
            return []
        listening, found = Listening(), list[_Replayed]()
        with ThreadPoolExecutor(1, "replay") as thread:  # one history after the other
            replayer = Replayer(
                workflows=list(self._workflows.values()),
                workflow_task_executor=thread,
                data_converter=naming(data_converter(None)),
                workflow_runner=listening,
            )
            async with replayer.workflow_replay_iterator(_each(histories)) as results:
                async for result in results:
                    difference = first_difference(result.history.events, listening.take())
                    found.append(_Replayed(self._tried() or result.replay_failure, difference))
        return found

    def _tried(self) -> ReachedOutError | None:
        """Return what the execution that was replayed last has tried to reach; there is one at a time."""
        call = self._guard.take()
        return ReachedOutError(call) if call else None

    async def _first(self, history: WorkflowHistory, found: _Replayed) -> Difference:
        """Return the first event that differs, be it what it is or what it says."""
        if found.failure is None:
            assert found.content is not None
            return found.content
        failure = found.failure
        said = _PREFIX.sub("", str(failure)) if isinstance(failure, NondeterminismError) else ""
        event = _named(history, said) or _first(await self._stretch(history), said)
        if found.content is not None and found.content.event.event_id < event.event_id:
            return found.content
        return Difference(event, _wanted(said) if said else _FAILS)

    async def _stretch(self, history: WorkflowHistory) -> Sequence[HistoryEvent]:
        """Return what the first task that fails in a replay caused then, up to the next task.

        A beginning of a history that ends where a task starts is a history as well: every task before is replayed, and
        what it leads to compared. So halving finds the shortest beginning that fails.
        """
        starts = [
            place
            for place, event in enumerate(history.events, start=1)
            if event.HasField("workflow_task_started_event_attributes")
        ]
        ends = [*starts[1:], len(history.events)]
        low, high = 0, len(ends) - 1
        while low < high:
            middle = (low + high) // 2
            beginning = WorkflowHistory(history.workflow_id, history.events[: ends[middle]])
            (found,) = await self._replay([beginning])
            low, high = (low, middle) if found.failure is not None else (middle + 1, high)
        return history.events[starts[low] : ends[low]]


def _named(history: WorkflowHistory, said: str) -> HistoryEvent | None:
    found = _NAMED_EVENT.search(said)
    number = int(found[1]) if found else 0
    return next((event for event in history.events if event.event_id == number), None)


def _first(stretch: Sequence[HistoryEvent], said: str) -> HistoryEvent:
    """Return the first event of these that a command caused, of the kind and name that is complained of."""
    caused = [event for event in stretch if hasattr(attributes_of(event), "workflow_task_completed_event_id")]
    kinds = next((ends for word, ends in _KINDS.items() if word in said), ())
    of_kind = [event for event in caused if kind_of(event).endswith(kinds)] if kinds else caused
    name = _RECORDED_NAME.search(said)
    of_name = [event for event in of_kind if name and name["name"] in said_of(event).split()]
    return next(iter(of_name or of_kind or caused), stretch[-1])


def _wanted(said: str) -> str:
    if _NOTHING.search(said):
        return "nothing"
    if found := _WANTED_NAME.search(said):
        return f"{found['kind']} {found['name']}"
    if found := _MACHINE.search(said):
        return found["machine"].removesuffix(" machine").removesuffix(" WF")
    return said


def _type_of(history: WorkflowHistory) -> str:
    return history.events[0].workflow_execution_started_event_attributes.workflow_type.name


def _different(history: WorkflowHistory, first: Difference) -> ReplayVerdict:
    event = first.event
    return _verdict(history, Verdict.DIFFERENT, event_id=event.event_id, recorded=said_of(event), wanted=first.wanted)


def _verdict(
    history: WorkflowHistory,
    verdict: Verdict,
    *,
    event_id: int = 0,
    recorded: str = "",
    wanted: str = "",
    why: str = "",
) -> ReplayVerdict:
    return ReplayVerdict(
        workflow_id=history.workflow_id,
        run_id=history.run_id,
        workflow_type=_type_of(history),
        verdict=verdict,
        event_id=event_id,
        recorded=recorded,
        wanted=wanted,
        why=why,
        is_closed=kind_of(history.events[-1]) in _LAST,
    )


async def _each(histories: Sequence[WorkflowHistory]) -> AsyncIterator[WorkflowHistory]:
    for history in histories:
        yield history
