"""Every workflow there is, for replaying stored histories."""

from workflows.export_results import ExportResultsWorkflow
from workflows.reconcile_survey import ReconcileSurveyWorkflow
from workflows.rotate_keys import RotateKeysWorkflow
from workflows.run_survey import RunSurveyWorkflow
from workflows.submit_votes import SubmitVotesWorkflow

WORKFLOWS: tuple[type, ...] = (
    ExportResultsWorkflow,
    ReconcileSurveyWorkflow,
    RotateKeysWorkflow,
    RunSurveyWorkflow,
    SubmitVotesWorkflow,
)
