"""What support sees of cases. There is no field for what is not shown."""

from collections.abc import Collection
from typing import Any

from pydantic import Field

from api.http.models import ApiModel, Timestamp
from api.support.desk import CaseFile, Page
from api.support.stuck import Stuck, StuckProcesses
from domain.cases import Case, CaseKind, HistorySource, PendingActivity, Step, StepKind, Timeline
from domain.masking import masked
from domain.tokens import Role
from integrations.temporal.submissions import SubmissionCase


def _some(description: str) -> Any:
    return Field(default="", description=description, exclude_if=lambda value: not value)


def _sometimes(description: str) -> Any:
    return Field(default=None, description=description, exclude_if=lambda value: value is None)


class CaseBody(ApiModel):
    """A registration, a login, a recovery, a deletion, or one vote that was asked for by its own id."""

    case_id: str
    kind: CaseKind = Field(strict=False)
    voter: str = _some("The voter's reference; never with a vote.")
    stage: str
    began_at: Timestamp
    changed_at: Timestamp = Field(description="When it came to this stage.")

    @classmethod
    def of(cls, case: Case) -> "CaseBody":
        """Return a case as support sees it."""
        return cls(
            case_id=case.case_id,
            kind=case.kind,
            voter=case.voter_id,
            stage=case.stage,
            began_at=case.began_at,
            changed_at=case.changed_at,
        )


class CasePage(ApiModel):
    """Some cases. A page may hold fewer than `limit`; the last one has no `nextCursor`."""

    cases: tuple[CaseBody, ...] = Field(strict=False)
    next_cursor: str | None = _sometimes("Where the list goes on.")
    missing_cells: tuple[str, ...] = Field(strict=False, description="Cells that could not be asked.")

    @classmethod
    def of(cls, page: Page) -> "CasePage":
        """Return a page as support sees it."""
        return cls(
            cases=tuple(map(CaseBody.of, page.cases)),
            next_cursor=page.next_cursor,
            missing_cells=tuple(page.missing_cells),
        )


class PendingBody(ApiModel):
    """An activity that has not succeeded yet, or as `workflow_task` the process's own code, which fails."""

    name: str
    attempts: int
    scheduled_at: Timestamp = Field(
        description="RFC 3339, UTC. Of the attempt that is under way or comes next; the timeline has the first."
    )
    code: str = _some("The error of the last attempt; of a process's own code why Temporal says that it failed.")
    again_at: Timestamp | None = _sometimes("When it is tried again.")

    @classmethod
    def of(cls, pending: PendingActivity) -> "PendingBody":
        """Return a pending activity as support sees it."""
        return cls(
            name=pending.name,
            attempts=pending.attempts,
            scheduled_at=pending.scheduled_at,
            code=pending.code,
            again_at=pending.again_at,
        )


class VoteBody(ApiModel):
    """One vote: how far it is, and no choice. The receipt is its voter's, who can check it."""

    survey: str
    cell: str
    code: str = _some("Why it was refused.")
    has_receipt: bool = Field(description="Whether it is recorded, so that its voter has, or can get, a receipt.")

    @classmethod
    def of(cls, found: SubmissionCase) -> "VoteBody":
        """Return a vote as support sees it."""
        return cls(survey=found.survey_id, cell=found.cell, code=found.code, has_receipt=found.has_receipt)


class CaseFileBody(ApiModel):
    """A case and how its process stands."""

    case: CaseBody
    workflow: str = _some("The id of its process.")
    status: str = _some("Of its process; not there once its history is gone.")
    pending: tuple[PendingBody, ...] = Field(strict=False)
    contact: dict[str, str] = Field(description="How the voter is reached, masked: `mail`, `phone`.")
    vote: VoteBody | None = _sometimes("Of a submission.")

    @classmethod
    def of(cls, file: CaseFile) -> "CaseFileBody":
        """Return a case as support sees it."""
        standing = file.standing
        return cls(
            case=CaseBody.of(file.case),
            workflow=file.address.workflow_id,
            status="" if standing is None else standing.status,
            pending=tuple(map(PendingBody.of, file.pending)),
            contact=file.contact,
            vote=None if file.submission is None else VoteBody.of(file.submission),
        )


