"""Metrics and log events of reconciliation. No label and no event names a survey's people or choices."""

from collections import Counter as Counted
from collections.abc import Iterable, Mapping

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from domain.contracts.reconciliation import CellChecked, Difference, DifferenceKind

log = structlog.get_logger(__name__)

_PASS_BUCKETS_S = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900)
_NAMED_MAX = 20  # rows in one log event


class ReconciliationMetrics:
    """Implements `ReconciliationWatch`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "reconciliation_pass_seconds",
            "How long a pass over one cell's ledger took.",
            ["cell", "pass"],
            buckets=_PASS_BUCKETS_S,
            registry=registry,
        )
        self._evidence = Counter(
            "reconciliation_evidence_checked", "Participations whose evidence was checked.", ["cell"], registry=registry
        )
        self._found = Counter(
            "reconciliation_differences_found", "Differences found, by kind.", ["cell", "kind"], registry=registry
        )
        self._repaired = Counter(
            "reconciliation_differences_repaired", "Differences repaired, by kind.", ["cell", "kind"], registry=registry
        )
        self._open = Gauge(
            "reconciliation_differences_open",
            "Differences open now, by kind.",
            ["cell", "kind"],
            registry=registry,
        )
        self._dangling = Gauge(
            "dangling_references", "References without their target, by kind.", ["cell", "kind"], registry=registry
        )

    def checked(self, checked: CellChecked, seconds: float, *, complete: bool) -> None:
        """Count a pass."""
        self._seconds.labels(checked.cell, "complete" if complete else "incremental").observe(seconds)
        self._evidence.labels(checked.cell).inc(checked.evidence_checked)

    def found(self, survey_id: str, differences: Iterable[Difference]) -> None:
        """Count differences and log one event for each kind, with the rows that may be logged."""
        for (cell, kind), found in _by_kind(differences).items():
            self._found.labels(cell, kind.value).inc(len(found))
            log.error("difference_found", **_event(survey_id, cell, kind, found))

    def repaired(self, survey_id: str, differences: Iterable[Difference]) -> None:
        """Count repairs and log one event for each kind."""
        for (cell, kind), found in _by_kind(differences).items():
            self._repaired.labels(cell, kind.value).inc(len(found))
            log.warning("difference_repaired", **_event(survey_id, cell, kind, found))

    def show_open(self, cell: str, by_kind: Mapping[str, int]) -> None:
        """Set how many differences are open in a cell; kinds that are not named have none."""
        for kind in DifferenceKind:
            self._open.labels(cell, kind.value).set(by_kind.get(kind.value, 0))

    def show_dangling(self, cell: str, by_kind: Mapping[str, int]) -> None:
        """Set how many references dangle in a cell (or in the catalogue), by kind."""
        for kind, count in by_kind.items():
            self._dangling.labels(cell, kind).set(count)


def _by_kind(differences: Iterable[Difference]) -> dict[tuple[str, DifferenceKind], list[Difference]]:
    found: dict[tuple[str, DifferenceKind], list[Difference]] = {}
    for difference in differences:
        found.setdefault((difference.cell, difference.kind), []).append(difference)
    return found


def _event(survey_id: str, cell: str, kind: DifferenceKind, found: list[Difference]) -> dict[str, object]:
    batches = list(Counted(difference.batch for difference in found if difference.batch))
    return {
        "election_id": survey_id,
        "cell": cell,
        "kind": kind.value,
        "differences": len(found) + sum(difference.more for difference in found),
        "batches": batches[:_NAMED_MAX],
    }
