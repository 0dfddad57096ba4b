"""What the end of a survey needs from the outside."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Protocol

from domain.contracts.certification import (
    CellRecount,
    CertificationState,
    DestroySurveyKeysInput,
    InstallCertificateInput,
    PublishBallotsInput,
    PublishedBallots,
    RecountCellInput,
    RecountProgress,
    SealedCell,
)
from domain.draining import BatchExecution, ClosingWindow, GatewayRows
from domain.ids import BatchId


class ClosingLedger(Protocol):
    """What the ledger of one cell knows of batches. All calls raise DomainError `ledger_unavailable` (retryable)."""

    async def window(self, survey_id: str) -> ClosingWindow:
        """Return the end of a survey by the cell's clock. Raises `survey_not_found`."""
        ...

    async def gateways(self) -> tuple[GatewayRows, ...]:
        """Return every gateway."""
        ...

    async def registered(self, gateways: Collection[bytes]) -> set[bytes]:
        """Return those of these gateways that have a row."""
        ...

    async def is_recorded(self, batch: BatchId) -> bool:
        """Tell whether a batch has its row."""
        ...


class BatchExecutions(Protocol):
    """The executions of one cell's batches. All calls raise DomainError `workflows_unavailable` (retryable)."""

    async def describe(self, batch: BatchId) -> BatchExecution | None:
        """Return an execution, open or retained, or None."""
        ...

    async def running(self, before: datetime) -> set[BatchId]:
        """Return those that became durable before an instant and run; a listing, so it may be seconds behind."""
        ...


class CellClosing(Protocol):
    """What the end of a survey changes in one cell. All calls raise DomainError `ledger_unavailable` (retryable)."""

    async def seal(self, survey_id: str) -> SealedCell:
        """Take no vote of a closed survey any more, whenever it was accepted; the first instant stays.

        Raises:
            DomainError: `survey_not_found`, or `precondition_failed` where it is not closed.
        """
        ...

    async def install_certificate(self, request: InstallCertificateInput) -> None:
        """Put certified totals into the cell; safe to repeat."""
        ...

    async def destroy_keys(self, survey_id: str) -> None:
        """Take the wrapped keys of a survey out of the cell for good; safe to repeat."""
        ...


class CertificationCatalogue(Protocol):
    """The catalogue's side of certification. All calls raise DomainError `catalogue_unavailable` (retryable)."""

    async def note(self, state: CertificationState, actor: str = "") -> None:
        """Keep how a certification stands; an older revision changes nothing. An actor's request is a staff action."""
        ...

    async def state(self, survey_id: str) -> CertificationState | None:
        """Return how a certification stands, or None where the survey has not ended."""
        ...

    async def destroy_keys(self, request: DestroySurveyKeysInput) -> None:
        """Take the wrapped keys of a survey out of the catalogue, with a staff action; safe to repeat.

        Raises:
            DomainError: `survey_not_certified` before its certificate, or before its retention has ended.
        """
        ...


class Recounter(Protocol):
    """Opens the sealed ballots of one cell: the only one besides the vote path who can.

    Raises DomainError `ledger_unavailable`, `key_unavailable`, `objects_unavailable` (retryable), `key_destroyed`.
    """

    async def recount(
        self, request: RecountCellInput, progress: RecountProgress, keep: Callable[[RecountProgress], None]
    ) -> CellRecount:
        """Count a cell's ballots again from where `progress` is; `keep` hears how far it is."""
        ...

    async def publish(self, request: PublishBallotsInput, beat: Callable[[], None]) -> PublishedBallots:
        """Write the opened ballots of all cells into files, in an order that says nothing; the same files if repeated.

        `beat` is called while it goes on.
        """
        ...
