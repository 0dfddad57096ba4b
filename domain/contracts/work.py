"""Long work that staff ask for: who wants it to end before it is done."""

from enum import StrEnum

from domain.contracts.base import Contract


class WorkStage(StrEnum):
    """Where long work stands."""

    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class CancelWork(Contract):
    """Somebody of staff wants work to end; `actor` and `role` as audit entries name them."""

    actor: str
    role: str
