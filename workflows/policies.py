"""Timeouts and retries, named by what the call risks."""

from datetime import timedelta

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityConfig

LOCAL_LIMIT = timedelta(seconds=2)  # a local activity holds its workflow task; longer than this goes to the queue

COMMIT = ActivityConfig(  # one transaction; no schedule-to-close: an outage of any length ends in a record
    start_to_close_timeout=timedelta(seconds=5),
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=3)),
)

AFTER_COMMIT = ActivityConfig(  # no limit: what is recorded is always told; alert on attempts
    start_to_close_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=3)),
)

LONG_WRITE = ActivityConfig(  # writes a file in pieces, heartbeats its progress and goes on from there
    start_to_close_timeout=timedelta(hours=1),
    heartbeat_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)

LONG_WORK = ActivityConfig(  # waits or computes for as long as it takes; heartbeats, and goes on where it was
    start_to_close_timeout=timedelta(hours=6),
    heartbeat_timeout=timedelta(seconds=20),
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=5)),
)

LOOK = ActivityConfig(  # reads what is new; given up soon, since the next look comes within a minute
    start_to_close_timeout=timedelta(minutes=5),
    heartbeat_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_attempts=3),
)

READ_ON = ActivityConfig(  # reads and judges for some seconds; no limit: an outage of any length is waited out
    start_to_close_timeout=timedelta(minutes=2),
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=15)),
)

SEAL = ActivityConfig(  # a step of a log; no limit: an outage of any length ends in a signed tree head
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15)),
)

ARCHIVE = ActivityConfig(  # some hundred histories; no limit: what has closed is archived after an outage of any length
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)

ASK_VENDOR = ActivityConfig(  # given up after a minute or so: the process then waits longer, and asks again
    start_to_close_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=20), maximum_attempts=6
    ),
)

CLAIM = ActivityConfig(  # one transaction in another cell; no limit: who is claimed waits until that cell is back
    start_to_close_timeout=timedelta(seconds=5),
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=15)),
)

NOTIFY = ActivityConfig(  # a message to a person; after three days nobody needs it any more
    start_to_close_timeout=timedelta(seconds=30),
    schedule_to_close_timeout=timedelta(days=3),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=5)),
)

WHILE_ASKED = ActivityConfig(  # for somebody who waits for a link; after half an hour he has asked again, or does not
    start_to_close_timeout=timedelta(seconds=30),
    schedule_to_close_timeout=timedelta(minutes=30),
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=30)),
)
