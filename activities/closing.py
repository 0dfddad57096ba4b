"""What the end of a survey changes: in the catalogue and in every cell."""

from collections.abc import Callable, Mapping
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from activities.known_cells import known
from domain.certification_ports import CellClosing, CertificationCatalogue
from domain.contracts.certification import (
    CellSurveyReference,
    DestroySurveyKeysInput,
    InstallCertificateInput,
    NoteCertificationInput,
    SealedCell,
)
from domain.errors import DomainError


class ClosingActivities:
    """Seals, certifies and forgets; holds the ports so that a test can pass its own."""

    def __init__(self, catalogue: CertificationCatalogue, cells: Mapping[str, CellClosing]) -> None:
        self._catalogue = catalogue
        self._cells = cells

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [
            self.seal_survey,
            self.note_certification,
            self.install_certificate,
            self.destroy_catalogue_keys,
            self.destroy_cell_keys,
        ]

    @activity.defn(name="seal_survey")
    async def seal_survey(self, request: CellSurveyReference) -> SealedCell:
        """Let one cell take no vote of a drained survey any more. Safe to repeat: the first instant stays.

        Raises:
            ApplicationError: `survey_not_found`, `precondition_failed` where it is open; `ledger_unavailable`
                (retried).
        """
        try:
            return await known(self._cells, request.cell).seal(request.survey_id)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="note_certification")
    async def note_certification(self, request: NoteCertificationInput) -> None:
        """Show in the catalogue how a certification stands. Safe to repeat: an older revision changes nothing.

        Raises:
            ApplicationError: `catalogue_unavailable` (retried).
        """
        try:
            await self._catalogue.note(request.state, request.actor)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="install_certificate")
    async def install_certificate(self, request: InstallCertificateInput) -> None:
        """Make certified totals the results of one cell. Safe to repeat.

        Raises:
            ApplicationError: `internal` where the cell has another certificate; `ledger_unavailable` (retried).
        """
        try:
            await known(self._cells, request.cell).install_certificate(request)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="destroy_catalogue_keys")
    async def destroy_catalogue_keys(self, request: DestroySurveyKeysInput) -> None:
        """Take the wrapped keys of a survey out of the catalogue, with a staff action. Safe to repeat.

        Raises:
            ApplicationError: `survey_not_certified`, also before the end of its retention; `catalogue_unavailable`
                (retried).
        """
        try:
            await self._catalogue.destroy_keys(request)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="destroy_cell_keys")
    async def destroy_cell_keys(self, request: CellSurveyReference) -> None:
        """Take the wrapped keys of a survey out of one cell. Safe to repeat.

        Raises:
            ApplicationError: `ledger_unavailable` (retried).
        """
        try:
            await known(self._cells, request.cell).destroy_keys(request.survey_id)
        except DomainError as error:
            raise to_application_error(error) from error
