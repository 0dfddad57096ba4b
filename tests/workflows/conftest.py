from tests.workflows.survey_world import client

__all__ = ["client"]
