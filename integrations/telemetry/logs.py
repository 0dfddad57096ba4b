"""One JSON object per line for everything that this process logs, its libraries included."""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec
import structlog
from structlog.types import EventDict, WrappedLogger
from temporalio import activity, workflow

from domain.errors import DomainError
from integrations.telemetry.redaction import REDACTED, names_secret, redact
from integrations.telemetry.tracing import current_ids

_EVENT: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
_LEVELS: Final = {"warning": "WARN", "critical": "ERROR", "exception": "ERROR"}
_RECORD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_QUIET: Final = {
    "aiokafka": logging.CRITICAL,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,  # would log the address of every call, and ids in it
    "mail.log": logging.WARNING,  # of the mail sandbox: would log every line of SMTP, and addresses in it
    "uvicorn.access": logging.CRITICAL,
    "uvicorn.error": logging.WARNING,
}
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def configure_logs(
    *, service: str, environment: str, region: str, stream: TextIO | None = None, level: int = logging.INFO
) -> None:
    """Send structlog and the standard library's loggers to `stream` (standard output) as JSON lines.

    Changes the process's logging, so only a `__main__` module and tests call it.
    """
    fixed = {"service": service, "environment": environment, "region": region}
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # a module's logger follows what is configured, also when it was used before; a line costs 14 us more
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream if stream is not None else sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _foreign_event], processors=[_Line(fixed), _render]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(least)
    # Temporal's loggers append a dictionary to the text; as a field of the line it can be searched
    for logger in (workflow.logger, activity.logger):
        logger.workflow_info_on_message = logger.activity_info_on_message = False  # type: ignore[union-attr]


def _foreign_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    text = str(event["event"])
    extra = {name: value for name, value in vars(record).items() if name not in _RECORD_FIELDS}
    for name, value in extra.items():
        if not name.startswith("_"):
            event.setdefault(name, value)
    if not _EVENT.fullmatch(text):
        event["event"], event["text"] = "library_logged", text
    return event


class _Line:
    """Arranges the fields of a line: the fixed ones first, then what the event brought, redacted."""

    def __init__(self, fixed: dict[str, str]) -> None:
        self._fixed = fixed

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        level = str(event.pop("level", "info")).lower()
        event.pop("_record", None)
        event.pop("_from_structlog", None)
        error = event.pop("exc_info", None)
        message = event.pop("event")
        line: dict[str, Any] = {
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": _LEVELS.get(level, level.upper()),
            **self._fixed,
            "message": redact(str(message)),
        }
        ids = current_ids()
        if ids is not None:
            line["trace_id"], line["span_id"] = ids
        for name, value in event.items():
            line[name] = REDACTED if names_secret(name) else redact(value)
        if error:
            line["exception"] = describe(sys.exc_info()[1] if error is True else error)
        return line


def describe(error: Any) -> list[dict[str, Any]]:
    """Return an exception and its causes as types and places, outermost first, without their texts.

    Texts of drivers and validators quote rows and input, nullifiers and choices among them; only our own errors'
    details are written to be logged.
    """
    if isinstance(error, tuple):
        error = error[1]
    found: list[dict[str, Any]] = []
    while isinstance(error, BaseException) and len(found) < 8:  # noqa: PLR2004
        frames: list[str] = []
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            frames.append(f"{'/'.join(code.co_filename.split('/')[-2:])}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        entry: dict[str, Any] = {"type": type(error).__qualname__, "frames": frames[-20:]}
        if isinstance(error, DomainError):
            entry["code"], entry["detail"] = str(error.code), redact(error.detail)
        found.append(entry)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def _render(_: WrappedLogger, __: str, event: EventDict) -> str:
    return _encode(event).decode("utf-8")