class StepBody(ApiModel):
    """One step. `given` and `came` hold what this member of staff may see of it: `***` stands for what is masked."""

    at: Timestamp
    kind: StepKind = Field(strict=False)
    process: str
    name: str
    state: str
    attempts: int = Field(default=0, exclude_if=lambda value: not value)
    ended_at: Timestamp | None = _sometimes("When it ended.")
    until: Timestamp | None = _sometimes("A deadline: of a wait, of a stage, of the next attempt.")
    code: str = _some("The code of an error.")
    by: str = _some("Who asked or told.")
    source: HistorySource = Field(strict=False, description="`archive`: the server has dropped this process.")
    given: dict[str, Any] | None = _sometimes("What it was given.")
    came: dict[str, Any] | None = _sometimes("What came of it.")

    @classmethod
    def of(cls, step: Step, roles: Collection[Role]) -> "StepBody":
        """Return a step as these roles see it."""
        return cls(
            at=step.at,
            kind=step.kind,
            process=step.process,
            name=step.name,
            state=step.state,
            attempts=step.attempts,
            ended_at=step.ended_at,
            until=step.until,
            code=step.code,
            by=step.by,
            source=step.source,
            given=None if step.given is None else masked(step.given, roles),
            came=None if step.came is None else masked(step.came, roles),
        )


class TimelineBody(ApiModel):
    """The steps of a case, oldest first, over all of its processes."""

    case_id: str
    steps: tuple[StepBody, ...] = Field(strict=False)
    gaps: dict[str, str] = Field(
        description="By workflow id why there was more of a process than is shown: `not_read_here`, where it is "
        "archived and this service reads no archive; `objects_unavailable`, `archive_contradicted`; `key_destroyed`, "
        "what is left then are names and instants; `history_gone`, neither the server nor the archive has it, or not "
        "all of its runs; `too_many`, more processes than are read of one case."
    )
    next: int | None = _sometimes("The first step of the following page.")

    @classmethod
    def of(cls, case_id: str, found: Timeline, first: int, limit: int, roles: Collection[Role]) -> "TimelineBody":
        """Return a page of a timeline as these roles see it."""
        page = found.steps[first : first + limit]
        following = first + limit
        return cls(
            case_id=case_id,
            steps=tuple(StepBody.of(step, roles) for step in page),
            gaps=dict(found.gaps),
            next=following if following < len(found.steps) else None,
        )


class StuckBody(ApiModel):
    """A process that is late."""

    workflow: str
    process: str
    cell: str
    case_id: str = _some(
        "The case that it belongs to; a batch of votes belongs to none. To that of an unlock or an unmasking leads its "
        "workflow."
    )
    stage: str = _some("Where it waits: `opening`, until its provider takes it up; `workflow_task`, its code fails.")
    since: Timestamp = Field(description="When it came there.")
    target_s: int = Field(description="Seconds that it should stay there at most.")
    pending: tuple[PendingBody, ...] = Field(strict=False)

    @classmethod
    def of(cls, stuck: Stuck) -> "StuckBody":
        """Return a late process as support sees it."""
        return cls(
            workflow=stuck.standing.workflow_id,
            process=stuck.standing.process,
            cell=stuck.cell,
            case_id="" if stuck.case is None else stuck.case.case_id,
            stage=stuck.target.stage,
            since=stuck.since,
            target_s=int(stuck.target.within.total_seconds()),
            pending=tuple(map(PendingBody.of, stuck.standing.pending)),
        )


class StuckPage(ApiModel):
    """Processes that are late, those first that are late for longest."""

    stuck: tuple[StuckBody, ...] = Field(strict=False)
    has_more: bool
    missing_cells: tuple[str, ...] = Field(strict=False, description="Cells that could not be asked.")
    truncated: bool = Field(
        description="Some have more open processes than are looked at: those that are late for longest may be missing."
    )

    @classmethod
    def of(cls, found: StuckProcesses) -> "StuckPage":
        """Return late processes as support sees them."""
        return cls(
            stuck=tuple(map(StuckBody.of, found.found)),
            has_more=found.has_more,
            missing_cells=tuple(found.missing_cells),
            truncated=found.is_truncated,
        )
