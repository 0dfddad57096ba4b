"""What spans are called."""

from enum import StrEnum


class SpanName(StrEnum):
    """The spans that dashboards and runbooks know; calls to a vendor are `external.` and its name."""

    HTTP_REQUEST = "http.request"
    VALIDATE_TOKEN = "auth.validate_token"  # noqa: S105
    CHECK_ELIGIBILITY = "auth.check_eligibility"
    CHECK_VOTE = "fraud.check_vote"
    PERSIST_VOTE = "vote.persist"
    DB_QUERY = "db.query"
    FOLD_TALLY = "tally.fold"
