"""What every cell is told of a survey; each is tried until it has it, and none waits for another."""

import asyncio

from temporalio import workflow

from workflows.cell_settings import CellSetting
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
    """The cells of one survey: `windows` is when it is open in them, `intakes` whether they take votes meanwhile."""

    def __init__(self, cells: tuple[str, ...]) -> None:
        self._cells = cells
        self.windows = CellSetting[SurveyWindow](cells, SurveyActivities.set_survey_window)
        self.intakes = CellSetting[SurveyIntake](cells, SteeringActivities.set_intake)

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
