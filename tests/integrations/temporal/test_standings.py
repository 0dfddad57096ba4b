"""What Temporal knows of an activity that has not succeeded yet, as support is told."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import ActivityType
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.workflow.v1 import PendingActivityInfo

from domain.cases import PendingActivity
from integrations.temporal.standings import _pending

AT, AGAIN = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 5, tzinfo=UTC)


def stamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def test_an_attempt_that_is_waited_for_is_none_yet() -> None:
    failure = Failure(
        message="anna@example.org", application_failure_info=ApplicationFailureInfo(type="mail_unavailable")
    )
    found = PendingActivityInfo(
        activity_type=ActivityType(name="send_message"),
        attempt=4,
        scheduled_time=stamp(AGAIN),
        next_attempt_schedule_time=stamp(AGAIN),
        last_failure=failure,
    )
    assert _pending(found) == PendingActivity("send_message", 3, AGAIN, "mail_unavailable", AGAIN)


def test_an_attempt_that_is_under_way_is_counted() -> None:
    found = PendingActivityInfo(activity_type=ActivityType(name="send_message"), attempt=1, scheduled_time=stamp(AT))
    assert _pending(found) == PendingActivity("send_message", 1, AT)
