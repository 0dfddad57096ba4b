"""For how long the server has to keep what has ended, so that nothing is forgotten before it is archived."""

from datetime import timedelta
from typing import Final

_TIMES: Final = 4  # an archive that falls behind has so much time to catch up
_STEP: Final = timedelta(days=1)
LONGEST: Final = timedelta(days=90)  # by then it is a question of the disk


def retention_at(lag: timedelta, retention: timedelta) -> timedelta:
    """Return the retention that an archive needs which is `lag` late: never a shorter one than there is.

    A server keeps an execution for as long as the retention was when it ended, so it is lengthened long before the
    archive is as late as that; four times the lag, in whole days, and 90 days at most.
    """
    if _TIMES * lag <= retention:
        return retention
    days = -(-_TIMES * lag // _STEP)
    return max(retention, min(days * _STEP, LONGEST))
