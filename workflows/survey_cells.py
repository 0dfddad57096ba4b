"""What every cell is told of a survey; each is tried until it has it, and none waits for another."""

import asyncio
from datetime import datetime

from temporalio import workflow

from workflows.policies import AFTER_COMMIT, COMMIT

with workflow.unsafe.imports_passed_through():
    from activities.steering import SteeringActivities
    from activities.surveys import SurveyActivities
    from domain.contracts.surveys import (
        AnnounceSurveyInput,
        InstallSurveyInput,
        OpenedSurvey,
        SurveyChanged,
        SurveyIntake,
        SurveyWindow,
    )


class SurveyCells:
    """The cells of one survey."""

    def __init__(self, survey_id: str, cells: tuple[str, ...]) -> None:
        self._survey_id = survey_id
        self._cells = cells

    async def install(self, ready: OpenedSurvey) -> None:
        """Return once every cell has this version of the survey."""
        await asyncio.gather(
            *(
                workflow.execute_activity_method(
                    SurveyActivities.install_survey,
                    InstallSurveyInput(
                        cell=cell,
                        survey=ready.survey,
                        wrapped_ballot_key=ready.keys.wrapped_ballot_key,
                        wrapped_eligibility_key=ready.keys.wrapped_eligibility_key,
                    ),
                    **COMMIT,
                )
                for cell in self._cells
            )
        )

    async def set_window(self, start_at: datetime, finish_at: datetime | None) -> None:
        """Return once every cell has the window; an end that has passed there stays."""
        await asyncio.gather(
            *(
                workflow.execute_activity_method(
                    SurveyActivities.set_survey_window,
                    SurveyWindow(cell=cell, survey_id=self._survey_id, start_at=start_at, finish_at=finish_at),
                    **COMMIT,
                )
                for cell in self._cells
            )
        )

    async def set_intake(self, intake: SurveyIntake) -> None:
        """Return once every cell takes votes, or none for the moment."""
        await asyncio.gather(
            *(
                workflow.execute_activity_method(
                    SteeringActivities.set_intake, intake.model_copy(update={"cell": cell}), **COMMIT
                )
                for cell in self._cells
            )
        )

    async def tell(self, change: SurveyChanged) -> None:
        """Return once the broker of every cell has the change."""
        await asyncio.gather(
            *(
                workflow.execute_activity_method(
                    SurveyActivities.announce_survey, AnnounceSurveyInput(cell=cell, change=change), **AFTER_COMMIT
                )
                for cell in self._cells
            )
        )
