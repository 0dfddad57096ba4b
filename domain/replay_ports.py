"""What replays need of the outside: executions that can be judged, and where verdicts are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.audit import AuditEntry
from domain.contracts.replays import ReplayInput, ReplayState, ReplayStep
from domain.contracts.work import WorkStage
from domain.replay import Execution, ReplayVerdict, Verdict


@dataclass(frozen=True, slots=True)
class KeptVerdict:
    """A verdict of a replay and its place there, from 1, without holes."""

    number: int
    verdict: ReplayVerdict


class ExecutionJudge(Protocol):
    """Replays executions with the code that is asked for.

    Calls raise DomainError for what is away and can be said later: `workflows_unavailable`, `key_unavailable`,
    `objects_unavailable`, `audit_log_unavailable`.
    """

    async def started(
        self, request: ReplayInput, since: datetime, until: datetime, most: int | None
    ) -> Sequence[Execution] | None:
        """Return what started in a stretch of the period; None where there are more than `most`."""
        ...

    async def judge(self, request: ReplayInput, executions: Sequence[Execution]) -> Sequence[ReplayVerdict]:
        """Return the verdicts on these runs, on the newest one where none is named; all within some time.

        Where one alone does not end in it, that is its verdict; of several it is `workflows_unavailable`, and whoever
        asks may ask for fewer.
        """
        ...


class ReplayRecords(Protocol):
    """The replays of one cell. Calls raise DomainError `directory_unavailable` (retryable)."""

    async def ask(self, request: ReplayInput, entry: AuditEntry) -> ReplayState:
        """Keep what is asked for, with its entry, once; return how far it is.

        Raises:
            DomainError: `idempotency_key_used`; something else was asked for under this id.
        """
        ...

    async def record(self, step: ReplayStep, until: datetime | None, verdicts: Sequence[ReplayVerdict]) -> ReplayState:
        """Keep the verdicts of a step, once, and not of a replay that has ended; return how far it is.

        Raises:
            DomainError: `not_found`; it is kept no longer.
        """
        ...

    async def end(self, replay_id: str, stage: WorkStage) -> ReplayState:
        """Note how a replay has ended; the first one stays. Raises as `record` does."""
        ...

    async def find(self, replay_id: str) -> ReplayState | None:
        """Return how far a replay is, or None."""
        ...

    async def newest(self, before: tuple[datetime, str] | None, limit: int) -> Sequence[ReplayState]:
        """Return replays, newest first, that come after the one that was asked for then and has this id."""
        ...

    async def verdicts(
        self, replay_id: str, after: int, limit: int, only: Verdict | None = None
    ) -> Sequence[KeptVerdict]:
        """Return verdicts by their places, behind the place `after`, of one kind or of all."""
        ...
