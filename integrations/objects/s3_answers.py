"""What a bucket answers that it does not do, as errors of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from domain.errors import DomainError, ErrorCode
from integrations.aws_clients import code_of

IS_THERE: Final = "PreconditionFailed"


@contextmanager
def unavailable() -> Iterator[None]:
    """Turn whatever the store or the way to it refuses into DomainError `objects_unavailable`."""
    try:
        yield
    except ClientError as error:
        raise DomainError(ErrorCode.OBJECTS_UNAVAILABLE, code_of(error)) from error
    except BotoCoreError as error:
        raise DomainError(ErrorCode.OBJECTS_UNAVAILABLE, type(error).__name__) from error
