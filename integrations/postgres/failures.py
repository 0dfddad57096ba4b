"""Turns the driver's exceptions into the catalogue's, in one place."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import asyncpg

from domain.errors import DomainError, ErrorCode

UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the driver lost its place when the server died under it
    asyncpg.exceptions.OperatorInterventionError,  # shutdown, cancelled, recovery
    asyncpg.exceptions.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.exceptions.TransactionRollbackError,  # deadlock, serialization
    asyncpg.exceptions.InvalidTransactionStateError,  # idle in transaction for too long
    asyncpg.exceptions.ObjectNotInPrerequisiteStateError,  # lock not available
    asyncpg.exceptions.PostgresSystemError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # the node we reached is no longer the primary
)


ROW_ERRORS = (  # one row is at fault, not the server: it is found and refused alone
    asyncpg.exceptions.DataError,
    asyncpg.exceptions.IntegrityConstraintViolationError,
    asyncpg.exceptions.ProgramLimitExceededError,
    ValueError,  # the driver's own refusal to encode a value
)


@contextmanager
def unavailable_as(code: ErrorCode) -> Iterator[None]:
    """Raise DomainError with `code` (retryable) where PostgreSQL cannot serve; everything else goes through."""
    try:
        yield
    except ROW_ERRORS:
        raise
    except UNAVAILABLE as error:
        raise DomainError(code, type(error).__name__) from error


def ledger_failures() -> AbstractContextManager[None]:
    """`unavailable_as` for the ledger."""
    return unavailable_as(ErrorCode.LEDGER_UNAVAILABLE)
