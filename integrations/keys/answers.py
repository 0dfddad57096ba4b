"""What goes wrong between us and a key service that speaks as AWS does."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from domain.errors import DomainError, ErrorCode
from integrations.aws_clients import code_of

# What the driver, or who reads from its answer, comes upon in JSON or XML of another form
_SENSELESS = (ValueError, LookupError, AttributeError, TypeError)


@contextmanager
def answering(who: str) -> Iterator[None]:
    """Turn what a driver raises, also of an answer that makes no sense, into DomainError `key_unavailable`."""
    try:
        yield
    except ClientError as error:
        raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"{who}: {code_of(error)}") from error
    except (BotoCoreError, ResponseParserError, *_SENSELESS) as error:
        raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"{who}: {type(error).__name__}") from error
