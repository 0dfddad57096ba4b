"""Marks a process for a second look: it goes on as before, and can be searched for."""

from temporalio import workflow

from workflows.refusals import refused
from workflows.search_attributes import ESCALATED

with workflow.unsafe.imports_passed_through():
    from domain.cases import CaseKind
    from domain.errors import ErrorCode
    from domain.support_actions import SupportAction, may_act


def escalate() -> None:
    """Mark this process; more than once is once."""
    workflow.upsert_search_attributes([ESCALATED.value_set(value=True)])


def require_action(action: SupportAction, kind: CaseKind, stage: str, *, permitted: bool = True) -> None:
    """Raise ApplicationError `case_stage` where this is not done at this stage, or for another reason not now."""
    if not permitted or not may_act(action, kind, stage):
        raise refused(ErrorCode.CASE_STAGE, "the case is at another stage")
