"""Where lists of cases go on: opaque to callers, nothing secret inside."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from domain.cases import Case, case_at
from domain.errors import DomainError, ErrorCode

CURSOR_MAX: Final = 2000  # characters
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def behind(case: Case) -> str:
    """Return the cursor behind a case, in the order of their begin."""
    return _encoded(f"{(case.began_at - _EPOCH) // _MICROSECOND}.{case.case_id}".encode())


def read_place(cursor: str | None) -> tuple[datetime, str] | None:
    """Return the begin and the id of the case that a cursor names. Raises DomainError `malformed_request`."""
    if cursor is None:
        return None
    moment, _, case_id = _decoded(cursor).decode("ascii", "replace").partition(".")
    if not moment.isascii() or not moment.isdigit() or case_at(case_id) is None:
        raise _malformed()
    try:
        return _EPOCH + int(moment) * _MICROSECOND, case_id
    except OverflowError as error:
        raise _malformed() from error


def in_cell(cell: str, token: bytes) -> str:
    """Return the cursor of a page of a cell that Temporal goes on with."""
    return _encoded(cell.encode() + b"." + token)


def read_page(cursor: str | None, cells: Collection[str]) -> tuple[str, bytes] | None:
    """Return the cell and Temporal's token that a cursor names. Raises DomainError `malformed_request`."""
    if cursor is None:
        return None
    cell, _, token = _decoded(cursor).partition(b".")
    name = cell.decode("ascii", "replace")
    if name not in cells:
        raise _malformed()
    return name, token


def _encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).decode("ascii").rstrip("=")


def _decoded(cursor: str) -> bytes:
    try:
        return urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except ValueError as error:
        raise _malformed() from error


def _malformed() -> DomainError:
    return DomainError(ErrorCode.MALFORMED_REQUEST, "cursor: not one of ours")
