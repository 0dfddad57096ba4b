"""What a replay came to: the history of an execution against what some code would decide from it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final


class Verdict(StrEnum):
    """Whether the code decides as it did then."""

    SAME = "same"
    DIFFERENT = "different"
    CANNOT = "cannot"  # be said


class ReplayCode(StrEnum):
    """Which code executions are replayed with."""

    THIS = "this"  # of whoever replays
    RECORDED = "recorded"  # each with the code that carried it out, by the newest build that its history names


# Why it cannot be said, besides codes of the catalogue: `key_destroyed`, `archive_contradicted`, and `key_unavailable`
# of what does not open under its key.
HISTORY_GONE: Final = "history_gone"  # past its retention, or there was never such an execution
TYPE_UNKNOWN: Final = "workflow_type_unknown"  # to that code
BUILD_UNKNOWN: Final = "build_unknown"  # the history does not say which code carried it out
RELEASE_MISSING: Final = "release_not_at_hand"  # the code that carried it out is nowhere to be had here
RELEASE_UNUSABLE: Final = "release_not_usable"  # it is at hand, but broken, or does not load here
REACHED_OUT: Final = "reached_out"  # the code tried to reach something outside of its process; `wanted` is the call
NOT_ENDED: Final = "replay_did_not_end"  # within the time that one has
NOTHING_DECIDED: Final = "nothing_decided"  # no task of it has ended yet, or ever did


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a workflow; `events` is how many its history has, 0 where that is not known."""

    workflow_id: str
    run_id: str
    workflow_type: str
    started_at: datetime | None = None
    events: int = 0


@dataclass(frozen=True, slots=True)
class ReplayVerdict:
    """The verdict on one execution; names and codes only, nothing of what a payload says.

    Where it is different, `event_id` is the first event of the history that the code would not have caused, `recorded`
    what that event is, and `wanted` what the code asks for in its place. `why` says why it cannot be said. `code` is
    the build of that code, where it is not that of whoever replays.
    """

    workflow_id: str
    run_id: str
    workflow_type: str
    verdict: Verdict
    event_id: int = 0
    recorded: str = ""
    wanted: str = ""
    why: str = ""
    code: str = ""
    is_closed: bool = True  # what was judged is all of it, or what keeps it from being judged is for good

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        found: dict[str, Any] = {
            "workflowId": self.workflow_id,
            "runId": self.run_id,
            "type": self.workflow_type,
            "verdict": self.verdict.value,
        }
        if self.verdict is Verdict.DIFFERENT:
            found["event"] = {"id": self.event_id, "recorded": self.recorded, "wanted": self.wanted}
        if self.why:
            found["why"] = self.why
        if self.verdict is Verdict.CANNOT and self.wanted:
            found["wanted"] = self.wanted
        if self.code:
            found["code"] = self.code
        return found
