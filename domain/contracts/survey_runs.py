"""What one run of a survey's process is handed: by whoever publishes it, or by the run before."""

from domain.contracts.base import Contract
from domain.contracts.certification import CertificationState
from domain.contracts.surveys import OpenedSurvey, Survey


class RunSurveyInput(Contract):
    """A survey to take through its public life in these cells.

    `actor` asked for the publication and saw `expected_version`; None takes whatever is there. `opened`, `paused`,
    `finished` and `certification` are what one run hands to the next when its history grows long. The queues are those
    of the workers that count again and that reconcile.
    """

    survey_id: str
    cells: tuple[str, ...]
    actor: str
    expected_version: int | None = None
    opened: OpenedSurvey | None = None
    paused: bool = False
    finished: Survey | None = None
    certification: CertificationState | None = None
    certification_queue: str = "certification"
    reconciliation_queue: str = "reconciliation"
