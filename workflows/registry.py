"""Every workflow there is, for replaying stored histories."""

from workflows.export_results import ExportResultsWorkflow
from workflows.run_survey import RunSurveyWorkflow
from workflows.submit_votes import SubmitVotesWorkflow

WORKFLOWS: tuple[type, ...] = (ExportResultsWorkflow, RunSurveyWorkflow, SubmitVotesWorkflow)
