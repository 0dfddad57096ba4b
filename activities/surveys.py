"""What the life of a survey does outside: the catalogue, its keys, the cells' copies, the announcements."""

from collections.abc import Callable, Mapping
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from activities.known_cells import known
from activities.server_clock import server_clock
from domain.contracts.surveys import (
    AnnounceSurveyInput,
    CorrectSurveyInput,
    FinishSurveyInput,
    FreezeSurveyInput,
    InstallSurveyInput,
    OpenSurveyInput,
    Survey,
    SurveyKeys,
    SurveyReference,
    SurveyWindow,
)
from domain.errors import DomainError
from domain.ports import CellSurveys, KeyManagement
from domain.survey_ports import SurveyAnnouncer, SurveyCatalogue

BALLOT_KEYS = "kek/ballot"
ELIGIBILITY_KEYS = "kek/eligibility"


class SurveyActivities:
    """Takes surveys from the catalogue into the cells; holds the ports so that a test can pass its own."""

    def __init__(
        self,
        catalogue: SurveyCatalogue,
        keys: KeyManagement,
        cells: Mapping[str, CellSurveys],
        announcer: SurveyAnnouncer,
    ) -> None:
        self._catalogue = catalogue
        self._keys = keys
        self._cells = cells
        self._announcer = announcer

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [
            self.freeze_survey,
            self.provide_survey_keys,
            self.install_survey,
            self.set_survey_window,
            self.open_survey,
            self.finish_survey,
            self.correct_survey,
            self.announce_survey,
        ]

    @activity.defn(name="freeze_survey")
    async def freeze_survey(self, request: FreezeSurveyInput) -> Survey:
        """Freeze a draft for publication. Safe to repeat: a frozen survey comes back as it is.

        Raises:
            ApplicationError: `survey_not_found`, `precondition_failed`, `survey_invalid` (its end has passed);
                `catalogue_unavailable` (retried).
        """
        try:
            return (await self._catalogue.freeze(request)).survey
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="provide_survey_keys")
    async def provide_survey_keys(self, survey: SurveyReference) -> SurveyKeys:
        """Return the survey's wrapped data keys, made when there are none. Safe to repeat: the first ones stay.

        Raises:
            ApplicationError: `key_unavailable`, `catalogue_unavailable` (retried).
        """
        try:
            kept = await self._catalogue.keys(survey.survey_id)
            if kept is not None:
                return kept
            ballot = await self._keys.generate_data_key(BALLOT_KEYS, survey.survey_id)
            eligibility = await self._keys.generate_data_key(ELIGIBILITY_KEYS, survey.survey_id)
            fresh = SurveyKeys(
                survey_id=survey.survey_id,
                wrapped_ballot_key=ballot.wrapped,
                wrapped_eligibility_key=eligibility.wrapped,
            )
            return await self._catalogue.keep_keys(fresh)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="install_survey")
    async def install_survey(self, request: InstallSurveyInput) -> None:
        """Put a survey into one cell, not open. Safe to repeat: the newest version stays.

        Raises:
            ApplicationError: `ledger_unavailable` (retried).
        """
        try:
            await known(self._cells, request.cell).install(request)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="set_survey_window")
    async def set_survey_window(self, window: SurveyWindow) -> None:
        """Set when a survey opens and closes in one cell. Safe to repeat: an end that has passed stays.

        Raises:
            ApplicationError: `ledger_unavailable` (retried); `survey_not_found` where it was never installed.
        """
        try:
            await known(self._cells, window.cell).set_window(window, server_clock())
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="open_survey")
    async def open_survey(self, request: OpenSurveyInput) -> Survey:
        """Make a survey public in the catalogue. Safe to repeat: the first window stays.

        Raises:
            ApplicationError: `catalogue_unavailable` (retried).
        """
        try:
            return (await self._catalogue.open(request)).survey
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="finish_survey")
    async def finish_survey(self, request: FinishSurveyInput) -> Survey:
        """Record the end of a survey in the catalogue. Safe to repeat: the first end stays.

        Raises:
            ApplicationError: `catalogue_unavailable` (retried).
        """
        try:
            return (await self._catalogue.finish(request)).survey
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="correct_survey")
    async def correct_survey(self, request: CorrectSurveyInput) -> Survey:
        """Correct texts of a published survey in the catalogue. Safe to repeat: a correction is made once.

        Raises:
            ApplicationError: `precondition_failed`, `survey_frozen`; `catalogue_unavailable` (retried).
        """
        try:
            return (await self._catalogue.correct(request)).survey
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="announce_survey")
    async def announce_survey(self, request: AnnounceSurveyInput) -> None:
        """Tell everyone in one cell that a public survey changed. Repeated, it is told twice; the version says so.

        Raises:
            ApplicationError: `broker_unavailable` (retried).
        """
        try:
            await self._announcer.announce(request)
        except DomainError as error:
            raise to_application_error(error) from error
