"""What admission shows of itself, in the names that dashboards and alerts know."""

from prometheus_client import Histogram

from domain.errors import ErrorCode
from domain.ports import RiskDecision, RiskVerdict
from integrations.telemetry.metrics import AuthMetrics, DatabaseMetrics, RiskMetrics


class AdmissionMetrics:
    """Tokens taken, refused and issued."""

    def __init__(self, metrics: AuthMetrics) -> None:
        self._metrics = metrics
        self._accepted = metrics.accepted("access")
        self._issued = metrics.issued("voting")

    def validated(self, seconds: float) -> None:
        """An access token was good."""
        self._metrics.validate_seconds.observe(seconds)
        self._accepted.inc()

    def issued(self) -> None:
        """A voting token goes out."""
        self._issued.inc()

    def refused(self, code: ErrorCode) -> None:
        """An application is refused."""
        self._metrics.refused(code)


class DeskMetrics:
    """One cell's look-ups, and the risk decisions of all cells."""

    def __init__(self, cell: str, database: DatabaseMetrics, risk: RiskMetrics) -> None:
        self._look_up: Histogram = database.query(cell, "candidates")
        self._risk = risk

    def looked_up(self, seconds: float) -> None:
        """The directory answered for a group."""
        self._look_up.observe(seconds)

    def judged(self, verdict: RiskVerdict, seconds: float) -> None:
        """Risk answered for one application."""
        self._risk.decided(verdict.decision, seconds, verdict.score_permille)
        if verdict.decision is not RiskDecision.ALLOW:
            self._risk.stopped(verdict.reasons)

    def risk_absent(self, applications: int) -> None:
        """Risk did not answer for so many applications in time."""
        self._risk.unavailable.inc(applications)
