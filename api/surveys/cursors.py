"""Where a list goes on: opaque to callers, nothing secret inside."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from domain.errors import DomainError, ErrorCode
from domain.ids import SURVEY_ID
from domain.survey_ports import Listing

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CURSOR_MAX = 100  # characters


def next_cursor(listings: Sequence[Listing], limit: int) -> str | None:
    """Return the cursor behind a page that was read with one item more than `limit`, or None where it was the last."""
    if len(listings) <= limit:
        return None
    last = listings[limit - 1]
    text = f"{(last.created_at - _EPOCH) // _MICROSECOND}.{last.survey_id}"
    return urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")


def read_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    """Return the place that a cursor names. Raises DomainError `malformed_request`."""
    if cursor is None:
        return None
    try:
        if len(cursor) > _CURSOR_MAX:
            raise ValueError("too long")
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        moment, _, survey_id = text.partition(".")
        if not SURVEY_ID.fullmatch(survey_id):
            raise ValueError("no survey id")
        return _EPOCH + int(moment) * _MICROSECOND, survey_id
    except (ValueError, OverflowError) as error:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "cursor: not one of ours") from error
