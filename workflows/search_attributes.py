"""What can be searched for in Temporal: few, typed, low in cardinality, and nothing about a person.

Registered at deployment and by the stack of one machine from `ALL`.
"""

from temporalio.common import SearchAttributeKey

SURVEY_ID = SearchAttributeKey.for_keyword("SurveyId")
PROCESS_STAGE = SearchAttributeKey.for_keyword("ProcessStage")
ESCALATED = SearchAttributeKey.for_bool("Escalated")  # support wants it looked at once more

ALL = (SURVEY_ID, PROCESS_STAGE, ESCALATED)
