"""What staff change while a survey is open: whether it takes votes now, and a later end."""

from collections.abc import Callable, Mapping
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from activities.known_cells import known
from domain.contracts.surveys import ExtendSurveyInput, Survey, SurveyIntake
from domain.errors import DomainError
from domain.survey_ports import CellIntake, SteeringCatalogue


class SteeringActivities:
    """Steers open surveys; holds the ports so that a test can pass its own."""

    def __init__(self, catalogue: SteeringCatalogue, cells: Mapping[str, CellIntake]) -> None:
        self._catalogue = catalogue
        self._cells = cells

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.note_intake, self.set_intake, self.extend_survey]

    @activity.defn(name="note_intake")
    async def note_intake(self, request: SurveyIntake) -> Survey:
        """Record a pause or its end in the catalogue, with its staff action. Safe to repeat: it is noted once.

        Raises:
            ApplicationError: `survey_not_found`; `catalogue_unavailable` (retried).
        """
        try:
            return (await self._catalogue.set_intake(request)).survey
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="set_intake")
    async def set_intake(self, request: SurveyIntake) -> None:
        """Let one cell take votes, or none for the moment. Safe to repeat.

        Raises:
            ApplicationError: `survey_not_found`; `ledger_unavailable` (retried).
        """
        try:
            await known(self._cells, request.cell).set_intake(request)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="extend_survey")
    async def extend_survey(self, request: ExtendSurveyInput) -> Survey:
        """Record a later end in the catalogue, with its staff action. Safe to repeat: it is noted once.

        Raises:
            ApplicationError: `survey_not_found`; `catalogue_unavailable` (retried).
        """
        try:
            return (await self._catalogue.extend(request)).survey
        except DomainError as error:
            raise to_application_error(error) from error
