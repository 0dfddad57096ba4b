"""Replays that staff ask for, as the process that carries one out keeps it: ids, codes and counts."""

from datetime import datetime

from domain.contracts.base import Contract
from domain.contracts.work import WorkStage
from domain.replay import ReplayCode


class ReplayInput(Contract):
    """Replays one execution, or those of a namespace that started in a period, all or of one type.

    `code` is which code it is with: that of the release that carries it out, or for each execution the one that it
    records. `archived` reads histories out of the archive, whatever the server still has. `cell` is where its process
    and its verdicts are. `steps` and `judged_until` are how far an earlier run of it came.
    """

    replay_id: str
    cell: str
    namespace: str
    workflow_id: str = ""
    run_id: str = ""
    workflow_type: str = ""
    since: datetime | None = None
    until: datetime | None = None
    steps: int = 0
    judged_until: datetime | None = None
    code: ReplayCode = ReplayCode.THIS
    archived: bool = False


class ReplayStep(Contract):
    """The step of this number, from 0, of a replay; of a period it goes on from `since`."""

    request: ReplayInput
    number: int
    since: datetime | None = None


class ReplayState(Contract):
    """How far a replay is; of a period everything that started before `judged_until` is judged."""

    request: ReplayInput
    asked_by: str
    asked_at: datetime
    stage: WorkStage = WorkStage.RUNNING
    steps: int = 0
    judged_until: datetime | None = None
    same: int = 0
    different: int = 0
    cannot: int = 0
    ended_at: datetime | None = None


class EndReplay(Contract):
    """How a replay ended."""

    request: ReplayInput
    stage: WorkStage
